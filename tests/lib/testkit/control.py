"""A control API that is served for a test, and clients that do not use trio."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from trio_turnstile import Throttle, Turnstile, open_turnstile
from trio_turnstile.integrations.control import Served, serve_control

TOKEN = "sesame"


@attrs.frozen
class Answer:
    """The answer that a client got."""

    status: int
    body: Any
    headers: dict[str, str]


class _Connection(http.client.HTTPConnection):
    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        super().__init__("localhost")
        self._connect = connect

    def connect(self) -> None:
        self.sock = self._connect()


@attrs.frozen
class Client:
    """Sends requests to a control API, at its Unix socket or at its port."""

    served: Served
    at_port: bool = False
    token: str | None = None

    def connect(self) -> socket.socket:
        if self.at_port:
            assert self.served.port is not None
            return socket.create_connection(("127.0.0.1", self.served.port), 10)
        connected = socket.socket(socket.AF_UNIX)
        connected.settimeout(10)
        connected.connect(str(self.served.path))
        return connected

    async def ask(
        self, method: str, path: str, body: object = None, **headers: str | None
    ) -> Answer:
        return await trio.to_thread.run_sync(partial(self.ask_sync, method, path, body, **headers))

    def ask_sync(
        self, method: str, path: str, body: object = None, **headers: str | None
    ) -> Answer:
        """Send a request; ``None`` omits a header, ``sec_fetch_site`` means ``Sec-Fetch-Site``."""
        sent: dict[str, str | None] = {"host": "localhost"}
        if self.token is not None:
            sent["authorization"] = f"Bearer {self.token}"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        if body is not None:
            sent["content-length"] = str(len(data))
        connection = _Connection(self.connect)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(data if body is not None else None)
            response = connection.getresponse()
            text = response.read()
            found = {name.lower(): value for name, value in response.getheaders()}
            is_json = found.get("content-type", "") == "application/json"
            return Answer(response.status, json.loads(text) if is_json else text, found)
        finally:
            connection.close()

    async def get(self, path: str, **headers: str | None) -> Any:
        """Return the answer to a GET request that should succeed."""
        answer = await self.ask("GET", f"/api/v1{path}", **headers)
        assert answer.status == 200, answer
        return answer.body

    async def post(self, path: str, body: object = None, *, method: str = "POST") -> Any:
        """Return the answer to a request for a change that should succeed."""
        answer = await self.ask(method, f"/api/v1{path}", body)
        assert answer.status == 200, answer
        return answer.body

    async def raw(self, data: bytes, *, wait: float = 5.0) -> bytes:
        """Send bytes, and return everything that the server answers until it hangs up."""
        return await trio.to_thread.run_sync(partial(self.raw_sync, data, wait))

    def raw_sync(self, data: bytes, wait: float = 5.0) -> bytes:
        answered = b""
        with self.connect() as connected:
            connected.settimeout(wait)
            with suppress(OSError):
                connected.sendall(data)
            try:
                while received := connected.recv(65536):
                    answered += received
            except (TimeoutError, ConnectionError):
                pass
        return answered


@attrs.frozen
class Program:
    """A turnstile with two limiters, and its control API."""

    turnstile: Turnstile
    served: Served
    nursery: trio.Nursery

    @property
    def owner(self) -> Client:
        return Client(self.served)

    @property
    def operator(self) -> Client:
        """A client at the port, with the token."""
        return Client(self.served, at_port=True, token=TOKEN)

    @property
    def stranger(self) -> Client:
        """A client at the port, without the token."""
        return Client(self.served, at_port=True)

    @property
    def limits(self) -> dict[str, float]:
        return {name: each.total_tokens for name, each in self.turnstile.limiters.items()}


@asynccontextmanager
async def program(folder: Path, **options: Any) -> AsyncIterator[Program]:
    """Run a program whose control API is served."""
    async with open_turnstile(name="demo", sample_every=0.05) as turnstile:
        turnstile.limiter("work", 10, throttle=Throttle(hold=0))
        turnstile.limiter("db", 5)
        options = {"path": folder / "s.sock", **options}
        async with trio.open_nursery() as nursery:
            served = await nursery.start(partial(serve_control, turnstile, **options))
            yield Program(turnstile, served, nursery)
            nursery.cancel_scope.cancel()
