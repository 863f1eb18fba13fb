"""What is said at the end of a run, and its exit status."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from trio_turnstile import ConcurrentError
from trio_turnstile.cli._outcome import Outcome


def outcome(**changes: Any) -> Outcome:
    whole: dict[str, Any] = {
        "total": 9,
        "begun": 9,
        "completed": 9,
        "failed": 0,
        "errors": (),
        "errors_omitted": 0,
        "source_error": None,
        "stopped_by": None,
        "lost_output": False,
        "seconds": 61.0,
    }
    return Outcome(**{**whole, **changes})


UNREADABLE = ConcurrentError("unreadable", phase="source")
UNREADABLE.__cause__ = OSError("no such device")


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 0),
        ({"completed": 8, "failed": 1}, 1),
        ({"total": 200, "begun": 200, "completed": 100, "failed": 100}, 100),
        ({"total": 200, "begun": 200, "completed": 99, "failed": 101}, 101),
        ({"total": 200, "begun": 200, "completed": 0, "failed": 200}, 101),
        ({"total": None, "source_error": UNREADABLE}, 1),
        ({"total": None, "completed": 7, "failed": 2, "source_error": UNREADABLE}, 3),
        ({"stopped_by": signal.SIGINT}, 0),
        ({"stopped_by": signal.SIGINT, "total": None}, 130),
        ({"stopped_by": signal.SIGTERM, "completed": 8}, 143),
        ({"stopped_by": signal.SIGHUP, "begun": 8, "completed": 8}, 129),
        ({"stopped_by": signal.SIGINT, "begun": 8, "completed": 7, "failed": 1}, 1),
        ({"lost_output": True}, 141),
        ({"lost_output": True, "completed": 8, "failed": 1}, 1),
    ],
)
def test_the_exit_status(changes: dict[str, Any], status: int) -> None:
    """0 if all is done, else the failures, else what ended it."""
    assert outcome(**changes).status == status


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "9 completed, 0 failed in 1:01"),
        ({"completed": 6, "failed": 2}, "6 completed, 2 failed, 1 cancelled in 1:01"),
        ({"total": 12}, "9 completed, 0 failed in 1:01; 3 not begun"),
        ({"total": None}, "9 completed, 0 failed in 1:01; not all inputs were read"),
    ],
)
def test_the_last_line(changes: dict[str, Any], line: str) -> None:
    """It accounts for every input."""
    assert str(outcome(**changes)) == line


def test_inputs_that_could_not_be_read_come_first() -> None:
    """They are not told twice, nor counted among the rest."""
    texts = [
        *outcome(errors=(UNREADABLE,), errors_omitted=2, source_error=UNREADABLE).describe_errors()
    ]
    assert texts == ["the inputs could not be read on: no such device", "and 2 errors more"]
