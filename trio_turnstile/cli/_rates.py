"""Rates as users write them on a command line. Sans-I/O."""

from __future__ import annotations

import math
import re
from typing import Self, final

import attrs

_SECONDS = {"s": 1, "m": 60, "h": 3600}


@final
@attrs.frozen
class Rate:
    """So many in a time, written such as ``5/s``, ``100/m`` or ``1000/h``."""

    per_second: float
    """How many there are in a second."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a text such as ``5/s``, ``0.5/s``, ``100/m`` or ``1000/h``.

        Raises:
          ValueError: for anything else.
        """
        match = re.fullmatch(r"(\d+\.?\d*|\.\d+)/([smh])", text.strip(), re.ASCII)
        per_second = float(match[1]) / _SECONDS[match[2]] if match else 0
        if not 0 < per_second < math.inf:
            raise ValueError(
                f"a rate is a number over 0 and a unit, as in 5/s, 100/m or 1000/h, not {text!r}"
            )
        return cls(per_second)
