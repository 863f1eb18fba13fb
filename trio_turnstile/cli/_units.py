"""Durations and halting rules, as users write them on a command line. Sans-I/O."""

from __future__ import annotations

import math
import re
from typing import Literal, Self, final

import attrs

from trio_turnstile import Halt

_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+\.?\d*|\.\d+)(ms|[smhd]?)", re.ASCII)


@final
class Duration(float):
    """A number of seconds, written such as ``30s``, ``10m`` or ``1.5h``."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a text such as ``30s``, ``10m``, ``1.5h``, ``2d``, ``250ms`` or ``30``.

        Raises:
          ValueError: for anything else.
        """
        match = _DURATION.fullmatch(text.strip())
        seconds = float(match[1]) * _SECONDS[match[2]] if match else math.inf
        if math.isinf(seconds):
            raise ValueError(f"a duration is written like 30s, 10m or 1.5h, not {text!r}")
        return cls(seconds)

    def __str__(self) -> str:
        for unit in ("d", "h", "m"):
            if self >= _SECONDS[unit] and self % (_SECONDS[unit] / 4) == 0:
                return f"{self / _SECONDS[unit]:.10g}{unit}"
        return f"{float(self):.10g}s"


@final
class Multiple(float):
    """How many times something, written as a share such as ``300%``."""

    __slots__ = ()


def parse_timeout(text: str) -> Duration | Multiple:
    """Parse a duration, or a share of the median run time such as ``300%``.

    Raises:
      ValueError: for anything else.
    """
    share = re.fullmatch(r"(\d{1,9}\.?\d*|\.\d+)%", text.strip(), re.ASCII)
    if share:
        return Multiple(float(share[1]) / 100)
    try:
        return Duration.parse(text)
    except ValueError as error:
        raise ValueError(f"{error}; 300% is three times the median run time") from None


def format_clock(seconds: float) -> str:
    """Return a time span as a clock shows it: ``0:07``, ``1:02:03``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


@final
@attrs.frozen
class Goal:
    """When enough operations have succeeded, or ended, so that the run can stop."""

    when: Literal["soon", "now"]
    """Whether what runs may finish."""
    of: Literal["success", "done"]
    """Which operations count: those that succeeded, or all that ended."""
    number: int = 1
    """How many there must be."""
    share: float = 0.0
    """Which share of those that ended they must be; that takes three at least."""

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
        raise ValueError(f"{of}= takes a number from 1, as in 3, or a share, as in 50%: {amount!r}")
    if of == "done" and number[2]:
        raise ValueError(f"done= takes a number, as in done=100, and not a share: {amount!r}")
    soon: Literal["soon", "now"] = "soon" if when == "soon" else "now"
    kind: Literal["success", "done"] = "success" if of == "success" else "done"
    if number[1]:
        return Goal(soon, kind, int(number[1]))
    return Goal(soon, kind, 3, float(number[2]) / 100)
