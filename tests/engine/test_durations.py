"""`Turnstile.observe_durations`: how long each call of a step or phase takes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_turnstile import (
    Aborted,
    Batch,
    Consumer,
    Limiter,
    LiveRun,
    PhaseTimeouts,
    Processor,
    Producer,
    Retry,
    Scalable,
    Skip,
    Turnstile,
    open_ledger,
    open_turnstile,
    run_phases,
    start_phases,
)

Durations = list[tuple[str, float, str]]


@contextmanager
def durations(turnstile: Turnstile) -> Iterator[Durations]:
    """Give the durations that are reported: of what, in seconds, and how the call ended."""
    told: Durations = []

    def tell(run: LiveRun, part: str, seconds: float, outcome: str) -> None:
        told.append((part, round(seconds, 6), outcome))

    with turnstile.observe_durations(tell):
        yield told


async def sleep(seconds: float) -> float:
    await trio.sleep(seconds)
    return seconds


async def sleep_through(batch: list[float]) -> None:
    await trio.sleep(sum(batch))


async def fail(seconds: float) -> None:
    await trio.sleep(seconds)
    raise ValueError("it failed")


class Operation(Scalable):
    """An operation that prepares in one second, works in two and cleans up in four."""

    def __init__(self, name: str = "a", error: Exception | None = None) -> None:
        self._name = name
        self._error = error

    @property
    def identifiers(self) -> tuple[str, ...]:
        return (self._name,)

    async def prepare(self, channels: object) -> None:
        await trio.sleep(1)

    async def work(self, channels: object) -> None:
        await trio.sleep(2)
        if self._error is not None:
            raise self._error

    async def cleanup(self, channels: object) -> None:
        await trio.sleep(4)


async def test_each_call_of_each_step_is_told(autojump_clock: MockClock) -> None:
    """Each call is reported under the name of its step, even if it runs with the step before."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 1)
        with durations(turnstile) as told:
            steps = Producer([1, 2]) | Processor(sleep, limiter=api) | Consumer(sleep)
            await steps.run()
        assert told == [
            (name, seconds, "completed") for seconds in (1, 2) for name in ("sleep", "sleep-2")
        ]


async def test_a_failure_is_told_for_each_attempt(autojump_clock: MockClock) -> None:
    """An attempt that took too long is a failure; one that was cancelled counts as cancelled."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 1)
        options: Any = {"limiter": api, "on_error": [Retry(1), Skip()]}
        with durations(turnstile) as told:
            await (Producer([3.0]) | Consumer(fail, **options)).run()
            await (Producer([3.0]) | Consumer(sleep, timeout=1, limiter=api, on_error=Skip())).run()
            async with (Producer([3.0]) | Consumer(sleep, limiter=api)).start() as run:
                await trio.sleep(2)
                run.cancel()
        assert told == [
            ("fail", 3, "failed"),
            ("fail", 3, "failed"),
            ("sleep", 1, "failed"),
            ("sleep", 2, "cancelled"),
        ]


async def test_a_batch_is_one_call(autojump_clock: MockClock) -> None:
    """A batch is one call, with one duration."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 1)
        step = Consumer(sleep_through, limiter=api, batch=Batch(2))
        with durations(turnstile) as told:
            await (Producer([1.0, 2.0, 3.0]) | step).run()
        assert told == [("sleep_through", 3, "completed"), ("sleep_through", 3, "completed")]


@pytest.mark.parametrize("timeouts", [PhaseTimeouts(), PhaseTimeouts(prepare=9, work=9)])
async def test_each_phase_is_told(autojump_clock: MockClock, timeouts: PhaseTimeouts) -> None:
    """Each defined phase is reported, clean-up included."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 1)
        with durations(turnstile) as told:
            await run_phases([Operation()], limiter=api, timeouts=timeouts)
        assert told == [
            ("prepare", 1, "completed"),
            ("work", 2, "completed"),
            ("cleanup", 4, "completed"),
        ]


async def test_a_phase_that_takes_too_long_has_failed(autojump_clock: MockClock) -> None:
    """A phase that raises has failed too; one that is cut off is cancelled."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 1)
        with durations(turnstile) as told:
            await run_phases([Operation()], limiter=api, timeouts=PhaseTimeouts(prepare=0.5))
            assert told == [("prepare", 0.5, "failed"), ("cleanup", 4, "completed")]
            told.clear()
            await run_phases([Operation(error=ValueError())], limiter=api)
            assert told[1:] == [("work", 2, "failed"), ("cleanup", 4, "completed")]
            told.clear()
            async with start_phases([Operation()], limiter=api) as run:
                await trio.sleep(2)
                run.cancel()
            assert told[1:] == [("work", 1, "cancelled"), ("cleanup", 4, "completed")]


async def test_phases_with_a_ledger_are_told_too(mock_clock: MockClock, tmp_path: Path) -> None:
    """Phases have the same times and names with a ledger as without one."""
    mock_clock.rate = 1000.0
    async with open_ledger(tmp_path / "run.db") as ledger, open_turnstile() as turnstile:
        api = turnstile.limiter("api", 1)
        with durations(turnstile) as told:
            timeouts = PhaseTimeouts(work=1)
            operations = [Operation("a"), Operation("b")]
            await run_phases(operations, limiter=api, ledger=ledger, timeouts=timeouts)
        assert Counter((part, outcome) for part, _, outcome in told) == {
            ("prepare", "completed"): 2,
            ("work", "failed"): 2,
            ("cleanup", "completed"): 2,
        }


async def test_an_observer_is_told_of_the_runs_that_begin_after_it(
    autojump_clock: MockClock,
) -> None:
    """An observer does not see earlier runs or those of nobody; once closed, it sees none."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 2)
        steps = Producer([1.0, 1.0]) | Consumer(sleep, limiter=api)
        async with steps.start():
            with durations(turnstile) as told:
                await (Producer([1.0]) | Consumer(sleep, limiter=Limiter("static", 1))).run()
        assert told == []
        with durations(turnstile) as told:
            async with steps.start():
                pass
            assert len(told) == 2
            observation = turnstile.observe_durations(lambda *_: told.append(("second", 0, "")))
            async with (Producer([1.0, 1.0]) | Consumer(sleep, limiter=api)).start():
                observation.close()
            assert len(told) == 4


async def test_an_observer_that_raises_does_no_harm(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An observer that raises is logged, and not called again."""
    calls: list[object] = []

    def bad(*figures: object) -> None:
        calls.append(figures)
        raise ValueError("a bug in an observer")

    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 1)
        turnstile.observe_durations(bad)
        report = await (Producer([1.0, 2.0]) | Consumer(sleep, limiter=api)).run()
        assert report.steps[0].completed == 2
    assert len(calls) == 1
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("trio_turnstile.observers", logging.ERROR)


async def test_what_is_no_observer_is_refused() -> None:
    """Any observer is refused once the turnstile was left."""
    async with open_turnstile() as turnstile:
        with pytest.raises(TypeError, match="an observer of durations must be a function, not 1"):
            turnstile.observe_durations(1)  # type: ignore[arg-type]
    with pytest.raises(trio.ClosedResourceError):
        turnstile.observe_durations(print)


async def test_an_abort_is_told_as_a_failure(autojump_clock: MockClock) -> None:
    """The call that led to the abort has failed; the others are cancelled."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 2)
        with durations(turnstile) as told, pytest.raises(Aborted):
            await (Producer([1.0, 2.0]) | Consumer(fail, limiter=api)).run()
        assert told == [("fail", 1, "failed"), ("fail", 1, "cancelled")]
