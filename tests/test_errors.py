"""The exceptions."""

from __future__ import annotations

import pickle

import pytest

from trio_turnstile import Aborted, ConcurrentError, Saturated


def test_concurrent_error_carries_what_is_known() -> None:
    """A `ConcurrentError` keeps identifiers, item, phase, attempt and notes."""
    error = ConcurrentError(
        "slow", identifiers=["run 1", "s7"], item=7, phase="work", attempt=2, notes=["disk 3"]
    )
    error.add_note("retry")
    assert str(error) == "slow"
    assert error.identifiers == ("run 1", "s7")
    assert (error.item, error.phase, error.attempt) == (7, "work", 2)
    assert error.notes == ("disk 3", "retry")
    assert ConcurrentError("bare").notes == ()


def test_errors_can_be_pickled() -> None:
    """Errors can be pickled."""
    error = pickle.loads(pickle.dumps(ConcurrentError("slow", item=7, notes=["n"])))
    assert (str(error), error.item, error.notes) == ("slow", 7, ("n",))
    saturated = pickle.loads(pickle.dumps(Saturated("api", 5, 10)))
    assert (saturated.limiter, saturated.waiting, saturated.limit) == ("api", 5, 10)


def test_saturated_says_what_to_do() -> None:
    """The message names the limiter, the figures and what to do."""
    assert str(Saturated("api", 5, 10)) == (
        "limiter 'api' has 5 callers waiting for its 10 tokens, and max_waiting allows no "
        "more: turn the request away or try again later"
    )


def test_aborted_keeps_its_report_when_split() -> None:
    """Groups made by ``except*`` and ``split`` keep the report."""
    aborted = Aborted("stopped", [ConcurrentError("a", item=1), ConcurrentError("b", item=2)])
    aborted.report = "the report"
    matched, rest = aborted.split(lambda error: getattr(error, "item", None) == 1)
    assert isinstance(matched, Aborted)
    assert isinstance(rest, Aborted)
    assert matched.report == rest.report == "the report"
    with pytest.raises(Aborted) as caught:
        try:
            raise aborted
        except* OSError:
            pass
    assert caught.value.report == "the report"
