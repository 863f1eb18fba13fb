"""The metered service as an HTTP server on the loopback interface, and a client for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qsl, urlsplit

import trio

from ._metered import Call, Service

SPEED = 30
"""How many seconds of the service pass in one second of the clock."""


async def serve(service: Service, task_status: trio.TaskStatus[int]) -> None:
    """Serve until cancelled; the task status gives the port."""

    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            while (request := await _read_head(stream)) is not None:
                query = dict(parse_qsl(urlsplit(request.split()[1]).query))
                call = Call(int(query["prompt"]), int(query["response"]))
                status, headers = await _answer(service, call)
                lines = [f"HTTP/1.1 {status}", *map(": ".join, headers.items()), "", ""]
                await stream.send_all("\r\n".join(lines).encode())

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handle, [listener])
        task_status.started(listener.socket.getsockname()[1])


async def _answer(service: Service, call: Call) -> tuple[str, Mapping[str, str]]:
    wait = service.admit(call, trio.current_time() * SPEED)
    if wait:
        status = "429 Too Many Requests"
    else:
        status = "200 OK"
        await trio.sleep(call.seconds / SPEED)
        service.finish(call, trio.current_time() * SPEED)
    return status, {"Content-Length": "0", **service.headers(wait / SPEED)}


async def _read_head(stream: trio.SocketStream) -> str | None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        received = await stream.receive_some()
        if not received:
            return None
        head += received
    return head.decode()


class Client:
    """Makes requests over connections that are used again, one request at a time on each."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle = list[trio.SocketStream]()

    async def ask(self, call: Call) -> tuple[float, dict[str, str]]:
        """Return the seconds after which to try again, 0 if it went well, and the headers."""
        stream = (
            self._idle.pop() if self._idle else await trio.open_tcp_stream("127.0.0.1", self._port)
        )
        target = f"/?prompt={call.prompt}&response={call.response}"
        await stream.send_all(f"GET {target} HTTP/1.1\r\nHost: loopback\r\n\r\n".encode())
        head = await _read_head(stream)
        assert head is not None
        self._idle.append(stream)
        status, *lines = head.rstrip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return (0.0 if " 200 " in status else float(headers["retry-after-ms"]) / 1000), headers


Use = Callable[[Client], Awaitable[int]]


async def over_http(service: Service, use: Use) -> int:
    """Serve, and run ``use`` with a client of the server meanwhile."""
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve, service)
        result = await use(Client(port))
        nursery.cancel_scope.cancel()
    return result
