"""Rates, sizes and shares of the cores, as users write them on a command line. Sans-I/O."""

from __future__ import annotations

import math
import re
from typing import Self, final

import attrs

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@final
@attrs.frozen
class Rate:
    """An amount per time, written like ``5/s``, ``100/m``, ``1000/h`` or ``10000/d``."""

    amount: float
    """The amount in that time."""
    seconds: float
    """The time in seconds."""

    @property
    def per_second(self) -> float:
        """The amount per second."""
        return self.amount / self.seconds

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a text such as ``5/s``, ``0.5/s``, ``100/m``, ``1000/h`` or ``10000/d``.

        Raises:
          ValueError: for anything else.
        """
        match = re.fullmatch(r"(\d+\.?\d*|\.\d+)/([smhd])", text.strip(), re.ASCII)
        amount = float(match[1]) if match else 0.0
        if match is None or not 0 < amount < math.inf:
            raise ValueError(
                "a rate is a number above 0 and a unit, as in 5/s, 100/m, 1000/h or 10000/d, "
                f"not {text!r}"
            )
        return cls(amount, _SECONDS[match[2]])


_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@final
@attrs.frozen
class Size:
    """A number of bytes, written like ``500M`` or ``2G``."""

    bytes: int
    """The number."""
    text: str = attrs.field(eq=False)
    """The text it was parsed from."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a text such as ``4096``, ``64k``, ``500M``, ``1.5G`` or ``1T``.

        Raises:
          ValueError: for anything else.
        """
        match = re.fullmatch(r"(\d+\.?\d*|\.\d+)([kmgt]?)", text.strip().lower(), re.ASCII)
        size = float(match[1]) * _SIZES[match[2]] if match else math.inf
        if math.isinf(size):
            raise ValueError(f"a size is written like 4096, 64k, 500M or 1.5G, not {text!r}")
        return cls(int(size), text.strip())


@final
@attrs.frozen
class Share:
    """A share of all bytes, written like ``-2``: two such shares for each slot."""

    per_slot: int
    """How many shares there are for each slot."""
    text: str = attrs.field(eq=False)
    """The text it was parsed from."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a text such as ``-1`` or ``-10``.

        Raises:
          ValueError: for anything else.
        """
        match = re.fullmatch(r"-(\d+)", text.strip(), re.ASCII)
        if match is None or not int(match[1]):
            raise ValueError(f"blocks for each slot are written like -1 or -10, not {text!r}")
        return cls(int(match[1]), text.strip())

    def size(self, total: int, slots: int) -> int:
        """Return how many bytes a share has, computed as in GNU parallel."""
        return 1 + int(total / (self.per_slot * slots))


@final
@attrs.frozen
class Load:
    """A load average, written like ``8`` or, as a share of the cores, ``90%``."""

    average: float
    """The load average."""

    @classmethod
    def parse(cls, text: str, cores: int) -> Self:
        """Parse a text such as ``8``, ``2.5`` or ``90%``.

        Raises:
          ValueError: for anything else.
        """
        match = re.fullmatch(r"(\d+\.?\d*|\.\d+)(%?)", text.strip(), re.ASCII)
        average = float(match[1]) * (cores / 100 if match[2] else 1) if match else 0
        if not 0 < average < math.inf:
            raise ValueError(
                "a load is a load average above 0, as in 8, or a share of the cores, as in 90%, "
                f"not {text!r}"
            )
        return cls(average)


_MOST_AT_A_TIME = 1000
"""The limit that 0 stands for."""


def parse_limit(text: str, cores: int) -> int:
    """Parse a limit: ``8``, ``50%`` of the cores, ``+1`` or ``-1`` from them, ``0`` for many.

    Raises:
      ValueError: for anything else.
    """
    match = re.fullmatch(r"([+-]?)(\d{1,9})|(\d+\.?\d*)%", text.strip(), re.ASCII)
    if not match or (match[3] and not 0 < float(match[3]) < math.inf):
        raise ValueError(
            "it must be a number, as in 8, or relative to the number of cores, as in 50%, +1 or "
            f"-1, or 0 for as many as possible, not {text!r}"
        )
    if match[3]:
        return max(int(cores * float(match[3]) / 100), 1)
    number = int(match[2])
    if match[1]:
        return max(cores + int(match[1] + match[2]), 1)
    return number or _MOST_AT_A_TIME
