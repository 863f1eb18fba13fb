"""What a probe has shown: how much of the throughput hangs on the last calls in flight.

A probe is two readings at two limits, one right after the other. With n calls in flight and
a typical latency r, Little's law gives the pace n / r. The *gain* of a probe is
ln(pace ratio) / ln(in-flight ratio): 1 below the knee, 0 above it, and in between it says
where the knee lies, ``low * ratio ** gain``.

The same figure tells "slower" from "less capacity", which look alike from outside (every
latency doubles): a slower service loses throughput when we probe down, a smaller one does
not.
"""

from __future__ import annotations

import math
from typing import final

import attrs

from ._meter import Reading

HEADROOM = 1.0
"""Calls above the knee, in units of scatter * sqrt(knee)."""
NEEDED, LIKELY, EVEN, OPEN, IDLE = 0.75, 0.6, 0.5, 0.35, 0.15
"""Gains. At rest just above the knee a down-probe gives about 0.7. From NEEDED it proves
there is no queue at home; from LIKELY a short step up pays (two equal clients above their
common knee see 0.5, and must not climb); a doubling pays from EVEN; under OPEN a
queue is likely, and down is the way to look; at IDLE or less the tokens probed away did
nothing."""

SLOWED, DEEPEST = 0.75, 1 / 32
"""Throughput below this share of what it was calls for a deep probe; the deepest, as a share
of the limit."""


@final
@attrs.frozen
class Finding:
    """What a probe has shown."""

    base: Reading
    """The reading at home."""
    probe: Reading
    """The reading at the limit that was tried."""
    step: float
    """How far the probe went, in logarithms of calls in flight; less than 0 for down."""
    gain: float
    """What it gained, as a share of what it would gain below the knee."""
    aim: float
    """The knee with its headroom, in calls."""

    @property
    def plausible(self) -> bool:
        """No service gains like what is not: it has changed between the two readings."""
        return -1.5 < self.gain < 2.5

    @property
    def pays(self) -> bool:
        """Whether a step up is worth its calls."""
        return self.gain >= (EVEN if self.step > 0.5 else LIKELY)

    @property
    def needed(self) -> bool:
        """Whether every call in flight counts: there is no queue at the higher limit."""
        return self.gain >= NEEDED

    @property
    def idle(self) -> bool:
        """Whether the calls between the two limits did nothing but wait."""
        return self.gain <= IDLE

    def figures(self) -> dict[str, object]:
        """Return the evidence."""
        return {
            "gain": self.gain,
            "in_flight": (self.base.in_flight, self.probe.in_flight),
            "pace": (self.base.pace, self.probe.pace),
        }


def compare(base: Reading, probe: Reading, scatter: float, drift: float = 0.0) -> Finding:
    """Return what the two readings of a probe show.

    Args:
      base: the one at home.
      probe: the one at the limit tried, taken later.
      scatter: relative scatter of the latency.
      drift: how the pace at home changes by itself, in logarithms per second.
    """
    step = math.log(probe.in_flight / base.in_flight)
    drifted = drift * (probe.middle - base.middle)
    gain = (math.log(probe.pace / base.pace) - drifted) / step if step else EVEN
    low = min(base.in_flight, probe.in_flight)
    knee = low * math.exp(min(1.0, max(0.0, gain)) * abs(step))
    return Finding(base, probe, step, gain, knee + HEADROOM * scatter * math.sqrt(knee))
