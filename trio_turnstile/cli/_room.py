"""Whether the machine has room for one more operation: its load and its free memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

import attrs
import trio
from trio.lowlevel import checkpoint

_LOOK_AGAIN = 1.0
"""Seconds between two looks while there is no room."""

_MEMINFO = Path("/proc/meminfo")


@final
@attrs.frozen
class Condition:
    """Something that must hold before an operation starts."""

    holds: Callable[[], bool]
    """Measures whether it holds."""
    otherwise: str
    """The note for the user if it does not hold."""


@final
class Room:
    """Lets operations start, one after the other, while some conditions hold.

    Args:
      conditions: the conditions.
      note: shows a line to the user, once for each condition that fails.
    """

    def __init__(self, conditions: Sequence[Condition], note: Callable[[str], object]) -> None:
        self._conditions = conditions
        self._note = note
        self._noted: set[Condition] = set()
        self._turn = trio.StrictFIFOLock()

    async def wait(self) -> None:
        """Wait until all conditions hold."""
        if not self._conditions:
            return await checkpoint()
        async with self._turn:
            while (failing := self._failing()) is not None:
                if failing not in self._noted:
                    self._noted.add(failing)
                    self._note(failing.otherwise)
                await trio.sleep(_LOOK_AGAIN)

    def _failing(self) -> Condition | None:
        return next((each for each in self._conditions if not each.holds()), None)


def load_at_most(load: float) -> Condition:
    """Return the condition that the load average of the last minute is at most ``load``."""
    return Condition(
        lambda: os.getloadavg()[0] <= load,
        f"delaying operations because the load average is above --load {load:g}",
    )


def free_memory_at_least(size: int, text: str) -> Condition:
    """Return the condition that at least ``size`` bytes of memory are free."""
    return Condition(
        lambda: free_memory() >= size,
        f"delaying operations because less memory is free than --memfree {text}",
    )


def free_memory() -> int:
    """Return how many bytes of memory programs can take without swapping out others."""
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:  # not Linux
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    fields = next(line.split() for line in lines if line.startswith("MemAvailable:"))
    return int(fields[1]) * 1024
