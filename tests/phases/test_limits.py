"""`run_phases`: operations in four phases, many at a time."""

from __future__ import annotations

import math
import signal
from collections.abc import AsyncIterator, Iterable, Iterator
from functools import partial
from typing import Any

import attrs
import pytest
import trio
import trio.lowlevel
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_turnstile import (
    Abort,
    Aborted,
    Channels,
    ConcurrentError,
    Halt,
    Limiter,
    Manager,
    PhaseTimeouts,
    Report,
    Retry,
    Scalable,
    Skip,
    Throttle,
    Verdict,
    open_turnstile,
    run_phases,
)
from trio_turnstile.testing import assert_conserved


class Logged(Scalable):
    """Writes down its phases; each phase takes a second."""

    def __init__(self, number: int, log: list[tuple[int, str, float]]) -> None:
        self.number = number
        self.log = log

    @property
    def identifiers(self) -> tuple[str, ...]:
        return (f"op {self.number}",)

    async def _note(self, phase: str) -> None:
        self.log.append((self.number, phase, trio.current_time()))
        await trio.sleep(1)

    async def prepare(self, channels: Channels) -> None:
        await self._note("prepare")

    async def work(self, channels: Channels) -> None:
        await self._note("work")

    async def monitor(self, channels: Channels) -> None:
        await self._note("monitor")

    async def cleanup(self, channels: Channels) -> None:
        await self._note("cleanup")


class Sleeps(Scalable):
    """Works for some seconds, and then fails with an error, if it is given one."""

    def __init__(self, seconds: float = 1, error: BaseException | None = None) -> None:
        self.seconds = seconds
        self.error = error
        self.cleaned = 0

    async def work(self, channels: Channels) -> None:
        await trio.sleep(self.seconds)
        if self.error is not None:
            raise self.error


class Works(Sleeps):
    """The same, and has something to clean up."""

    async def cleanup(self, channels: Channels) -> None:
        await trio.lowlevel.checkpoint()
        self.cleaned += 1


def account(report: Report | Manager) -> tuple[int, int, int, int]:
    assert_conserved(report)
    return report.received, report.completed, report.failed, report.cancelled


async def test_phases_run_in_order_without_a_barrier(autojump_clock: MockClock) -> None:
    """Each operation goes through its own phases, and no one waits for another."""
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
    """The next operation starts when the one before is monitored, beside its clean-up."""
    log: list[tuple[int, str, float]] = []
    await run_phases((Logged(n, log) for n in range(2)), limiter=1)
    assert [at for n, phase, at in log if (n, phase) == (1, "prepare")] == [3]
    assert trio.current_time() == 7


async def test_preparing_apart_runs_ahead(autojump_clock: MockClock) -> None:
    """With tokens of its own, preparing does not wait for work."""
    log: list[tuple[int, str, float]] = []
    report = await run_phases((Logged(n, log) for n in range(3)), limiter=1, prepare_limiter=3)
    assert account(report) == (3, 3, 0, 0)
    assert [at for _, phase, at in log if phase == "prepare"] == [0, 0, 0]
    assert sorted(at for _, phase, at in log if phase == "work") == [1, 3, 5]


@pytest.mark.parametrize("make", [int, trio.CapacityLimiter, partial(Limiter, "ops")])
async def test_any_limiter_bounds_the_run(autojump_clock: MockClock, make: Any) -> None:
    """An int, trio's limiter and ours bound a run in the same way."""
    report = await run_phases((Works() for _ in range(10)), limiter=make(2))
    assert account(report) == (10, 10, 0, 0)
    assert trio.current_time() == 5


async def test_default_phases_do_nothing() -> None:
    """A bare `Scalable` completes."""
    assert account(await run_phases([Scalable()], limiter=1)) == (1, 1, 0, 0)


async def numbers(count: int, *, seconds: float = 0) -> AsyncIterator[Scalable]:
    for _ in range(count):
        await trio.sleep(seconds)
        yield Works()


async def test_async_iterables_are_read_one_ahead(autojump_clock: MockClock) -> None:
    """An async source is read while the work goes on, so neither waits for the other."""
    report = await run_phases(numbers(5, seconds=1), limiter=1)
    assert account(report) == (5, 5, 0, 0)
    assert trio.current_time() == 6


async def test_memory_channels_are_read_and_left_open(autojump_clock: MockClock) -> None:
    """A channel is read until its senders are closed; what is left stays its owner's."""
    send, receive = trio.open_memory_channel[Scalable](0)

    async def sender() -> None:
        with send:
            for _ in range(6):
                await trio.sleep(0.5)
                await send.send(Works())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender)
        report = await run_phases(receive, limiter=2)
    assert account(report) == (6, 6, 0, 0)
    assert trio.current_time() == 4
    with pytest.raises(trio.EndOfChannel):
        receive.receive_nowait()


async def test_operations_are_read_lazily(autojump_clock: MockClock) -> None:
    """No more is taken from the source than there is room for."""
    taken = 0

    def source() -> Iterator[Scalable]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield Works(seconds=10)

    with trio.move_on_after(5):
        await run_phases(source(), limiter=4)
    assert taken <= 5


async def test_window_bounds_what_is_in_hand(autojump_clock: MockClock) -> None:
    """Operations that back off count in the window, and so hold the source back."""
    received = 0

    async def watch(manager: Manager) -> None:
        nonlocal received
        await trio.sleep(5)
        received = manager.received

    async with trio.open_nursery() as nursery:
        manager = await nursery.start(
            partial(
                run_phases,
                (Works(0, OSError()) for _ in range(100)),
                limiter=2,
                window=7,
                on_error=[Retry(1, backoff=lambda n: 10), Skip()],
            )
        )
        await watch(manager)
    assert received == 7
    assert account(manager) == (100, 0, 100, 0)


class Flaky(Scalable):
    """Fails twice, then completes."""

    def __init__(self) -> None:
        self.attempts: list[str] = []

    async def prepare(self, channels: Channels) -> None:
        self.attempts.append("prepare")

    async def work(self, channels: Channels) -> None:
        self.attempts.append("work")
        if len(self.attempts) < 6:
            raise OSError("not yet")

    async def cleanup(self, channels: Channels) -> None:
        self.attempts.append("cleanup")


async def test_retry_starts_again_at_prepare_and_cleans_up_once() -> None:
    """A retry is a whole new attempt; the clean-up comes after the last."""
    operation = Flaky()
    report = await run_phases([operation], limiter=1, on_error=[Retry(2, backoff=lambda n: 0)])
    assert account(report) == (1, 1, 0, 0)
    assert report.retried == 2
    assert operation.attempts == ["prepare", "work"] * 3 + ["cleanup"]
    assert report.errors == ()


async def test_backoff_holds_no_token(autojump_clock: MockClock) -> None:
    """40 operations that fail twice, with 1 s back-off and 5 tokens, take 2 s, not 16."""
    report = await run_phases(
        (Flaky() for _ in range(40)), limiter=5, on_error=[Retry(2, backoff=lambda n: 1)]
    )
    assert account(report) == (40, 40, 0, 0)
    assert trio.current_time() == 2


async def test_failed_operations_are_recorded_and_the_rest_go_on(
    autojump_clock: MockClock,
) -> None:
    """By default a failure stops nobody else, and the error tells all about it."""
    cause = OSError("disk full")
    log: list[tuple[int, str, float]] = []

    class Fails(Logged):
        async def monitor(self, channels: Channels) -> None:
            raise cause

    operation = Fails(7, log)
    report = await run_phases([Works(), operation, Works()], limiter=1)
    assert account(report) == (3, 2, 1, 0)
    (error,) = report.errors
    assert error.__cause__ is cause
    assert (error.item, error.phase, error.attempt) == (operation, "monitor", 1)
    assert error.identifiers == ("op 7",)
    assert str(error) == "monitor of op 7 failed: OSError('disk full')"
    assert [phase for _, phase, _ in log] == ["prepare", "work", "cleanup"]


async def test_own_concurrent_error_is_kept_and_completed() -> None:
    """A `ConcurrentError` that a phase raises is recorded as it is, with the gaps filled."""
    mine = ConcurrentError("mine", identifiers=["s7"])
    operation = Works(0, mine)
    report = await run_phases([operation], limiter=1)
    assert report.errors == (mine,)
    assert (mine.item, mine.phase, mine.identifiers) == (operation, "work", ("s7",))


async def test_identifiers_that_raise_do_no_harm() -> None:
    """An operation whose identifiers fail is recorded without them."""

    class Nameless(Works):
        @property
        def identifiers(self) -> tuple[str, ...]:
            raise RuntimeError("no name")

    report = await run_phases([Nameless(0, OSError())], limiter=1)
    assert report.errors[0].identifiers == ()


async def test_exception_groups_are_matched_by_their_leaves() -> None:
    """A phase with a nursery of its own raises groups, and ``on=`` looks inside."""
    operations = [
        Works(0, ExceptionGroup("two", [OSError(), OSError()])),
        Works(0, ExceptionGroup("mixed", [OSError(), ValueError()])),
    ]
    report = await run_phases(
        operations, limiter=1, on_error=[Retry(1, on=OSError, backoff=lambda n: 0), Skip()]
    )
    assert account(report) == (2, 0, 2, 0)
    assert report.retried == 1


async def test_abort_cancels_the_rest_and_raises_the_error(autojump_clock: MockClock) -> None:
    """The run ends at the first error, and what was in hand is counted and cleaned up."""
    operations = [Works(5), Works(1, ValueError("bad")), Works(5), Works(5)]
    with pytest.raises(Aborted) as caught:
        await run_phases(operations, limiter=3, on_error=[Abort()])
    assert trio.current_time() == 1
    assert [type(error.__cause__) for error in caught.value.exceptions] == [ValueError]
    report = caught.value.report
    assert account(report) == (3, 0, 1, 2)
    assert set(report.cut_off) == {operations[0], operations[2]}
    assert [operation.cleaned for operation in operations] == [1, 1, 1, 0]


async def test_silence_of_the_policies_aborts(autojump_clock: MockClock) -> None:
    """An error that no policy is for ends the run."""
    with pytest.raises(Aborted):
        await run_phases([Works(0, ValueError())], limiter=1, on_error=[Skip(on=OSError)])


async def test_errors_of_the_same_moment_are_all_raised(autojump_clock: MockClock) -> None:
    """Two operations that fail together come out together, and nothing else does."""
    operations = [Works(1, ValueError("a")), Works(1, ValueError("b")), Works(9)]
    with pytest.raises(Aborted) as caught:
        await run_phases(operations, limiter=3, on_error=[Abort()])
    assert {str(error.__cause__) for error in caught.value.exceptions} <= {"a", "b"}
    assert_conserved(caught.value.report)


async def test_policies_that_fail_stop_the_run() -> None:
    """An error in a policy loses neither the item nor the error it was asked about."""

    class Broken:
        def decide(self, error: ConcurrentError, /) -> Verdict | None:
            raise RuntimeError("broken policy")

    with pytest.raises(Aborted) as caught:
        await run_phases([Works(0, OSError("x"))], limiter=1, on_error=[Broken()])
    (error,) = caught.value.exceptions
    assert isinstance(error, ConcurrentError)
    assert isinstance(error.__cause__, OSError)
    assert error.notes == ("the error policies could not decide: RuntimeError('broken policy')",)
    assert account(caught.value.report) == (1, 0, 1, 0)


async def test_halt_soon_finishes_what_is_in_flight(autojump_clock: MockClock) -> None:
    """Past the tolerance nothing more is started, and what runs completes."""
    operations = [Sleeps(1, OSError()), Sleeps(1.5, OSError()), Sleeps(10), Sleeps(), Sleeps()]
    with pytest.raises(Aborted) as caught:
        await run_phases(operations, limiter=3, on_error=[Halt("soon", fail=2)])
    assert account(caught.value.report) == (4, 2, 2, 0)
    assert len(caught.value.report.errors) == 2
    assert trio.current_time() == 10


async def test_halt_now_cancels_what_is_in_flight(autojump_clock: MockClock) -> None:
    """With ``now``, what runs past the tolerance is cancelled."""
    operations = [*(Works(1, OSError()) for _ in range(3)), Works(10)]
    with pytest.raises(Aborted) as caught:
        await run_phases(operations, limiter=4, on_error=[Halt("now", fail="50%")])
    assert account(caught.value.report) == (4, 0, 3, 1)
    assert trio.current_time() == 1


async def test_timeouts_are_errors_like_others(autojump_clock: MockClock) -> None:
    """A phase that takes too long fails with `trio.TooSlowError`, and may be retried."""
    log: list[tuple[int, str, float]] = []
    timeouts = PhaseTimeouts(prepare=2, work=0.5, monitor=2)
    report = await run_phases([Logged(1, log)], limiter=1, timeouts=timeouts)
    assert account(report) == (1, 0, 1, 0)
    assert report.errors[0].phase == "work"
    assert isinstance(report.errors[0].__cause__, trio.TooSlowError)
    assert [phase for _, phase, _ in log] == ["prepare", "work", "cleanup"]


async def test_cancellation_counts_and_cleans_up_what_is_in_hand(
    autojump_clock: MockClock,
) -> None:
    """Cancelled from outside, the run accounts for all, and clean-ups run to their end."""
    operations = [Logged(n, []) for n in range(5)]
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            manager = await nursery.start(partial(run_phases, operations, limiter=2))
            await trio.sleep(1.5)
            scope.cancel()
    assert scope.cancelled_caught
    assert account(manager) == (2, 0, 0, 2)
    assert [len(operation.log) for operation in operations] == [3, 3, 0, 0, 0]
    assert trio.current_time() == 2.5


async def test_cancelled_while_waiting_for_a_token_needs_no_cleanup(
    autojump_clock: MockClock,
) -> None:
    """An operation that never began to prepare is cancelled without clean-up."""
    operation = Works()
    limiter = trio.CapacityLimiter(1)
    await limiter.acquire()

    async def source() -> AsyncIterator[Scalable]:
        await trio.lowlevel.checkpoint()
        yield operation

    with trio.move_on_after(1):
        async with trio.open_nursery() as nursery:
            manager = await nursery.start(partial(run_phases, source(), limiter=limiter))
    assert account(manager) == (1, 0, 0, 1)
    assert operation.cleaned == 0


async def test_cancelled_while_backing_off_cleans_up(autojump_clock: MockClock) -> None:
    """An operation that is cancelled between two attempts is cleaned up and counted."""
    operation = Works(0, OSError())
    with trio.move_on_after(1):
        async with trio.open_nursery() as nursery:
            policies = [Retry(1, backoff=lambda n: 9)]
            manager = await nursery.start(
                partial(run_phases, [operation], limiter=1, on_error=policies)
            )
    assert account(manager) == (1, 0, 0, 1)
    assert operation.cleaned == 1


def test_ctrl_c_comes_out_bare_and_the_books_balance() -> None:
    """A real SIGINT raises KeyboardInterrupt itself, after all clean-ups."""
    managers: list[Manager] = []
    operations = [Works(math.inf), Works(math.inf)]

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            run = partial(run_phases, operations, limiter=2)
            managers.append(await nursery.start(run))
            await wait_all_tasks_blocked()
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main)
    assert caught.value.subgroup(KeyboardInterrupt) is not None
    assert account(managers[0]) == (2, 0, 0, 2)
    assert [operation.cleaned for operation in operations] == [1, 1]


def test_ctrl_c_inside_a_phase_comes_out_bare() -> None:
    """KeyboardInterrupt that strikes in a phase is not hidden in a group."""

    class Interrupted(Works):
        async def work(self, channels: Channels) -> None:
            signal.raise_signal(signal.SIGINT)

    operation = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        trio.run(partial(run_phases, [operation], limiter=1))
    assert operation.cleaned == 1


async def test_other_base_exceptions_come_out_in_their_group() -> None:
    """What is no Exception and no interrupt is passed on in a group."""

    class Odd(BaseException):
        pass

    with pytest.raises(BaseExceptionGroup) as caught:
        await run_phases([Works(0, Odd())], limiter=1)
    assert caught.value.subgroup(Odd) is not None


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_failing_source_ends_the_run_when_work_is_done(
    autojump_clock: MockClock, kind: str
) -> None:
    """What was taken before the source failed is finished; then the error is raised."""

    def source() -> Iterator[Scalable]:
        yield Works()
        yield Works()
        raise OSError("no more pages")

    async def async_source() -> AsyncIterator[Scalable]:
        for operation in source():
            yield operation

    with pytest.raises(Aborted) as caught:
        await run_phases(source() if kind == "sync" else async_source(), limiter=3)
    (error,) = caught.value.exceptions
    assert isinstance(error, ConcurrentError)
    assert isinstance(error.__cause__, OSError)
    assert error.phase == "source"
    assert account(caught.value.report) == (2, 2, 0, 0)


async def test_source_that_cannot_give_at_once_is_told_so() -> None:
    """A plain iterator that raises `trio.WouldBlock` fails with a clear error."""

    def source() -> Iterator[Scalable]:
        yield from map(refuse, [1])

    def refuse(_: int) -> Scalable:
        raise trio.WouldBlock

    with pytest.raises(Aborted) as caught:
        await run_phases(source(), limiter=1)
    assert "it must give an item or end" in str(caught.value.exceptions[0])


async def test_async_source_is_closed_when_the_run_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    """The clean-up code of an async generator runs in the task that read it."""
    closed = False

    async def source() -> AsyncIterator[Scalable]:
        nonlocal closed
        try:
            async with trio.open_nursery():
                while True:
                    await trio.sleep(1)
                    yield Works()
        finally:
            closed = True

    with trio.move_on_after(3.5):
        await run_phases(source(), limiter=1)
    assert closed


async def test_plain_async_iterators_need_no_aclose() -> None:
    """An async iterator that is no generator is read as well."""

    class Three:
        left = 3

        def __aiter__(self) -> Three:
            return self

        async def __anext__(self) -> Scalable:
            await trio.lowlevel.checkpoint()
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return Scalable()

    assert account(await run_phases(Three(), limiter=2)) == (3, 3, 0, 0)


async def test_what_is_no_operation_stops_the_run() -> None:
    """An item of a wrong kind is named in a clear error."""
    wrong: Any = [Works(0), "sample.txt"]
    with pytest.raises(Aborted) as caught:
        await run_phases(wrong, limiter=1)
    assert "must be a Scalable, not 'sample.txt'" in str(caught.value.exceptions[0])
    assert account(caught.value.report) == (2, 1, 1, 0)


class HangsInCleanup(Works):
    async def cleanup(self, channels: Channels) -> None:
        self.cleaned += 1
        await trio.sleep_forever()


async def test_cleanup_that_overruns_its_grace_is_cut_off(autojump_clock: MockClock) -> None:
    """A clean-up is cancelled after its grace, and its operation counts as failed."""
    operations = [HangsInCleanup(), Works(), Works(), Works()]
    report = await run_phases(operations, limiter=1, cleanup_grace=2.5)
    assert account(report) == (4, 3, 1, 0)
    (error,) = report.errors
    assert error.phase == "cleanup"
    assert isinstance(error.__cause__, trio.TooSlowError)
    assert "more than its 2.5 seconds" in str(error)
    assert trio.current_time() == 4


async def test_cleanup_grace_holds_under_cancellation(autojump_clock: MockClock) -> None:
    """Cancelled from outside, a hanging clean-up delays the end by its grace at most."""
    operations = [HangsInCleanup(9), HangsInCleanup(9), Works(9)]
    with trio.move_on_after(1):
        async with trio.open_nursery() as nursery:
            manager = await nursery.start(
                partial(run_phases, operations, limiter=3, cleanup_grace=5)
            )
    assert account(manager) == (3, 0, 0, 3)
    assert trio.current_time() == 6
    assert [operation.cleaned for operation in operations] == [1, 1, 1]
    assert len(manager.errors) == 2


async def test_cleanup_ending_with_its_grace_harms_no_other_operation(
    autojump_clock: MockClock,
) -> None:
    """A clean-up that ends in the very moment of its grace leaves nobody cancelled."""

    class Slow(Works):
        async def cleanup(self, channels: Channels) -> None:
            await trio.sleep(2)

    report = await run_phases([Slow() for _ in range(20)], limiter=1, cleanup_grace=2)
    assert report.cancelled == 0
    assert_conserved(report)


async def test_cleanup_that_cannot_be_cut_off_costs_its_worker_only(
    autojump_clock: MockClock,
) -> None:
    """If it shields itself and ends late, it fails its operation, and the rest go on."""

    class Stubborn(Sleeps):
        async def cleanup(self, channels: Channels) -> None:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)

    report = await run_phases([Stubborn(), Sleeps(), Sleeps()], limiter=1, cleanup_grace=1)
    assert account(report) == (3, 2, 1, 0)
    assert report.errors[0].phase == "cleanup"


async def test_failing_cleanup_fails_the_operation() -> None:
    """An error in clean-up is recorded, is not retried, and can abort."""

    class FailsInCleanup(Works):
        async def cleanup(self, channels: Channels) -> None:
            self.cleaned += 1
            raise OSError("busy")

    operation = FailsInCleanup(0)
    report = await run_phases([operation], limiter=1, on_error=[Retry(5), Skip()])
    assert account(report) == (1, 0, 1, 0)
    assert operation.cleaned == 1
    assert report.errors[0].phase == "cleanup"
    with pytest.raises(Aborted):
        await run_phases([FailsInCleanup(0)], limiter=1, on_error=[Abort()])


async def test_retry_verdict_on_cleanup_is_taken_as_failure() -> None:
    """A policy that asks for a retry of a clean-up gets none, and nothing is lost."""

    class Stubborn:
        def decide(self, error: ConcurrentError, /) -> Verdict | None:
            from trio_turnstile import RetryIn

            return RetryIn(0)

    class FailsInCleanup(Works):
        async def cleanup(self, channels: Channels) -> None:
            self.cleaned += 1
            raise OSError("busy")

    operation = FailsInCleanup(0)
    report = await run_phases([operation], limiter=1, on_error=[Stubborn()])
    assert account(report) == (1, 0, 1, 0)
    assert len(report.errors) == 1
    assert operation.cleaned == 1


async def test_both_the_work_and_the_cleanup_may_fail() -> None:
    """Both errors are recorded, and the operation is counted once."""

    class FailsTwice(Works):
        async def cleanup(self, channels: Channels) -> None:
            raise KeyError("second")

    report = await run_phases([FailsTwice(0, OSError("first"))], limiter=1)
    assert account(report) == (1, 0, 1, 0)
    assert [error.phase for error in report.errors] == ["work", "cleanup"]


async def test_raised_limit_is_used_at_once(autojump_clock: MockClock) -> None:
    """When the limit is raised, more start in that moment, and not when a task ends."""
    limiter = Limiter("ops", 2)
    starts: list[float] = []

    class Starts(Scalable):
        async def work(self, channels: Channels) -> None:
            starts.append(trio.current_time())
            await trio.sleep(10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(run_phases, (Starts() for _ in range(6)), limiter=limiter))
        await trio.sleep(3)
        limiter.total_tokens = 5
    assert starts == [0, 0, 3, 3, 3, 10]


async def test_lowered_limit_lets_holders_finish(autojump_clock: MockClock) -> None:
    """After the limit is lowered nobody starts until fewer run than it allows."""
    limiter = trio.CapacityLimiter(4)
    starts: list[float] = []

    class Starts(Scalable):
        async def work(self, channels: Channels) -> None:
            starts.append(trio.current_time())
            await trio.sleep(len(starts))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(run_phases, (Starts() for _ in range(6)), limiter=limiter))
        await trio.sleep(0.5)
        limiter.total_tokens = 1
    assert starts == [0, 0, 0, 0, 4, 9]


async def test_retuned_to_zero_and_back_loses_nothing(autojump_clock: MockClock) -> None:
    """A run whose limit is 0 for a while stands still, and then completes."""
    limiter = Limiter("ops", 3)
    async with trio.open_nursery() as nursery:
        manager = await nursery.start(
            partial(run_phases, (Works() for _ in range(12)), limiter=limiter)
        )
        await trio.sleep(1.5)
        limiter.total_tokens = 0
        await trio.sleep(10)
        assert manager.completed == 6
        assert_conserved(manager)
        limiter.total_tokens = 3
    assert account(manager) == (12, 12, 0, 0)
    assert trio.current_time() == 13.5


async def test_zero_limit_takes_nothing(autojump_clock: MockClock) -> None:
    """A run that starts with no tokens waits for them, and can be drained."""
    async with trio.open_nursery() as nursery:
        manager = await nursery.start(partial(run_phases, [Works()], limiter=0))
        await trio.sleep(5)
        assert manager.received == 0
        manager.drain()
    assert account(manager) == (0, 0, 0, 0)


async def test_token_given_back_by_a_stranger_is_used_at_once(autojump_clock: MockClock) -> None:
    """A limiter may be shared: tokens that others give back start operations."""
    limiter = trio.CapacityLimiter(3)
    await limiter.acquire_on_behalf_of("stranger 1")
    await limiter.acquire_on_behalf_of("stranger 2")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(run_phases, (Works(10) for _ in range(3)), limiter=limiter))
        await trio.sleep(2)
        limiter.release_on_behalf_of("stranger 1")
        limiter.release_on_behalf_of("stranger 2")
    assert trio.current_time() == 12


async def test_strangers_get_their_turn(autojump_clock: MockClock) -> None:
    """A run does not keep a shared limiter to itself, however fast its operations are."""
    limiter = Limiter("shared", 1)
    async with trio.open_nursery() as nursery:
        manager = await nursery.start(
            partial(run_phases, (Works(0) for _ in range(1000)), limiter=limiter)
        )
        async with limiter:
            assert manager.completed < 100
    assert account(manager) == (1000, 1000, 0, 0)


async def test_phases_that_never_await_starve_nobody() -> None:
    """Other tasks run between two operations, even if these never let go."""
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


async def test_infinite_limit_runs_all_at_once(autojump_clock: MockClock) -> None:
    """With no limit, everything there is starts."""
    report = await run_phases((Works() for _ in range(300)), limiter=Limiter("all", math.inf))
    assert account(report) == (300, 300, 0, 0)
    assert trio.current_time() == 1


async def aborted_by_closing(
    limiter: Limiter, seconds: float, operations: Iterable[Works], **options: Any
) -> Aborted:
    """Close the limiter of a run after some seconds; return the error it is aborted with."""

    async def close() -> None:
        await trio.sleep(seconds)
        limiter.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close)
        with pytest.raises(Aborted) as caught:
            await run_phases(operations, limiter=limiter, **options)
    for error in caught.value.exceptions:
        assert isinstance(error.__cause__, trio.ClosedResourceError)
    return caught.value


async def test_closed_limiter_stops_the_run(autojump_clock: MockClock) -> None:
    """If the limiter is closed, the run is aborted with an error that says so."""
    aborted = await aborted_by_closing(Limiter("ops", 2), 0.5, (Works() for _ in range(9)))
    assert_conserved(aborted.report)


async def test_a_limiter_closed_before_a_retry_stops_the_run(autojump_clock: MockClock) -> None:
    """An operation that backs off meanwhile finds no token any more: the run is aborted."""
    aborted = await aborted_by_closing(
        Limiter("ops", 1),
        5,
        [Works(0, OSError())],
        on_error=[Retry(1, backoff=lambda n: 10), Skip()],
    )
    assert len(aborted.exceptions) == 1
    assert account(aborted.report) == (1, 0, 0, 1)


async def test_max_waiting_does_not_shed_operations(autojump_clock: MockClock) -> None:
    """A run waits for its tokens however many callers may wait: its source is held back."""
    limiter = Limiter("ops", 1, max_waiting=0)
    report = await run_phases(numbers(4), limiter=limiter)
    assert account(report) == (4, 4, 0, 0)


async def test_drain_finishes_what_is_in_hand(autojump_clock: MockClock) -> None:
    """After `drain` nothing more is taken, and what was taken completes."""
    operations = (Sleeps() for _ in range(99))
    async with trio.open_nursery() as nursery:
        manager = await nursery.start(partial(run_phases, operations, limiter=3))
        await trio.sleep(1.5)
        manager.drain()
    assert account(manager) == (6, 6, 0, 0)
    assert trio.current_time() == 2


async def test_drain_deadline_cancels_what_is_still_in_hand(autojump_clock: MockClock) -> None:
    """Past the deadline the rest is cancelled, and the run returns its account."""
    reports: list[Report] = []
    managers: list[Manager] = []

    async def run(task_status: trio.TaskStatus[Manager]) -> None:
        operations = [Sleeps(1), Sleeps(60), Sleeps(60), Sleeps(60)]
        reports.append(await run_phases(operations, limiter=2, task_status=task_status))

    async with trio.open_nursery() as nursery:
        managers.append(await nursery.start(run))
        await trio.sleep(2)
        managers[0].drain(deadline=trio.current_time() + 10)
        managers[0].drain(deadline=trio.current_time() + 99)
    assert account(reports[0]) == (3, 1, 0, 2)
    assert len(reports[0].cut_off) == 2
    assert trio.current_time() == 12


async def test_drain_stops_an_async_source(autojump_clock: MockClock) -> None:
    """A source that is being waited for is cancelled, and what it gave is finished."""
    async with trio.open_nursery() as nursery:
        manager = await nursery.start(partial(run_phases, numbers(99, seconds=0.4), limiter=1))
        await trio.sleep(1)
        manager.drain()
    assert manager.received == manager.completed >= 2
    assert_conserved(manager)


async def test_drain_leaves_a_channel_to_its_owner(autojump_clock: MockClock) -> None:
    """A drained run stops waiting for a channel, and leaves what is in it."""
    send, receive = trio.open_memory_channel[Scalable](9)
    send.send_nowait(Works())
    async with trio.open_nursery() as nursery:
        manager = await nursery.start(partial(run_phases, receive, limiter=2))
        await trio.sleep(2)
        manager.drain()
        await wait_all_tasks_blocked()
        send.send_nowait(Works())
    assert account(manager) == (1, 1, 0, 0)
    assert receive.statistics().current_buffer_used == 1


async def test_phases_may_report_errors_that_fail_nothing() -> None:
    """An error sent on the channel is in the report, and the operation completes."""

    class Notes(Scalable):
        async def work(self, channels: Channels) -> None:
            await channels.errors.send(ConcurrentError("slow disk", identifiers=["s7"]))

    report = await run_phases([Notes()], limiter=1)
    assert account(report) == (1, 1, 0, 0)
    assert [str(error) for error in report.errors] == ["slow disk"]


async def test_counting_by_phases() -> None:
    """With ``counting="phases"``, the counts are the sums of what phases send."""

    class Counts(Scalable):
        async def work(self, channels: Channels) -> None:
            await channels.working.send(1)
            await trio.lowlevel.checkpoint()
            await channels.completed.send(5)
            await channels.failed.send(2)
            await channels.working.send(-1)

    report = await run_phases([Counts(), Counts()], limiter=1, counting="phases")
    assert (report.received, report.completed, report.failed, report.working) == (2, 10, 4, 0)
    report = await run_phases([Counts(), Counts()], limiter=1)
    assert account(report) == (2, 2, 0, 0)


async def test_reports_of_phases_arrive_while_the_run_goes_on(autojump_clock: MockClock) -> None:
    """The manager shows what phases sent at once."""

    class Counts(Scalable):
        async def work(self, channels: Channels) -> None:
            await channels.working.send(1)
            await channels.errors.send(ConcurrentError("note"))
            await trio.sleep(5)

    async with trio.open_nursery() as nursery:
        manager = await nursery.start(partial(run_phases, [Counts()], limiter=1, counting="phases"))
        await trio.sleep(1)
        assert manager.working == 1
        assert len(manager.errors) == 1


async def test_errors_kept_are_bounded() -> None:
    """The first ``max_errors`` errors are kept, and the rest are counted."""
    report = await run_phases((Works(0, OSError(n)) for n in range(7)), limiter=1, max_errors=3)
    assert account(report) == (7, 0, 7, 0)
    assert [error.__cause__.args for error in report.errors if error.__cause__] == [
        (0,),
        (1,),
        (2,),
    ]
    assert report.errors_omitted == 4


async def test_manager_shows_the_run_live(autojump_clock: MockClock) -> None:
    """Counts, limiter and report are there while the run goes on."""
    limiter = Limiter("ops", 2)
    operations = [Works(1), Works(2, OSError()), Works(9), Works(9)]
    async with trio.open_nursery() as nursery:
        manager = await nursery.start(
            partial(
                run_phases,
                operations,
                limiter=limiter,
                on_error=[Retry(1, backoff=lambda n: 3), Skip()],
            )
        )
        await trio.sleep(2.5)
        assert manager.limiter is limiter
        assert (manager.received, manager.working, manager.completed) == (4, 3, 1)
        assert manager.retried == 1
        assert manager.report().working == 3
        assert_conserved(manager)


async def test_signals_retune_a_run(autojump_clock: MockClock) -> None:
    """A run under a turnstile's limiter follows signals."""
    async with open_turnstile() as turnstile:
        limiter = turnstile.limiter("ops", 4, throttle=Throttle(down=3, hold=0))
        async with trio.open_nursery() as nursery:
            manager = await nursery.start(
                partial(run_phases, (Works() for _ in range(8)), limiter=limiter)
            )
            await trio.sleep(0.5)
            limiter.down()
    assert account(manager) == (8, 8, 0, 0)
    assert trio.current_time() == 5


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"limiter": True}, TypeError, "limiter must be a Limiter.* not True"),
        ({"limiter": -1}, ValueError, "limiter must be at least 0, not -1"),
        ({"limiter": "4"}, TypeError, "a number of tokens, not '4'"),
        ({"limiter": 1, "prepare_limiter": 1.5}, TypeError, "prepare_limiter must be"),
        ({"limiter": 1, "cleanup_grace": -1}, ValueError, "cleanup_grace must be 0 or more"),
        ({"limiter": 1, "max_errors": 1.0}, TypeError, "max_errors must be an int"),
        ({"limiter": 1, "window": 0}, ValueError, "window must be at least 1, not 0"),
        ({"limiter": 1, "counting": "me"}, ValueError, "'runner' or 'phases', not 'me'"),
    ],
)
async def test_bad_arguments_are_named(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """A bad argument gets an error that names it, before anything is taken."""
    source = iter([Scalable()])
    with pytest.raises(error, match=message):
        await run_phases(source, **options)
    assert len(list(source)) == 1


async def test_bad_source_is_named() -> None:
    """A source that cannot be iterated is refused."""
    with pytest.raises(TypeError, match=r"a source must be an iterable.* not 7"):
        await run_phases(7, limiter=1)  # type: ignore[arg-type]


def test_bad_timeouts_are_named() -> None:
    """A time-out has to be a number of seconds over 0."""
    with pytest.raises(ValueError, match="work must be more than 0 seconds, not 0"):
        PhaseTimeouts(work=0)


@attrs.frozen
class Plan:
    """How one operation behaves, in ticks of a tenth of a second."""

    prepare: int
    work: int
    monitor: int
    cleanup: int
    fails_in: str | None
    failures: int


class Planned(Scalable):
    """An operation that behaves as planned, and watches the limit."""

    def __init__(self, plan: Plan, state: State) -> None:
        self.plan = plan
        self.state = state
        self.failures = 0
        self.prepared = self.cleaned = 0

    async def _phase(self, name: str) -> None:
        if name == "prepare":
            self.prepared += 1
            self.state.enter()
        try:
            await trio.sleep(getattr(self.plan, name) / 10)
            if self.plan.fails_in == name and self.failures < self.plan.failures:
                self.failures += 1
                raise OSError(name)
        except BaseException:
            self.state.running -= 1
            raise
        if name == "monitor":
            self.state.running -= 1

    async def prepare(self, channels: Channels) -> None:
        await self._phase("prepare")

    async def work(self, channels: Channels) -> None:
        await self._phase("work")

    async def monitor(self, channels: Channels) -> None:
        await self._phase("monitor")

    async def cleanup(self, channels: Channels) -> None:
        self.cleaned += 1
        await trio.sleep(self.plan.cleanup / 10)


class State:
    """How many run, and what may."""

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        self.running = 0

        self.retuned_at, self.limit_before = -1.0, 0.0

    def retune(self, tokens: int) -> None:
        self.retuned_at, self.limit_before = trio.current_time(), self.limiter.total_tokens
        self.limiter.total_tokens = tokens

    def enter(self) -> None:
        self.running += 1
        just_retuned = self.retuned_at == trio.current_time()
        if self.running > max(self.limiter.total_tokens, just_retuned * self.limit_before):
            raise SystemExit("over the limit")


ticks = st.integers(0, 5)
plans = st.builds(
    Plan,
    ticks,
    ticks,
    ticks,
    ticks,
    st.sampled_from([None, None, "prepare", "work", "monitor"]),
    st.integers(1, 3),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(plans, max_size=25),
    st.integers(0, 4),
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 6)), max_size=5),
    st.sampled_from([[Skip()], [Retry(2, backoff=lambda n: 0.2), Skip()], [Retry(1), Abort()]]),
    st.sampled_from(["none", "none", "cancel", "drain"]),
    st.integers(0, 20),
    st.sampled_from([None, 1, 3]),
)
def test_invariants_hold_whatever_happens(
    drawn: list[Plan],
    limit: int,
    retunes: list[tuple[int, int]],
    policies: list[Any],
    ending: str,
    end_at: int,
    window: int | None,
) -> None:
    """Books balance at each instant, limits hold, and each prepared one is cleaned up once."""

    async def main() -> None:
        limiter = Limiter("ops", limit, throttle=Throttle(min=0))
        state = State(limiter)
        operations = [Planned(plan, state) for plan in drawn]

        async def retune() -> None:
            for wait, tokens in retunes:
                await trio.sleep(wait / 10)
                state.retune(tokens)
            await trio.sleep(0.35)
            state.retune(3)

        async def run(task_status: trio.TaskStatus[Manager]) -> None:
            try:
                await run_phases(
                    operations,
                    limiter=limiter,
                    on_error=policies,
                    window=window,
                    task_status=task_status,
                )
            except Aborted as aborted:
                if not all(isinstance(error.__cause__, OSError) for error in aborted.exceptions):
                    raise

        async def audit(manager: Manager) -> None:
            while True:
                assert_conserved(manager)
                assert window is None or manager.working <= window
                await trio.sleep(0.1)

        async def supervise(scope: trio.CancelScope) -> None:
            async with trio.open_nursery() as auditors:
                async with trio.open_nursery() as nursery:
                    manager: Manager = await nursery.start(run)
                    auditors.start_soon(audit, manager)
                    nursery.start_soon(retune)
                    managers.append(manager)
                    await trio.sleep(end_at / 10)
                    if ending == "cancel":
                        scope.cancel()
                    if ending == "drain":
                        manager.drain()
                        drained_at.append(manager.received)
                auditors.cancel_scope.cancel()

        managers: list[Manager] = []
        drained_at: list[int] = []
        with trio.fail_after(1000), trio.CancelScope() as scope:
            await supervise(scope)
        (manager,) = managers
        assert_conserved(manager)
        assert manager.working == 0
        assert limiter.borrowed_tokens == 0
        assert state.running == 0
        assert drained_at in ([], [manager.received])
        for operation in operations:
            assert operation.cleaned == (1 if operation.prepared else 0)

    trio.run(main, clock=MockClock(autojump_threshold=0))
