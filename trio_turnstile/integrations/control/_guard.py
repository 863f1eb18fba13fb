"""`Gate` and `GuardedConnection`: set limits where uvicorn has none.

uvicorn survives whatever is sent to it. But it waits for ever for a request that does not come,
for a body that does not end and for a client that does not read, and it accepts any number of
connections, which are file descriptors of the program that is controlled. So a gate counts the
connections of one listener and checks who is at the other end, and a connection is aborted when
its client is late.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias, TypeVar, cast, final

import attrs
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
T = TypeVar("T")

ASGIApp: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

CONNECTIONS = 100
"""How many clients of one listener are served at once; further ones are turned away."""

REQUEST_SECONDS = 10.0
"""How long a client may take to send the head of a request, once it may send one."""

BODY_SECONDS = 10.0
"""How long it may take to send each part of the body that the application asks for."""

SEND_SECONDS = 5.0
"""How long it may take to read data, when the buffers are full."""

_LOG = logging.getLogger("trio_turnstile.control")

# uvicorn's log messages about requests are of no use to the operator of a pipeline, and clients
# must not be able to fill a terminal with them.
_SILENT = logging.Logger("silent", logging.CRITICAL + 1)


@final
@attrs.define(eq=False)
class Gate:
    """Admits clients to the application of one listener, at most `CONNECTIONS` at once."""

    app: ASGIApp
    closing: bool = attrs.field(default=False, init=False)
    """Whether no more requests are answered; the trio run sets it, in another thread."""
    _inside: set[GuardedConnection] = attrs.field(factory=set, init=False)

    def protocol(self, **arguments: Any) -> GuardedConnection:
        """Make the protocol of a connection, for uvicorn."""
        return GuardedConnection(self, **arguments)

    def lets_in(self, connection: GuardedConnection, end: socket.socket) -> bool:
        """Admit a client, if there is room and it is one of ours."""
        if len(self._inside) >= CONNECTIONS or not _is_ours(end):
            return False
        self._inside.add(connection)
        return True

    def forget(self, connection: GuardedConnection) -> None:
        """Make room for another client."""
        self._inside.discard(connection)

    def abort_all(self) -> None:
        """Abort all connections."""
        for connection in tuple(self._inside):
            connection.abort()


@final
class GuardedConnection(asyncio.Protocol):
    """A connection on which uvicorn speaks HTTP, for as long as the client keeps up."""

    def __init__(
        self,
        gate: Gate,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._gate = gate
        self._http = H11Protocol(config, server_state, app_state, _loop)
        self._http.app = self._serve
        self._http.logger = _SILENT
        self._transport: asyncio.Transport | None = None
        self._admitted = False
        self._in_hand = 0
        self._timer: asyncio.TimerHandle | None = None

    # ---- for asyncio ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._admitted = self._gate.lets_in(self, transport.get_extra_info("socket"))
        if not self._admitted:
            self.abort()
            return
        self._http.connection_made(self._transport)
        self._wait_for_request()

    def data_received(self, data: bytes) -> None:
        try:
            self._http.data_received(data)
        except Exception as error:
            _LOG.debug("a client sent something that cannot be answered: %r", error)
            self.abort()

    def eof_received(self) -> None:
        self._http.eof_received()

    def pause_writing(self) -> None:
        self._http.pause_writing()

    def resume_writing(self) -> None:
        self._http.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._admitted:
            return
        self._stop_waiting()
        self._gate.forget(self)
        self._http.connection_lost(exc)

    # ---- for the gate ----

    def abort(self) -> None:
        """Close the connection now, even if there is more to send."""
        assert self._transport is not None
        self._transport.abort()

    # ---- inside ----

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the application for one request; for uvicorn, this is the application."""
        # A client may have sent many requests at once. Answering them all at the end would take
        # time from the work, which is about to end.
        if self._gate.closing:
            self.abort()
            return
        self._in_hand += 1
        self._stop_waiting()
        exchange = _Exchange(receive, send, self.abort)
        try:
            await self._gate.app(scope, exchange.receive, exchange.send)
        except Exception:
            if not exchange.late:
                _LOG.exception("no answer to %s %s", scope["method"], scope["path"])
            self.abort()
        finally:
            self._in_hand -= 1
            if not self._in_hand:
                self._wait_for_request()

    def _wait_for_request(self) -> None:
        self._stop_waiting()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(REQUEST_SECONDS, self.abort)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


@final
@attrs.define(eq=False)
class _Exchange:
    """A request and its answer, which an application reads and writes in bounded time."""

    _receive: Receive
    _send: Send
    _abort: Callable[[], None]
    late: bool = attrs.field(default=False, init=False)
    """Whether the client was too slow."""
    _complete: bool = attrs.field(default=False, init=False)

    async def receive(self) -> Message:
        if self._complete:  # now the client can only disconnect, at any time
            return await self._receive()
        message = await self._within(BODY_SECONDS, self._receive())
        self._complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        await self._within(SEND_SECONDS, self._send(message))

    async def _within(self, seconds: float, waiting: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(seconds):
                return await waiting
        except TimeoutError:
            self.late = True
            self._abort()  # at once, because the application may still try to send something
            raise


def _is_ours(end: socket.socket) -> bool:
    """Whether this user or root has connected to a Unix socket."""
    if end.family != socket.AF_UNIX or not hasattr(socket, "SO_PEERCRED"):
        return True
    credentials = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    return user in (0, os.geteuid())
