"""Find the knee of a service's throughput by small probes.

As calls in flight rise, throughput first rises in step, then stops: that is the knee, and the right
limit is at it or just above. Readings at one limit do not show where it is, so read at a few limits
about the one thought best, and keep what they tell as a probability for every knee (`_belief`). No
latency is ever learned as "normal", hence none can be learned wrongly. The law:

1. *Home* is the limit that the knee is probably not above: more than an even chance, and the more
   the calls scatter the higher, since a queue then adds little to what is slow anyway.
2. *Look* a little below home and above it in turn, as far as the belief is in doubt; upwards never
   into a deep queue, nor by so little that chance would hide what is seen. When nothing is in doubt
   both are home, and there is nothing to look at until time has brought doubt back.
3. *Alarm*: when calls are missing (`_drought`), what has been read so far is of the past. Read
   afresh, and by what ends, not by how long it took; then look at once at the limit that would
   be enough for what is left of the pace.
4. *Overload answers* cut the limit at once, without a reading, once per cohort of calls, and make
   a ceiling (`_ceiling`): approached by halves, later tested again by single calls.
5. While a limit is not used or not kept to (as in shadow mode) nothing is learned or moved.

What a reading is, and how long it takes, is told in `_meter`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from typing import final

from trio_turnstile.limits._moving import check_bounds
from trio_turnstile.limits._protocol import Outcome, Sample

from .belief import Belief
from .meter import AGES, Meter, Reading
from .refusals import CUT, DROWNED, Ceiling
from .stall import Drought

TAIL, FEWER, MORE = 0.1, 0.2, 0.12
"""The limits to look at: the knee is beyond each with a probability of ``TAIL + 1 / limit``, but no
more than ``FEWER`` below and ``MORE`` above. A look costs a call more or less, and of a few calls
that is much; but one more costs latency alone, and one less throughput."""
OVER, SCATTERED = 0.7, 3.0
"""The knee is above home with a probability of ``OVER / (1 + SCATTERED * scatter)``: 0.4 if calls
scatter by a quarter of their mean, 0.18 if they scatter by all of it."""
SAME = 0.04
"""Limits that differ by less than this, in logarithms, are not worth a move."""
ASIDE = 3.0
"""One side is looked at twice in a row if it lies so many times as far away as the other."""
DOWN, UP = math.log(4), math.log(2)
"""The farthest moves in one go, in logarithms."""
PEEK = math.log(1.4)
"""The farthest look up: enough to see if there is more to be had, and no deep queue if not."""
FEWEST = 10
"""Calls that a reading takes at least, so that chance does not rule at small limits."""
NEVER_SURE = 0.02
"""The error of a reading that no number of calls makes better."""
STEADY, ALARMED = 0.1, 0.5
"""The least scatter to reckon with: few calls may be alike by chance, and in an alarm they are
counted, while some are still of the time before."""
STALE = 20.0
"""Round trips after which what was read does not grow older, so that a pause forgets little."""


class _Doing(Enum):
    RESTING = "resting"
    LOOKING = "looking"
    CLIMBING = "climbing"


@final
class KneeLimit:
    """Finds the most calls in flight that still add throughput, and stays there.

    It fits batches and servers alike, and needs no knowledge of the service: now and then
    it tries a few calls more or fewer for a moment, and sees what they change. The limit is
    a whole number. Give ``max_latency`` if more than a few clients share one service, as
    each would take the others' queue for slowness and creep up.

    Args:
      initial: the limit to start with, in calls.
      minimum: never below it.
      maximum: never above it.
      max_latency: mean latency in seconds that you do not want to exceed, even if
        throughput would gain by it.
    """

    def __init__(
        self,
        initial: float = 20,
        *,
        minimum: int = 1,
        maximum: int = 1000,
        max_latency: float = math.inf,
    ) -> None:
        check_bounds(initial, minimum, maximum)
        self._lower, self._upper, self._max_latency = minimum, maximum, max_latency
        self._limit = self._home = int(initial)
        self._doing, self._upwards, self._reach = _Doing.RESTING, True, UP
        self._left = 0  # the limit that the look is from, to which there is a way back at once
        self._meter = Meter()
        self._belief, self._drought, self._ceiling = Belief(maximum), Drought(), Ceiling()
        self._latest: Reading | None = None
        self._before_alarm: Reading | None = None
        self._learned, self._last_end = 0.0, -math.inf
        self._why: Mapping[str, object] = {"reason": "initial"}

    @property
    def limit(self) -> float:
        """The limit now proposed, in calls."""
        return self._limit

    def why(self) -> Mapping[str, object]:
        """Return the last decision: its reason, the limit before and after, the figures."""
        return self._why

    def on_start(self, now: float, in_flight: int) -> None:
        """Count a call in."""
        self._meter.on_start(now, in_flight)

    def on_finish(self, sample: Sample) -> None:
        """Count a call out, and decide if a reading is complete by it."""
        if sample.outcome is Outcome.SUCCESS:
            self._succeeded(sample.end, sample.weight)
        self._meter.on_finish(sample)
        if sample.outcome is Outcome.OVERLOADED and sample.start >= self._meter.changed:
            self._refused(sample)

    def _succeeded(self, now: float, weight: int) -> None:
        # Readings begin and end between two instants at which calls finish: a server that
        # answers in batches would otherwise be read in the middle of one.
        if now > self._last_end:
            self._advance(now)
        self._last_end = now
        self._drought.finished += weight
        self._ceiling.succeeded()

    def on_tick(self, now: float, in_flight: int, waiting: int) -> None:
        """Watch for calls that are missing."""
        self._meter.on_tick(now)
        if (before := self._before_alarm) is not None:
            if now - self._meter.opened >= 4 * AGES * before.age:
                self._close(now)
            return
        scatter = self._meter.spread.scatter
        missing = self._drought.noticed(now, self._latest, self._limit, in_flight, scatter)
        if missing:
            self._before_alarm, self._doing = self._latest, _Doing.RESTING
            self._explain("overdue", self._limit, missing=missing)
            self._meter.open(now)

    # Readings.

    def _advance(self, now: float) -> None:
        alarmed, long_enough = self._before_alarm is not None, self._meter.long_enough(now)
        if self._meter.settling:
            if long_enough:
                self._settled(now)
        elif self._meter.calls >= max(FEWEST, self._limit) and (alarmed or long_enough):
            self._close(now)

    def _settled(self, now: float) -> None:
        self._ceiling.prove(self._limit)
        if self._doing is _Doing.CLIMBING:
            self._climb(now)
        else:
            self._meter.open(now)

    def _close(self, now: float) -> None:
        reading, before, self._before_alarm = self._meter.read(now), self._before_alarm, None
        if misfit := reading.misfit(self._limit):
            self._go(now, self._home, _Doing.RESTING, misfit, in_flight=reading.in_flight)
        elif before is not None:
            self._learn(now, reading.counted(before), ALARMED)
            self._look_into(now, reading.rate / before.rate)
        else:
            if self._latest is None:  # all have begun together, and the quick ones ended first
                reading = reading.counted(reading)
            self._learn(now, reading, STEADY)
            self._decide(now, reading)

    def _learn(self, now: float, reading: Reading, least: float) -> None:
        error = NEVER_SURE + self._error(reading, least)
        trips = min(STALE, (now - self._learned) / reading.latency)
        rounds = max(1.0, reading.calls / reading.in_flight)
        scatter, skew = self._meter.spread.scatter, self._meter.spread.skew
        self._belief.learn(
            reading.in_flight, reading.typical, error=error, rounds=rounds, trips=trips, skew=skew
        )
        self._belief.learn_order(reading.in_flight, reading.overtaken, scatter, reading.placed)
        if self._latest is not None:  # one reading alone does not tell where the knee is
            over = OVER / (1 + SCATTERED * scatter)
            self._home = self._within_reach(self._belief.knee(1 - over), reading)
        self._latest, self._learned = reading, now

    def _error(self, reading: Reading, least: float) -> float:
        """Return the relative error of a reading, single calls differing at least so much."""
        return reading.error(max(least, self._meter.spread.error))

    # Decisions.

    def _decide(self, now: float, reading: Reading) -> None:
        doubted = self._doubted()
        aim = self._aside(*doubted, reading)
        evidence = {"knee": doubted, "in_flight": reading.in_flight, "latency": reading.typical}
        if self._ceiling.near(self._limit) and self._ceiling.due(now):
            self._raise(now, 1)
        elif self._doing is _Doing.LOOKING or self._far(aim) < max(SAME, self._far(self._home)):
            self._go(now, self._home, _Doing.RESTING, "home", **evidence)
        else:
            self._upwards = aim > self._limit
            reason = "looking up" if self._upwards else "looking down"
            self._go(now, aim, _Doing.LOOKING, reason, **evidence)

    def _look_into(self, now: float, pace: float) -> None:
        """Look at the limit that would be enough for what is left of the pace.

        There a smaller service is no slower than before, and a slower one is.
        """
        aim = round(self._limit * min(1.0, pace))
        self._go(now, aim, _Doing.LOOKING, "slower or smaller?", pace=pace)

    def _doubted(self) -> tuple[float, float]:
        """Return the limits between which the knee is, as far as it is worth while to be sure."""
        tail = TAIL + 1 / self._limit
        return self._belief.knee(min(FEWER, tail)), self._belief.knee(1 - min(MORE, tail))

    def _aside(self, low: float, high: float, reading: Reading) -> int:
        """Return the limit to look at next: on the other side in turn, unless there is no doubt."""
        down = self._within_reach(low, reading)
        up = self._within_reach(self._peek(high, reading), reading)
        this, other = (down, up) if self._upwards else (up, down)
        return this if self._far(this) >= max(SAME, self._far(other) / ASIDE) else other

    def _peek(self, knee: float, reading: Reading) -> float:
        """Return the limit to look up at: no deep queue, nor too near to be told from chance."""
        if round(knee) <= self._limit:
            return knee
        clear = self._up_by(self._error(reading, STEADY))
        return min(max(knee, clear), self._up_by(PEEK))

    def _far(self, limit: int) -> float:
        return abs(math.log(limit / self._limit))

    def _within_reach(self, aim: float, reading: Reading) -> int:
        """Return the limit that is aimed at, or what is as near to it as may be gone now."""
        highest = min(
            max(self._up_by(self._reach), self._left),
            self._limit * max(0.5, self._max_latency / reading.latency),
            self._ceiling.value - 1,
        )
        return self._bounded(max(self._limit * math.exp(-DOWN), min(aim, highest)))

    def _up_by(self, logarithm: float) -> float:
        return max(self._limit + 1, self._limit * math.exp(logarithm))

    def _bounded(self, limit: float) -> int:
        return round(min(self._upper, max(self._lower, limit)))

    def _go(self, now: float, to: int, doing: _Doing, reason: str, **figures: object) -> None:
        before, self._limit, self._doing = self._limit, self._bounded(to), doing
        self._left = before if doing is _Doing.LOOKING else 0
        self._explain(reason, before, **figures)
        if self._limit == before and doing is not _Doing.CLIMBING:
            self._meter.open(now)
            return
        if self._limit > before:
            self._reach = min(UP, 2 * self._reach)
        self._ceiling.moved()
        self._meter.settle(now, self._limit)

    def _explain(self, reason: str, before: int, **figures: object) -> None:
        self._why = {"reason": reason, "before": before, "after": self._limit, **figures}

    # Overload.

    def _refused(self, sample: Sample) -> None:
        if not self._ceiling.refused():
            return
        now = sample.end
        slow = sample.latency > self._meter.age(now)
        self._home = self._bounded(self._ceiling.cut(self._limit, now, DROWNED if slow else CUT))
        if slow:  # what was known did not foresee it
            self._belief, self._latest, self._before_alarm = Belief(self._upper), None, None
        else:
            self._reach = 1 / math.sqrt(self._limit)
        doing = _Doing.RESTING if slow else _Doing.CLIMBING
        self._go(now, self._home, doing, "overloaded", ceiling=self._ceiling.value)

    def _raise(self, now: float, step: int) -> None:
        self._ceiling.step = step
        aim, known = self._limit + step, self._ceiling.value
        self._go(now, aim, _Doing.CLIMBING, "testing the ceiling", ceiling=known)

    def _climb(self, now: float) -> None:
        step = self._ceiling.next_step(self._limit)
        if step is not None and self._limit < self._upper:
            self._raise(now, step)
        else:
            self._home, self._doing = self._limit, _Doing.RESTING
            self._meter.open(now)
