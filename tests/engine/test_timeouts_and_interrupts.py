"""Ctrl-C at any point of a call that has a timeout."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from testkit.interrupts import Event, struck_everywhere
from trio_turnstile import (
    Breaker,
    Channels,
    Consumer,
    Limiter,
    PhaseTimeouts,
    Producer,
    Scalable,
    open_turnstile,
    run_phases,
)

MODULES = {"_phases/calling.py", "_pipelines/step_run.py", "_engine/breaker.py"}


class Operation(Scalable):
    """An operation that works for a moment."""

    async def work(self, channels: Channels) -> None:
        await trio.lowlevel.checkpoint()


async def phases(limiter: Limiter) -> None:
    timeouts = PhaseTimeouts(work=10)
    await run_phases([Operation(), Operation()], limiter=limiter, timeouts=timeouts)


async def handled(item: int) -> None:
    await trio.lowlevel.checkpoint()


async def steps(limiter: Limiter) -> None:
    await (Producer(range(2)) | Consumer(handled, limiter=limiter, timeout=10)).run()


async def is_there() -> bool:
    await trio.lowlevel.checkpoint()
    return True


async def check(limiter: Limiter) -> None:
    breaker = Breaker(on=OSError, window=1)
    async with open_turnstile() as turnstile:
        turnstile.watch(breaker.check(is_there, every=0.001))
        service = turnstile.limiter("service", 1, breaker=breaker)
        with pytest.raises(OSError, match="out"):
            async with service:
                raise OSError("out")
        async with service:
            pass


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("event", ["line", "opcode"])
@pytest.mark.parametrize("run", [phases, steps, check])
def test_an_interrupt_leaves_no_cancel_scope_open(
    run: Callable[[Limiter], Awaitable[None]], event: Event
) -> None:
    """Ctrl-C comes out as it is, and the tokens are back."""
    runs = struck_everywhere(
        run, lambda: Limiter("tokens", 2), event=event, modules=MODULES, stride=1
    )
    for limiter in runs:
        assert limiter.available_tokens == 2
