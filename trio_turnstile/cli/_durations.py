"""Durations, as users write them on a command line. Sans-I/O."""

from __future__ import annotations

import math
import re
from typing import Self, final

_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+\.?\d*|\.\d+)(ms|[smhd]?)", re.ASCII)


@final
class Duration(float):
    """A number of seconds, written like ``30s``, ``10m`` or ``1.5h``."""

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
    """A multiple, written as a percentage such as ``300%``."""

    __slots__ = ()


def parse_timeout(text: str) -> Duration | Multiple:
    """Parse a duration, or a percentage of the median run time such as ``300%``.

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
