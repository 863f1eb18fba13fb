"""The notes about signals that change the limit."""

from __future__ import annotations

from typing import Any

import pytest

from trio_turnstile import Decision, Reason, Signal
from trio_turnstile.cli._decisions import describe_decision


@pytest.mark.parametrize(
    ("reason", "evidence", "text"),
    [
        (Reason.SIGNAL, {}, "limit 4 -> 2"),
        (
            Reason.HOLDING,
            {"hold_left": 9.96},
            "limit stays 2: down refused, --hold lasts 10.0 s more",
        ),
        (Reason.AT_CEILING, {}, "limit stays 2: down refused, that is --max"),
        (Reason.AT_MINIMUM, {}, "limit stays 2: down refused, that is --min"),
        (Reason.SHADOW, {}, "limit stays 2: down refused, shadow"),
    ],
)
def test_a_decision_in_the_words_of_the_options(
    reason: Reason, evidence: dict[str, Any], text: str
) -> None:
    """The note names the option that refuses the signal, or else the reason."""
    decision = Decision("run", 1.0, Signal.DOWN, 4, 2, reason, evidence)
    assert describe_decision(decision) == text


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason.refusal])
def test_every_refusal_has_a_line(reason: Reason) -> None:
    """The command has a note for every reason that the library has for a refusal."""
    decision = Decision("run", 1.0, Signal.UP, 4, 4, reason)
    assert describe_decision(decision).startswith("limit stays 4: up refused, ")
