"""The order of the four phases, and the tokens that they hold."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from testkit.phases import Logged, account
from trio_turnstile import Channels, Scalable, run_phases


async def test_default_phases_do_nothing() -> None:
    """An operation that overrides no phase completes."""
    assert account(await run_phases([Scalable()], limiter=1)) == (1, 1, 0, 0)


async def test_phases_run_in_order_without_a_barrier(autojump_clock: MockClock) -> None:
    """Each operation runs its phases in order, and waits for no other operation."""
    log: list[tuple[int, str, float]] = []
    report = await run_phases((Logged(n, log) for n in range(2)), limiter=2)
    assert account(report) == (2, 2, 0, 0)
    for number in range(2):
        assert [(phase, at) for n, phase, at in log if n == number] == [
            ("prepare", 0),
            ("work", 1),
            ("monitor", 2),
            ("cleanup", 3),
        ]


async def test_token_is_held_through_monitor_and_not_in_cleanup(autojump_clock: MockClock) -> None:
    """The token is released after `monitor`, and clean-up runs without one."""
    log: list[tuple[int, str, float]] = []
    await run_phases((Logged(n, log) for n in range(2)), limiter=1)
    assert [at for n, phase, at in log if (n, phase) == (1, "prepare")] == [3]
    assert trio.current_time() == 7


async def test_preparing_apart_runs_ahead(autojump_clock: MockClock) -> None:
    """With a limiter of its own, `prepare` does not wait for work."""
    log: list[tuple[int, str, float]] = []
    report = await run_phases((Logged(n, log) for n in range(3)), limiter=1, prepare_limiter=3)
    assert account(report) == (3, 3, 0, 0)
    assert [at for _, phase, at in log if phase == "prepare"] == [0, 0, 0]
    assert sorted(at for _, phase, at in log if phase == "work") == [1, 3, 5]


async def test_phases_that_never_await_starve_nobody() -> None:
    """Other tasks run between two operations that never await."""
    turns = 0

    class Busy(Scalable):
        async def work(self, channels: Channels) -> None:
            pass

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await run_phases((Busy() for _ in range(200)), limiter=1)
        nursery.cancel_scope.cancel()
    assert turns >= 200
