"""What happens when a phase fails."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from testkit.phases import Logged, Sleeps, Works, account
from trio_turnstile import (
    Abort,
    Aborted,
    Channels,
    ConcurrentError,
    Halt,
    Skip,
    Verdict,
    run_phases,
)
from trio_turnstile.testing import assert_conserved


async def test_failed_operations_are_recorded_and_the_rest_go_on(
    autojump_clock: MockClock,
) -> None:
    """By default a failed operation is recorded with its cause, and the rest go on."""
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
    """A `ConcurrentError` raised by a phase is kept; missing attributes are filled in."""
    mine = ConcurrentError("mine", identifiers=["s7"])
    operation = Works(0, mine)
    report = await run_phases([operation], limiter=1)
    assert report.errors == (mine,)
    assert (mine.item, mine.phase, mine.identifiers) == (operation, "work", ("s7",))


async def test_identifiers_that_raise_do_no_harm() -> None:
    """If `identifiers` raises, the error is recorded without identifiers."""

    class Nameless(Works):
        @property
        def identifiers(self) -> tuple[str, ...]:
            raise RuntimeError("no name")

    report = await run_phases([Nameless(0, OSError())], limiter=1)
    assert report.errors[0].identifiers == ()


async def test_errors_kept_are_bounded() -> None:
    """The first ``max_errors`` errors are kept, and the others are counted."""
    report = await run_phases((Works(0, OSError(n)) for n in range(7)), limiter=1, max_errors=3)
    assert account(report) == (7, 0, 7, 0)
    assert [error.__cause__.args for error in report.errors if error.__cause__] == [
        (0,),
        (1,),
        (2,),
    ]
    assert report.errors_omitted == 4


# ---- abort ----


async def test_abort_cancels_the_rest_and_raises_the_error(autojump_clock: MockClock) -> None:
    """`Abort` ends the run at the first error; the other operations are cleaned up."""
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
    """An error that no policy decides about aborts the run."""
    with pytest.raises(Aborted):
        await run_phases([Works(0, ValueError())], limiter=1, on_error=[Skip(on=OSError)])


async def test_errors_of_the_same_moment_are_all_raised(autojump_clock: MockClock) -> None:
    """If two operations fail at once, only their errors are raised."""
    operations = [Works(1, ValueError("a")), Works(1, ValueError("b")), Works(9)]
    with pytest.raises(Aborted) as caught:
        await run_phases(operations, limiter=3, on_error=[Abort()])
    assert {str(error.__cause__) for error in caught.value.exceptions} <= {"a", "b"}
    assert_conserved(caught.value.report)


async def test_policies_that_fail_stop_the_run() -> None:
    """If a policy raises, the run stops, and the error that the policy got is kept."""

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


# ---- halt ----


async def test_halt_soon_finishes_what_is_in_flight(autojump_clock: MockClock) -> None:
    """`Halt("soon")` starts no further operation, and lets running ones complete."""
    operations = [Sleeps(1, OSError()), Sleeps(1.5, OSError()), Sleeps(10), Sleeps(), Sleeps()]
    with pytest.raises(Aborted) as caught:
        await run_phases(operations, limiter=3, on_error=[Halt("soon", fail=2)])
    assert account(caught.value.report) == (4, 2, 2, 0)
    assert len(caught.value.report.errors) == 2
    assert trio.current_time() == 10


async def test_halt_now_cancels_what_is_in_flight(autojump_clock: MockClock) -> None:
    """`Halt("now")` cancels the operations that are running."""
    operations = [*(Works(1, OSError()) for _ in range(3)), Works(10)]
    with pytest.raises(Aborted) as caught:
        await run_phases(operations, limiter=4, on_error=[Halt("now", fail="50%")])
    assert account(caught.value.report) == (4, 0, 3, 1)
    assert trio.current_time() == 1
