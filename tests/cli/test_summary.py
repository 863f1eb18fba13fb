"""The summary at the end of a run, and the exit status."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from trio_turnstile import ConcurrentError
from trio_turnstile.cli._summary import Summary


def summary(**changes: Any) -> Summary:
    whole: dict[str, Any] = {
        "total": 9,
        "skipped": 0,
        "started": 9,
        "completed": 9,
        "failed": 0,
        "errors": (),
        "errors_omitted": 0,
        "input_error": None,
        "stop_signal": None,
        "lost_output": False,
        "lost_log": False,
        "lost_ledger": False,
        "seconds": 61.0,
    }
    return Summary(**{**whole, **changes})


UNREADABLE = OSError("no such device")


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 0),
        ({"completed": 8, "failed": 1}, 1),
        ({"total": 200, "started": 200, "completed": 100, "failed": 100}, 100),
        ({"total": 200, "started": 200, "completed": 99, "failed": 101}, 101),
        ({"total": 200, "started": 200, "completed": 0, "failed": 200}, 101),
        ({"total": None, "input_error": UNREADABLE}, 1),
        ({"total": None, "completed": 7, "failed": 2, "input_error": UNREADABLE}, 3),
        ({"stop_signal": signal.SIGINT}, 0),
        ({"stop_signal": signal.SIGINT, "total": None}, 130),
        ({"stop_signal": signal.SIGTERM, "completed": 8}, 143),
        ({"stop_signal": signal.SIGHUP, "started": 8, "completed": 8}, 129),
        ({"stop_signal": signal.SIGINT, "started": 8, "completed": 7, "failed": 1}, 1),
        ({"lost_output": True}, 141),
        ({"lost_output": True, "completed": 8, "failed": 1}, 1),
        ({"lost_log": True}, 1),
        ({"lost_log": True, "completed": 8, "failed": 1}, 2),
    ],
)
def test_the_exit_status(changes: dict[str, Any], status: int) -> None:
    """0 if all completed, else the number of failures, else the reason of the early end."""
    assert summary(**changes).status == status


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "9 completed, 0 failed in 1:01"),
        ({"completed": 6, "failed": 2}, "6 completed, 2 failed, 1 cancelled in 1:01"),
        (
            {"completed": 6, "left_running": 2},
            "6 completed, 0 failed, 1 cancelled, 2 left running in 1:01",
        ),
        ({"total": 12}, "9 completed, 0 failed in 1:01; 3 not started"),
        ({"total": None}, "9 completed, 0 failed in 1:01; not all inputs were read"),
    ],
)
def test_the_last_line(changes: dict[str, Any], line: str) -> None:
    """The last line accounts for every input."""
    assert str(summary(**changes)) == line


@pytest.mark.parametrize(
    ("kept", "omitted", "rest"),
    [
        (1, 0, []),
        (1, 1, ["and 1 more error"]),
        (1, 2, ["and 2 more errors"]),
        (0, 2, ["and 1 more error"]),
    ],
)
def test_an_input_error_comes_first(kept: int, omitted: int, rest: list[str]) -> None:
    """It is shown once and not counted among the rest, whether or not the run kept it."""
    errors = [ConcurrentError("unreadable", phase="source")] * kept
    result = summary(errors=errors, errors_omitted=omitted, input_error=UNREADABLE)
    assert [*result.describe_errors()] == [
        "cannot read the rest of the inputs: no such device",
        *rest,
    ]
