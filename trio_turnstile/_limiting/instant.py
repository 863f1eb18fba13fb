"""`Instant`: one moment on two clocks, so that a time on one can be converted to the other."""

from __future__ import annotations

from time import time as unix_time
from typing import final

import attrs
import trio


@final
@attrs.frozen
class Instant:
    """One moment on trio's clock and on the system clock."""

    time: float
    """On trio's clock, in seconds."""
    wall_time: float
    """As a Unix time, in seconds."""

    def wall_time_of(self, time: float) -> float:
        """Return a time on trio's clock as a Unix time, in seconds.

        If an event has a Unix time of its own, that is exact even if the system clock was set.
        """
        return self.wall_time + (time - self.time)

    def time_of(self, wall_time: float) -> float:
        """Return a Unix time as a time on trio's clock, in seconds."""
        return self.time + (wall_time - self.wall_time)


def now() -> Instant:
    """Return this moment."""
    return Instant(trio.current_time(), unix_time())
