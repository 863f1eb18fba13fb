"""Halting rules, as users write them on a command line. Sans-I/O."""

from __future__ import annotations

import re
from typing import Literal, final

import attrs

from trio_turnstile import Halt


@final
@attrs.frozen
class Goal:
    """When enough operations have succeeded, or ended, so that the run can stop."""

    when: Literal["soon", "now"]
    """Whether running operations may finish (``soon``) or are cancelled (``now``)."""
    of: Literal["success", "done"]
    """Which operations count: those that succeeded, or all that ended."""
    number: int = 1
    """How many of them there must be."""
    share: float = 0.0
    """The share of the ended operations that they must make up."""

    def is_reached(self, succeeded: int, ended: int) -> bool:
        """Return whether the run can stop."""
        number = succeeded if self.of == "success" else ended
        return number >= self.number and number >= self.share * ended


def parse_halt(text: str) -> Halt | Goal | None:
    """Return the rule for ``soon,fail=3``, ``now,success=1`` and the like; ``None`` for ``never``.

    Raises:
      ValueError: for anything else.
    """
    if text == "never":
        return None
    match = re.fullmatch("(soon|now),(fail|success|done)=(.+)", text)
    if not match:
        raise ValueError(
            "it must be never, or like soon,fail=3, now,fail=10%, now,success=1 or soon,done=100, "
            f"not {text!r}"
        )
    amount = match[3]
    if match[2] != "fail":
        return _goal(match[1], match[2], amount)
    return Halt(
        "soon" if match[1] == "soon" else "now",
        fail=int(amount) if amount.isdecimal() else amount,
    )


def _goal(when: str, of: str, amount: str) -> Goal:
    number = re.fullmatch(r"([1-9]\d{0,15})|(\d+\.?\d*)%", amount, re.ASCII)
    if not number or (number[2] and not 0 < float(number[2]) <= 100):
        raise ValueError(
            f"{of}= takes a number from 1, as in 3, or a share, as in 50%, not {amount!r}"
        )
    if of == "done" and number[2]:
        raise ValueError(f"done= takes a number, as in done=100, not a share: {amount!r}")
    soon: Literal["soon", "now"] = "soon" if when == "soon" else "now"
    kind: Literal["success", "done"] = "success" if of == "success" else "done"
    if number[1]:
        return Goal(soon, kind, int(number[1]))
    return Goal(soon, kind, 3, float(number[2]) / 100)
