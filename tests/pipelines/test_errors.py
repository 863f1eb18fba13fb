"""What the error policies do in a pipeline."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from testkit.pipelines import account, books
from trio_turnstile import (
    DISCARD,
    Abort,
    Aborted,
    ConcurrentError,
    Consumer,
    DeadLetter,
    Halt,
    Log,
    Processor,
    Producer,
    Retry,
    RetryBudget,
    Skip,
    Verdict,
)
from trio_turnstile.testing import no_backoff


class Fails:
    """A step that fails several times for each item, after some seconds; it records its calls."""

    def __init__(self, times: int = 99, error: Exception | None = None, seconds: float = 0) -> None:
        self.times = times
        self.error = error or OSError("bad")
        self.seconds = seconds
        self.calls = Counter[Any]()
        self.at: list[float] = []

    async def __call__(self, item: Any) -> Any:
        self.at.append(trio.current_time())
        self.calls[item] += 1
        await trio.sleep(self.seconds)
        if self.calls[item] <= self.times:
            raise self.error
        return item


async def fail_even(number: int) -> int:
    await trio.lowlevel.checkpoint()
    if number % 2 == 0:
        raise OSError(number)
    return number


# ---- Retry ----


@pytest.mark.parametrize("fused", [False, True])
async def test_retry_tries_again_after_the_back_off(autojump_clock: MockClock, fused: bool) -> None:
    """`Retry(3)` makes three more attempts, each after its back-off."""
    step = Fails(times=3)
    policies = [Retry(3, backoff=lambda failures: failures)]
    report = await (
        Producer([1])
        | Processor(Fails(times=0), limiter=1, name="before")
        | Consumer(step, limiter=None if fused else 1, on_error=policies)
    ).run()
    assert (books(report).completed, books(report).retried) == (1, 3)
    assert step.at == [0, 1, 3, 6]
    assert report.errors == ()


@pytest.mark.parametrize("fused", [False, True])
async def test_after_the_last_retry_the_next_policy_decides(
    autojump_clock: MockClock, fused: bool
) -> None:
    """When an item has used up its retries, the next policy decides."""
    step = Fails()
    policies = [Retry(2, backoff=lambda failures: 1), Skip()]
    report = await (
        Producer([1])
        | Processor(Fails(times=0), limiter=1, name="before")
        | Consumer(step, limiter=None if fused else 1, on_error=policies)
    ).run()
    assert (books(report).failed, books(report).retried) == (1, 2)
    (error,) = report.errors
    assert (error.item, error.phase, error.attempt) == (1, "Fails", 3)
    assert error.__cause__ is step.error


async def test_a_server_may_say_when_to_try_again(autojump_clock: MockClock) -> None:
    """A retry waits for the error's ``retry_after``, if that is longer than the back-off."""

    class Busy(Exception):
        def __init__(self, retry_after: float | None) -> None:
            self.retry_after = retry_after

    for asked, waited in ((60, 60), (0.5, 1), (None, 1)):
        step = Fails(times=1, error=Busy(asked))
        began = trio.current_time()
        await (
            Producer([1]) | Consumer(step, on_error=[Retry(1, backoff=lambda failures: 1)])
        ).run()
        assert trio.current_time() - began == waited


async def test_a_budget_spares_the_tries_in_an_outage(autojump_clock: MockClock) -> None:
    """A retry budget paces retries while nothing succeeds."""
    attempts: list[float] = []

    async def out_until_20(number: int) -> None:
        attempts.append(trio.current_time())
        await trio.sleep(0.01)
        if trio.current_time() < 20:
            raise OSError("down")

    budget = RetryBudget(retries=5, per_success=1, per_second=1)
    policies = [Retry(26, backoff=lambda failures: 0.1, budget=budget)]
    report = await (
        Producer(range(30)) | Consumer(out_until_20, limiter=30, on_error=policies)
    ).run()
    assert books(report, 0).completed == 30
    assert sum(at < 20 for at in attempts) <= 30 + 5 + 20
    assert trio.current_time() < 30


async def test_a_budget_is_each_stage_s_own(autojump_clock: MockClock) -> None:
    """Each step has its own retry budget, even if two are given the same one."""
    budget = RetryBudget(retries=1, per_success=0.1, per_second=0.1)
    policies = [Retry(1, backoff=lambda failures: 0, budget=budget)]
    report = await (
        Producer([1])
        | Processor(Fails(times=1), on_error=policies)
        | Consumer(Fails(times=1), limiter=1, on_error=policies)
    ).run()
    assert books(report).completed == 1
    assert trio.current_time() == 0


async def test_no_backoff_turns_the_waiting_off(autojump_clock: MockClock) -> None:
    """Inside `no_backoff`, retries follow at once."""
    pipeline = Producer([1]) | Consumer(
        Fails(times=2), on_error=[Retry(2, backoff=lambda failures: 5)]
    )
    with no_backoff():
        assert books(await pipeline.run()).retried == 2
    assert trio.current_time() == 0
    again = Producer([2]) | Consumer(
        Fails(times=1), on_error=[Retry(2, backoff=lambda failures: 5)]
    )
    await again.run()
    assert trio.current_time() == 5


async def test_timeouts_are_errors_like_others(autojump_clock: MockClock) -> None:
    """An attempt that exceeds its timeout fails, and can be retried."""
    step = Fails(times=0, seconds=5)
    for limiter in (1, None):
        report = await (
            Producer([1])
            | Processor(Fails(times=0), name="before")
            | Consumer(
                step,
                limiter=limiter,
                timeout=2,
                on_error=[Retry(1, on=trio.TooSlowError, backoff=lambda n: 1), Skip()],
            )
        ).run()
        assert (books(report).failed, books(report).retried) == (1, 1)
        assert isinstance(report.errors[0].__cause__, trio.TooSlowError)
    assert trio.current_time() == 10


# ---- Skip, Log, Abort and silence ----


@pytest.mark.parametrize("fused", [False, True])
async def test_skip_goes_on_without_the_item(fused: bool) -> None:
    """`Skip` records the item as failed, and the rest go on."""
    report = await (
        Producer(range(6))
        | Processor(Fails(times=0), limiter=2, name="before")
        | Consumer(fail_even, limiter=None if fused else 2, on_error=[Skip(on=OSError)])
    ).run()
    assert (books(report).completed, books(report).failed) == (3, 3)
    assert {error.item for error in report.errors} == {0, 2, 4}


async def test_log_logs_and_leaves_the_verdict_to_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`Log` logs the errors it matches, and leaves the decision to the next policy."""
    caplog.set_level(logging.INFO, logger="trio_turnstile.errors")
    policies = [Log(logging.INFO, on=OSError), Log(on=ValueError), Skip()]
    report = await (Producer(range(4)) | Consumer(fail_even, limiter=1, on_error=policies)).run()
    assert books(report, 0).failed == 2
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.INFO, "attempt 1: fail_even of item 0 failed: OSError(0)"),
        (logging.INFO, "attempt 1: fail_even of item 2 failed: OSError(2)"),
    ]


@pytest.mark.parametrize("policies", [[], [Abort()], [Skip(on=ValueError)], [Log(on=ValueError)]])
async def test_abort_and_silence_stop_everything(
    autojump_clock: MockClock, policies: list[Any]
) -> None:
    """The run is aborted by `Abort`, and by an error that no policy decides about."""
    step = Fails(seconds=1)
    with pytest.raises(Aborted) as caught:
        await (
            Producer(range(9)) | Processor(step, limiter=1, on_error=policies) | Consumer(fail_even)
        ).run()
    (error,) = caught.value.exceptions
    assert error.__cause__ is step.error
    report = caught.value.report
    assert (books(report, 0).completed, books(report, 0).failed) == (0, 1)
    assert trio.current_time() == 1


async def test_the_first_verdict_holds(autojump_clock: MockClock) -> None:
    """The first policy with a verdict decides, and later policies are not asked."""
    asked: list[str] = []

    class Ask:
        def __init__(self, name: str, verdict: Verdict | None) -> None:
            self.name = name
            self.verdict = verdict

        def decide(self, error: ConcurrentError) -> Verdict | None:
            asked.append(self.name)
            return self.verdict

    policies = [Ask("a", None), Ask("b", Skip().decide(ConcurrentError(""))), Ask("c", None)]
    report = await (Producer([1]) | Consumer(Fails(), on_error=policies)).run()
    assert books(report, 0).failed == 1
    assert asked == ["a", "b"]


async def test_a_policy_that_fails_aborts_with_a_note() -> None:
    """If a policy raises, the run is aborted with the item's own error and a note."""

    class Broken:
        def decide(self, error: ConcurrentError) -> Verdict | None:
            raise RuntimeError("bug")

    with pytest.raises(Aborted) as caught:
        await (Producer([1]) | Consumer(Fails(), on_error=[Broken()])).run()
    (error,) = caught.value.exceptions
    assert isinstance(error, ConcurrentError)
    assert error.notes == ("the error policies could not decide: RuntimeError('bug')",)


async def test_groups_are_matched_by_their_leaves() -> None:
    """``on=`` matches an exception group by its leaves."""

    async def fail(number: int) -> None:
        await trio.lowlevel.checkpoint()
        if number == 1:
            raise ExceptionGroup("", [OSError(), ExceptionGroup("", [OSError()])])
        raise ExceptionGroup("", [OSError(), ValueError()])

    policies = [Skip(on=OSError), Halt("soon", fail=9, on=(OSError, ValueError))]
    report = await (Producer([1, 2]) | Consumer(fail, on_error=policies)).run()
    assert books(report, 0).failed == 2
    only = [Skip(on=OSError)]
    with pytest.raises(Aborted) as caught:
        await (Producer([1, 2]) | Consumer(fail, limiter=1, on_error=only)).run()
    assert [error.item for error in caught.value.exceptions] == [2]


# ---- Halt ----


async def test_halt_soon_lets_what_is_in_hand_finish(autojump_clock: MockClock) -> None:
    """`Halt("soon")` stops the source, and lets items in flight finish."""
    step = Fails(seconds=1)
    with pytest.raises(Aborted) as caught:
        await (
            Producer(range(99))
            | Processor(Fails(times=0, seconds=1), limiter=2, name="before")
            | Consumer(step, limiter=2, on_error=[Halt("soon", fail=3)])
        ).run()
    report = caught.value.report
    assert books(report, 0).cancelled == books(report).cancelled == 0
    assert books(report).failed == books(report).received == books(report, 0).completed
    assert 3 <= books(report).failed < 12


async def test_halt_now_cancels_what_is_in_hand(autojump_clock: MockClock) -> None:
    """`Halt("now")` with a share cancels items in flight, after three failures at the least."""

    async def mostly(number: int) -> Any:
        await trio.sleep(1)
        if number % 10 == 9:
            raise OSError
        return DISCARD if number % 2 else number

    with pytest.raises(Aborted):
        await (
            Producer(range(99)) | Consumer(mostly, limiter=1, on_error=[Halt("now", fail="10%")])
        ).run()
    assert trio.current_time() == 30
    await (
        Producer(range(99)) | Consumer(mostly, limiter=1, on_error=[Halt("now", fail="11%")])
    ).run()


# ---- dead letters ----


@pytest.mark.parametrize("fused", [False, True])
async def test_dead_letters_feed_another_pipeline(fused: bool) -> None:
    """A dead letter carries its item and cause, and its channel can be a source."""
    letters, dead = trio.open_memory_channel[ConcurrentError](0)
    redone: list[Any] = []

    async def redo(letter: ConcurrentError) -> None:
        await trio.lowlevel.checkpoint()
        redone.append((letter.item, letter.phase, letter.attempt, repr(letter.__cause__)))

    policies = [Retry(1, backoff=lambda failures: 0), DeadLetter(letters, on=OSError)]
    async with trio.open_nursery() as nursery:
        redrive = await nursery.start((Producer(dead) | Consumer(redo)).run)
        with letters:
            report = await (
                Producer(range(6))
                | Processor(Fails(times=0), limiter=3, name="before")
                | Consumer(fail_even, limiter=None if fused else 2, on_error=policies)
            ).run()
    assert (books(report).completed, books(report).diverted) == (3, 3)
    assert report.errors == ()
    assert books(redrive, 0).completed == 3
    assert sorted(redone) == [(n, "fail_even", 2, f"OSError({n})") for n in (0, 2, 4)]


async def test_sending_a_letter_holds_no_token(autojump_clock: MockClock) -> None:
    """A step that waits to send a dead letter holds no token."""
    letters, _dead = trio.open_memory_channel[ConcurrentError](0)
    async with trio.open_nursery() as nursery:
        run = await nursery.start(
            (
                Producer(range(6)) | Consumer(fail_even, limiter=1, on_error=[DeadLetter(letters)])
            ).run
        )
        await trio.sleep(1)
        assert (books(run, 0).completed, books(run, 0).in_flight) == (3, 3)
        run.cancel()
    assert books(run, 0).cancelled == 3


@pytest.mark.parametrize("closed", [0, 1], ids=["send", "receive"])
async def test_letters_that_nobody_can_receive_stop_the_run(closed: int) -> None:
    """If a dead letter cannot be sent, its item fails and the run is aborted."""
    ends = trio.open_memory_channel[ConcurrentError](1)
    ends[closed].close()
    with pytest.raises(Aborted) as caught:
        await (Producer([2]) | Consumer(fail_even, on_error=[DeadLetter(ends[0])])).run()
    (error,) = caught.value.exceptions
    assert isinstance(error, ConcurrentError)
    assert error.notes[0].startswith("its dead letter could not be sent:")
    assert books(caught.value.report, 0).failed == 1


async def test_backoff_holds_no_token(autojump_clock: MockClock) -> None:
    """40 items that fail twice, with 1 s of back-off and 5 tokens, take 3 s, not 18."""
    failures = Counter[int]()

    async def flaky(number: int) -> None:
        await trio.sleep(0.1)
        failures[number] += 1
        if failures[number] <= 2:
            raise OSError("not yet")

    policies = [Retry(2, backoff=lambda n: 1)]
    report = await (Producer(range(40)) | Consumer(flaky, limiter=5, on_error=policies)).run()
    assert account(report)["flaky"] == (40, 40, 0, 0, 0, 0)
    assert report["flaky"].retried == 80
    assert trio.current_time() <= 3.1
