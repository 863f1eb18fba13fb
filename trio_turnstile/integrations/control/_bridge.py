"""`Bridge`: lets requests that are served elsewhere call functions in the trio run.

The HTTP server has its own thread and asyncio loop, so that nothing that comes over the network
can affect the work. Everything that it learns and does goes over this bridge: a function runs in
the trio run, in bounded time, and its result goes back. An application that is mounted in a
server on the same trio run needs no bridge; there the function is simply called.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, final

import attrs
import trio

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

TURNS = 4
"""How many functions run in the trio run at once: a client that asks a lot waits, not the work."""

PATIENCE = 5.0
"""How many seconds to wait for the trio run, which may be busy."""


class Gone(Exception):
    """The turnstile has been closed, or its trio run has ended."""


class Busy(Exception):
    """The trio run did not answer in time."""


@final
@attrs.define(eq=False)
class Bridge:
    """Runs functions in the trio run in which it was made."""

    _trio_token: trio.lowlevel.TrioToken = attrs.field(
        factory=trio.lowlevel.current_trio_token, init=False
    )
    _turns: trio.Semaphore = attrs.field(factory=lambda: trio.Semaphore(TURNS), init=False)
    _jobs: set[_Job] = attrs.field(factory=set, init=False)
    _closed: bool = attrs.field(default=False, init=False)

    async def call(self, work: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Run an async function in the trio run, and return its result, or raise its error.

        Raises:
          Gone: if the turnstile has been closed.
          Busy: if the function has not ended after some seconds; it is then cancelled.
        """
        return await self.wait(partial(self._in_turn, work, *arguments), PATIENCE)

    async def call_beside(self, work: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """As `call`, for a function that mostly waits, and so does not count towards `TURNS`."""
        return await self.wait(partial(work, *arguments), PATIENCE)

    async def wait(self, bound: Callable[[], Awaitable[T]], patience: float) -> T:
        """As `call_beside`, with a given number of seconds to wait for the result."""
        if trio.lowlevel.in_trio_run():
            return await self._call_here(bound, patience)
        import asyncio

        loop = asyncio.get_running_loop()
        job = _Job(bound, loop, loop.create_future())
        try:
            self._trio_token.run_sync_soon(self._begin, job)
            async with asyncio.timeout(patience):
                result: T = await job.future
                return result
        except trio.RunFinishedError:
            raise Gone from None
        except TimeoutError:
            raise Busy from None
        finally:
            if not job.settled:  # otherwise it has already ended
                with suppress(trio.RunFinishedError):
                    self._trio_token.run_sync_soon(job.scope.cancel)

    def close(self) -> None:
        """Answer all requests that are under way, and all later ones, with `Gone`."""
        self._closed = True
        by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
        for job in tuple(self._jobs):
            by_loop.setdefault(job.loop, []).append(job)
            job.scope.cancel()
        for loop, jobs in by_loop.items():
            _fail_all(loop, jobs)

    # ---- in the trio run ----

    async def _in_turn(self, work: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        async with self._turns:
            return await work(*arguments)

    async def _call_here(self, bound: Callable[[], Awaitable[T]], patience: float) -> T:
        if trio.lowlevel.current_trio_token() is not self._trio_token:
            raise RuntimeError("the turnstile is in another trio run than the application")
        if self._closed:
            raise Gone
        with trio.move_on_after(patience):
            return await bound()
        raise Busy

    def _begin(self, job: _Job) -> None:
        if self._closed:
            job.fail(Gone())
            return
        # A separate task, which belongs to the run and not to a nursery: so nothing that a
        # request causes can cancel anything else.
        self._jobs.add(job)
        trio.lowlevel.spawn_system_task(self._run, job)

    async def _run(self, job: _Job) -> None:
        try:
            with job.scope:
                job.succeed(await job.work())
        except Exception as error:
            job.fail(error)
        finally:
            self._jobs.discard(job)
            job.fail(Gone())  # this has an effect only if it was cancelled


@final
@attrs.define(eq=False)
class _Job:
    """A function to run in the trio run, and the future for its result."""

    work: Callable[[], Awaitable[Any]]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    settled: bool = attrs.field(default=False, init=False)
    """Whether there is a result or an error; set in the trio run."""

    def succeed(self, result: object) -> None:
        self._settle(self.future.set_result, result)

    def fail(self, error: Exception) -> None:
        self._settle(self.future.set_exception, error)

    def _settle(self, how: Callable[[Any], None], result: object) -> None:
        def settle() -> None:
            if not self.future.done():
                how(result)

        if self.settled:
            return
        self.settled = True
        with suppress(RuntimeError):  # if the loop is closed, nobody waits any more
            self.loop.call_soon_threadsafe(settle)


def _fail_all(loop: asyncio.AbstractEventLoop, jobs: list[_Job]) -> None:
    """Fail all jobs of a loop with `Gone`, waking the loop only once."""
    for job in jobs:
        job.settled = True

    def settle() -> None:
        for job in jobs:
            if not job.future.done():
                job.future.set_exception(Gone())

    with suppress(RuntimeError):  # if the loop is closed, nobody waits any more
        loop.call_soon_threadsafe(settle)
