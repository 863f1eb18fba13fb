"""Servers on the loopback interface."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio


@attrs.frozen
class Reply:
    """An HTTP response; the body is sent as JSON."""

    body: object = None
    status: int = 200
    headers: tuple[str, ...] = ()

    def encode(self) -> bytes:
        body = json.dumps(self.body)
        head = [f"HTTP/1.1 {self.status} -", *self.headers, f"Content-Length: {len(body)}"]
        return "\r\n".join([*head, "", body]).encode()


Answer = Callable[[str], Awaitable[Reply]]


async def serve(answer: Answer, stream: trio.SocketStream) -> None:
    """Answer GET requests one by one, until the client hangs up."""
    received = b""
    async for data in stream:
        received += data
        while b"\r\n\r\n" in received:
            request, _, received = received.partition(b"\r\n\r\n")
            path = request.split()[1].decode()
            await stream.send_all((await answer(path)).encode())


@asynccontextmanager
async def tcp_server(serve: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[int]:
    """Listen on the loopback interface, and yield the port."""
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def http_server(answer: Answer) -> AsyncIterator[str]:
    """Answer requests for paths on the loopback interface, and yield the URL."""
    async with tcp_server(partial(serve, answer)) as port:
        yield f"http://127.0.0.1:{port}"
