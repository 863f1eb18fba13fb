"""`serve_in_thread`: uvicorn in a thread with its own event loop, which trio can stop at once."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ._give_way import GiveWay

if TYPE_CHECKING:
    import asyncio

    from ._guard import ASGIApp, Gate

FAREWELL_SECONDS = 0.01
"""How long streams may take to say that it is over."""

ENDING_SECONDS = 0.03
"""How long we wait for the thread to end; it ends in any case."""

_LOG = logging.getLogger("trio_turnstile.control")


@final
@attrs.frozen
class Listener:
    """A listening socket, and a function that makes its application."""

    socket: socket.socket
    make_app: Callable[[], ASGIApp]
    """Called in the thread, because its imports take a while."""


@enable_ki_protection
async def serve_in_thread(listeners: Sequence[Listener], close: Callable[[], None]) -> None:
    """Serve until cancelled; errors in the thread are logged there.

    Args:
      listeners: where to serve. Their sockets are closed at the end.
      close: called first at the end, and from then on the trio run is not called any more.
    """
    thread = _ServerThread(listeners, trio.lowlevel.current_trio_token())
    give_way = GiveWay()
    trio.lowlevel.add_instrument(give_way)
    try:
        # With its own limiter: a program whose worker threads are all busy can still be controlled.
        await trio.to_thread.run_sync(
            thread.run, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1)
        )
    finally:
        trio.lowlevel.remove_instrument(give_way)
        thread.begin_nothing()
        close()
        thread.stop()
        with trio.move_on_after(ENDING_SECONDS, shield=True):
            await thread.ended.wait()


@final
@attrs.define(eq=False)
class _ServerThread:
    _listeners: Sequence[Listener]
    _trio_token: trio.lowlevel.TrioToken
    ended: trio.Event = attrs.field(factory=trio.Event, init=False)
    _stopping: bool = attrs.field(default=False, init=False)
    _gates: list[Gate] = attrs.field(factory=list, init=False)
    _running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = attrs.field(
        default=None, init=False
    )

    # ---- in the trio run ----

    def begin_nothing(self) -> None:
        """Answer the requests under way, and no more."""
        for gate in self._gates:
            gate.closing = True

    def stop(self) -> None:
        """End the thread soon; may be called at any time."""
        self._stopping = True
        if self._running is not None:
            loop, task = self._running
            with suppress(RuntimeError):  # the loop is already closed
                loop.call_soon_threadsafe(task.cancel)

    # ---- in the thread ----

    def run(self) -> None:
        try:
            import asyncio

            from ._guard import Gate

            self._gates = [Gate(listener.make_app()) for listener in self._listeners]
            with suppress(asyncio.CancelledError):
                asyncio.run(self._serve(self._gates), debug=False)
        except BaseException:
            _LOG.exception("the control API has ended; the work goes on")
        finally:
            for listener in self._listeners:
                listener.socket.close()
            with suppress(trio.RunFinishedError):
                self._trio_token.run_sync_soon(self.ended.set)

    async def _serve(self, gates: Sequence[Gate]) -> None:
        import asyncio

        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        loop.set_exception_handler(_log_quietly)
        self._running = loop, task
        if self._stopping:  # `stop` was called before there was a task to cancel
            return
        try:
            async with asyncio.TaskGroup() as group:
                for gate, listener in zip(gates, self._listeners, strict=True):
                    group.create_task(_serve_gate(gate, listener.socket))
        finally:
            await asyncio.sleep(FAREWELL_SECONDS)
            for gate in gates:
                gate.abort_all()


async def _serve_gate(gate: Gate, listener: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(
        gate.app,
        http=gate.protocol,  # type: ignore[arg-type]  # it is called, and nothing else
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # who is trusted follows from the listener
        timeout_keep_alive=10,
        h11_max_incomplete_event_size=16 * 1024,
    )
    await uvicorn.Server(config).serve(sockets=[listener])


def _log_quietly(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    _LOG.debug("%s", context["message"], exc_info=context.get("exception"))
