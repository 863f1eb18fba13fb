"""Calls of the controller: how a command is run, how many at a time, and how often."""

from __future__ import annotations

import math
import os
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, final

import attrs
import trio

from trio_turnstile import RateLimiter

from ._engine import Command, Reply

Run: TypeAlias = Callable[[Command], Awaitable[Reply]]
"""What runs a command: here, or elsewhere."""

_TIMEOUT: Final = 30.0
"""Seconds for an answer. Some commands wait for two minutes for a controller that hangs."""

_AT_A_TIME: Final = 8
"""More at a time are hardly faster, and they delay the event loop."""


async def run_command(command: Command) -> Reply:
    """Run a command on this machine, in a session of its own.

    So a Ctrl-C at the terminal does not end it, and the answer to a submission is not lost.

    Returns:
      What it printed, with exit status 127 if it cannot be started.
    """
    try:
        process = await trio.run_process(
            command.arguments,
            stdin=command.stdin.encode(errors="surrogateescape"),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={**os.environ, **command.environment},
            start_new_session=True,
        )
    except OSError as error:
        await trio.lowlevel.checkpoint()
        return Reply(127, err=str(error))
    out, err = (text.decode(errors="replace") for text in (process.stdout, process.stderr))
    return Reply(process.returncode, out, err)


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

    async def submit(self, command: Command) -> Reply | None:
        """Call the controller, after all submissions that came before."""
        async with self._slots:
            # One submission at a time waits for the budget. So a poll waits for no more than one.
            async with self._turn:
                await self._budget.acquire()
            return await self._call(command)

    async def ask(self, command: Command) -> Reply | None:
        """Call the controller, with one submission at most before it.

        Returns:
          The reply; ``None`` if there was none in time.
        """
        await self._budget.acquire()
        return await self._call(command)

    async def read(self, command: Command) -> Reply | None:
        """Run a command that does not call the controller."""
        with trio.move_on_after(_TIMEOUT):
            return await self._run(command)
        return None

    async def _call(self, command: Command) -> Reply | None:
        self.made += 1
        return await self.read(command)


def unlimited() -> RateLimiter:
    """Return a budget without a limit."""
    return RateLimiter(math.inf)
