"""Error policies return verdicts, and do nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_turnstile import Abort, Backoff, ConcurrentError, Fail, Halt, Retry, RetryIn, Skip, Stop
from trio_turnstile._engine.policies import decide
from trio_turnstile._errors import matches


def failed(cause: Exception, attempt: int = 1, phase: str = "work") -> ConcurrentError:
    """Return the error that the runner would make from ``cause``."""
    error = ConcurrentError("failed", attempt=attempt, phase=phase)
    error.__cause__ = cause
    return error


def one_second(failures: int) -> float:
    return 1.0


def test_first_verdict_holds() -> None:
    """Policies are asked in order, and the first verdict decides."""
    policies = [Retry(1, on=OSError, backoff=one_second), Skip(on=ValueError), Abort()]
    assert decide(policies, failed(OSError())) == RetryIn(1.0)
    assert decide(policies, failed(OSError(), attempt=2)) == Stop()
    assert decide(policies, failed(ValueError())) == Fail()
    assert decide(policies, failed(KeyError())) == Stop()


def test_silence_stops_the_run() -> None:
    """If no policy has a verdict, the run stops at once."""
    assert decide([], failed(ValueError())) == Stop("now")
    assert decide([Skip(on=OSError)], failed(ValueError())) == Stop("now")


@pytest.mark.parametrize(
    ("error", "on", "expected"),
    [
        (OSError(), OSError, True),
        (OSError(), (ValueError, OSError), True),
        (OSError(), ValueError, False),
        (OSError(2, "x"), lambda e: getattr(e, "errno", 0) == 2, True),
        (ExceptionGroup("g", [OSError(), ConnectionError()]), OSError, True),
        (ExceptionGroup("g", [OSError(), ValueError()]), OSError, False),
        (ExceptionGroup("g", [ExceptionGroup("h", [OSError()])]), OSError, True),
        (ExceptionGroup("g", [OSError()]), ExceptionGroup, True),
    ],
)
def test_on_matches_types_predicates_and_groups(
    error: Exception, on: object, expected: bool
) -> None:
    """``on=`` may be types or a predicate; a group matches if all of its leaves do."""
    assert matches(error, on) is expected  # type: ignore[arg-type]


def test_error_without_cause_is_matched_itself() -> None:
    """A `ConcurrentError` without a cause is matched itself."""
    assert Skip(on=ConcurrentError).decide(ConcurrentError("mine")) == Fail()
    assert Skip(on=OSError).decide(ConcurrentError("mine")) is None


def test_retry_counts_retries_not_attempts() -> None:
    """``Retry(2)`` gives two more attempts after the first."""
    retry = Retry(2, backoff=one_second)
    verdicts = [retry.decide(failed(OSError(), attempt=n)) for n in (1, 2, 3)]
    assert verdicts == [RetryIn(1.0), RetryIn(1.0), None]


def test_retry_honours_retry_after() -> None:
    """A retry waits at least for the error's ``retry_after``."""
    error = OSError()
    error.retry_after = 7  # type: ignore[attr-defined]
    assert Retry(1, backoff=one_second).decide(failed(error)) == RetryIn(7)


def test_retry_is_silent_on_cleanup() -> None:
    """`Retry` has no verdict about an error in clean-up."""
    assert Retry(5).decide(failed(OSError(), phase="cleanup")) is None


def test_backoff_doubles_up_to_the_maximum() -> None:
    """The longest wait doubles from ``initial`` up to ``maximum``."""
    most = Backoff(0.5, 3.0, uniform=lambda low, high: high)
    assert [most(n) for n in (1, 2, 3, 4, 5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


@given(
    st.integers(1, 10**9),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
)
def test_backoff_is_never_negative_nor_over_the_maximum(
    failures: int, initial: float, maximum: float
) -> None:
    """The wait is between 0 and ``maximum`` after any number of failures."""
    assert 0 <= Backoff(initial, maximum)(failures) <= maximum


def test_halt_gives_the_tolerance_with_the_verdict() -> None:
    """The verdict of `Halt` says how many failures are tolerated."""
    assert Halt("soon", fail=3).decide(failed(OSError())) == Stop("soon", 3)
    assert Halt("now", fail="10%").decide(failed(OSError())) == Stop("now", 3, 0.1)
    assert Halt("now", fail=1, on=ValueError).decide(failed(OSError())) is None


@pytest.mark.parametrize(
    ("stop", "failures", "settled", "due"),
    [
        (Stop(), 1, 1, True),
        (Stop("soon", 3), 2, 2, False),
        (Stop("soon", 3), 3, 1000, True),
        (Stop("now", 3, 0.1), 2, 2, False),
        (Stop("now", 3, 0.1), 3, 30, True),
        (Stop("now", 3, 0.1), 3, 31, False),
    ],
)
def test_stop_is_due_when_the_tolerance_is_used_up(
    stop: Stop, failures: int, settled: int, due: bool
) -> None:
    """A stop is due when both the number and the share of failures are reached."""
    assert stop.due(failures, settled) is due


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Retry(-1), ValueError, "times must be at least 0, not -1"),
        (lambda: Retry(True), TypeError, "times must be an int, not True"),
        (lambda: Retry(1.5), TypeError, "times must be an int, not 1.5"),
        (lambda: Backoff(-1), ValueError, "initial must be 0 or more seconds, not -1"),
        (lambda: Backoff(1, float("nan")), ValueError, "maximum must be 0 or more seconds"),
        (lambda: Halt("later", fail=1), ValueError, "when"),
        (lambda: Halt("now", fail=0), ValueError, "fail must be at least 1, not 0"),
        (lambda: Halt("now", fail="ten"), ValueError, "a share like '5%', not 'ten'"),
        (lambda: Halt("now", fail="x%"), ValueError, "a share like '5%', not 'x%'"),
        (lambda: Halt("now", fail="0%"), ValueError, "fail must be over 0 %"),
        (lambda: Halt("now", fail="101%"), ValueError, "at most 100 %, not '101%'"),
    ],
)
def test_bad_values_are_named(make: object, error: type[Exception], message: str) -> None:
    """A bad value raises an error that names it and the rule."""
    with pytest.raises(error, match=message):
        make()  # type: ignore[operator]


def test_policies_are_values() -> None:
    """Policies can be compared, hashed and printed."""
    assert Skip(on=OSError) == Skip(on=OSError)
    assert hash(Abort()) == hash(Abort())
    assert repr(Halt("soon", fail="5%")).startswith("Halt(when='soon', fail='5%'")
