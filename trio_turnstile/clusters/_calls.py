"""Calls of the controller: how commands are run, how many at once, and how often."""

from __future__ import annotations

import math
import os
from collections.abc import Awaitable, Callable
from subprocess import PIPE
from typing import Final, TypeAlias, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile import RateLimiter
from trio_turnstile._util import open_plain_nursery, unprotected

from ._engine import Command, Reply

Run: TypeAlias = Callable[[Command], Awaitable[Reply]]
"""A function that runs a command, here or elsewhere."""

_TIMEOUT: Final = 30.0
"""Seconds to wait for an answer. Some commands wait two minutes for a controller that hangs."""

_AT_A_TIME: Final = 8
"""How many calls may run at once; more are hardly faster."""

NOT_MADE: Final = Reply(-1, err="nobody waits for it any more")
"""Returned instead of a reply if the call was not made."""


_STARTING: Final[trio.lowlevel.RunVar[trio.Lock]] = trio.lowlevel.RunVar("starting")
"""Held while a process is started.

Until the new process runs its program, Python runs nothing else in this process. On a busy machine
that takes many milliseconds. With one start at a time, the event loop can run in between.
"""


@enable_ki_protection
async def run_command(command: Command) -> Reply:
    """Run a command on this machine, in its own session.

    So a Ctrl-C at the terminal does not end it, and the answer to a submission is not lost.

    Returns:
      Its reply, with exit status 127 if it cannot be started.
    """
    out, err = bytearray(), bytearray()
    try:
        async with open_plain_nursery() as nursery:
            async with _starting():
                process: trio.Process = await nursery.start(_run_process, command)
            nursery.start_soon(_read, process.stdout, out)
            nursery.start_soon(_read, process.stderr, err)
    except OSError as error:
        await trio.lowlevel.checkpoint()
        return Reply(127, err=str(error))
    assert process.returncode is not None
    return Reply(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))


def _starting() -> trio.Lock:
    try:
        return _STARTING.get()
    except LookupError:
        _STARTING.set(trio.Lock())
        return _STARTING.get()


async def _run_process(command: Command, task_status: trio.TaskStatus[trio.Process]) -> None:
    await trio.run_process(
        command.arguments,
        stdin=command.stdin.encode(errors="surrogateescape"),
        stdout=PIPE,
        stderr=PIPE,
        check=False,
        env={**os.environ, **command.environment},
        start_new_session=True,
        task_status=task_status,
    )


async def _read(stream: trio.abc.ReceiveStream | None, into: bytearray) -> None:
    assert stream is not None
    async with stream:
        async for chunk in stream:
            into += chunk


@final
@attrs.define(eq=False)
class Calls:
    """Runs commands for a cluster, within its budget of calls."""

    _run: Run
    _budget: RateLimiter
    _slots: trio.CapacityLimiter = attrs.field(
        init=False, factory=lambda: trio.CapacityLimiter(_AT_A_TIME)
    )
    _turn: trio.StrictFIFOLock = attrs.field(init=False, factory=trio.StrictFIFOLock)
    made: int = attrs.field(init=False, default=0)
    """How many calls of the controller have been made."""

    async def submit(self, command: Command, wanted: Callable[[], bool]) -> Reply | None:
        """Call the controller, after all submissions that came before.

        Returns:
          The reply; ``None`` if there was none in time; `NOT_MADE` if the call is no longer wanted.
        """
        async with self._slots:
            # Only one submission at a time waits for the budget, so a poll waits for at most one.
            async with self._turn:
                if not wanted():
                    return NOT_MADE
                await self._budget.acquire()
            return await self._call(command)

    async def ask(self, command: Command) -> Reply | None:
        """Call the controller, after at most one submission.

        Returns:
          The reply; ``None`` if there was none in time.
        """
        await self._budget.acquire()
        return await self._call(command)

    @enable_ki_protection
    async def read(self, command: Command) -> Reply | None:
        """Run a command that does not call the controller."""
        with trio.move_on_after(_TIMEOUT):
            return await unprotected(self._run, command)
        return None

    async def _call(self, command: Command) -> Reply | None:
        self.made += 1
        return await self.read(command)


def unlimited() -> RateLimiter:
    """Return a budget without a limit."""
    return RateLimiter(math.inf)
