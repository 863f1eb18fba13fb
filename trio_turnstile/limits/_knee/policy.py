"""Finds the knee of a service's throughput by small probes.

As calls in flight increase, throughput first increases in step and then stops: that is the knee,
and the right limit is at the knee or just above it. Readings at one limit do not show where it is.
So the policy reads at a few limits around the best one, and keeps the result as a probability for
every knee (`belief`). It never learns a latency as "normal", so it cannot learn a wrong one. The
rules:

1. *Home* is the limit that the knee is probably not above: the probability is more than a half, and
   it is higher if latencies scatter, since a short queue then adds little to slow calls.
2. *Probe* a little below home and above it in turn, as far as the belief is in doubt. A probe up
   never makes a deep queue, and is never so small that chance would hide its effect. If nothing is
   in doubt, both probes equal home, and nothing is probed until time has brought doubt back.
3. *Alarm*: if calls are missing (`stall`), the earlier readings describe the past. Take a new
   reading, from the number of calls that end and not from their latency; then probe at once the
   limit that would be enough for the rest of the pace.
4. *Overload answers* cut the limit at once, without a reading, once per cohort of calls, and
   bracket it (`refusals`): the limit comes back by halves, and single calls test it later.
5. While a limit is not used or not enforced (as in shadow mode), nothing is learned or moved.

`meter` defines what a reading is, and how long it takes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from typing import final

from trio_turnstile.limits._moving import check_bounds, clamped
from trio_turnstile.limits._protocol import LimitPolicy, Outcome, Sample

from .belief import Belief
from .meter import READING_AGES, Meter, Reading
from .refusals import CUT_FACTOR, SLOW_CUT_FACTOR, RefusalBracket
from .stall import StallDetector

PROBE_TAIL = 0.1
"""The knee is beyond a probed limit with this probability plus ``1 / limit``, within the two bounds
that follow (tuned). A probe costs about one call, which is a lot if there are only a few."""
MAX_PROBE_TAIL_BELOW = 0.2
"""The greatest such probability below home, where one call less costs throughput (tuned)."""
MAX_PROBE_TAIL_ABOVE = 0.12
"""The greatest such probability above home, where one call more costs only latency (tuned)."""
HOME_TAIL = 0.7
"""The probability that the knee is above home, if latencies did not scatter (tuned)."""
HOME_TAIL_PER_CV = 3.0
"""The probability that the knee is above home is ``HOME_TAIL / (1 + HOME_TAIL_PER_CV * cv)``: 0.4
if the standard deviation of the latency is a quarter of its mean, 0.18 if both are equal
(tuned)."""
SAME_LIMIT_LOG = 0.04
"""Limits that differ by less than this, in logarithms, are not worth a move (taste)."""
SAME_SIDE_RATIO = 3.0
"""Probe one side twice in a row if it lies this many times as far away as the other (taste)."""
MAX_STEP_DOWN_LOG = math.log(4)
"""The greatest step down, in logarithms (taste)."""
MAX_STEP_UP_LOG = math.log(2)
"""The greatest step up, in logarithms (taste)."""
MAX_PROBE_UP_LOG = math.log(1.4)
"""The greatest probe up, in logarithms: enough to see whether more is possible, and no deep queue
if it is not (tuned)."""
MIN_READING_CALLS = 10
"""The least number of calls in a reading, so that chance does not dominate at small limits
(taste)."""
MIN_READING_ERROR = 0.02
"""The relative error of a reading that no number of calls removes (tuned)."""
MIN_CV_STEADY = 0.1
"""The least scatter to assume for single calls, since a few calls may be alike by chance
(tuned)."""
MIN_CV_ALARMED = 0.5
"""The same in an alarm: the reading is a count, and some of the calls began before the change
(tuned)."""
MAX_TRIPS_AGED = 20.0
"""Round trips after which a reading grows no older, so that a pause forgets little (taste)."""
ALARM_TRIPS = 4.0
"""Round trips after which a reading in an alarm closes, however few calls have ended: with none at
all there is no other way out (taste)."""
MAX_SLOW_STEP_DOWN = 0.5
"""The least factor by which ``max_latency`` lowers the limit in one step (taste)."""


HINT_TRUST = 0.5
"""The part of a hint to start with. If the hint is right, the way up costs 1.5 % of the throughput
of 20 s. A start at the whole hint doubles the p99 if it is eight times too high (both measured)."""


class _Mode(Enum):
    RESTING = "resting"
    PROBING = "probing"
    CLIMBING = "climbing"


@final
class KneeLimit(LimitPolicy):
    """Finds the most calls in flight that still add throughput, and stays there.

    It suits batch jobs and servers alike, and needs no knowledge of the service: now and
    then it tries a few calls more or fewer for a moment, and measures what they change. The
    limit is a whole number. Give ``max_latency`` if more than a few clients share one
    service, because each client would mistake the others' queue for slowness and creep up.

    Args:
      initial: the limit to start with, in calls.
      minimum: the limit never goes below it.
      maximum: the limit never goes above it.
      max_latency: mean latency in seconds that you do not want to exceed, even if
        throughput would gain by it.
      hint: a limit that was right in an earlier run. It is checked before it is trusted: the
        policy starts at half of it, in place of ``initial``. ``None`` for no hint.
    """

    def __init__(
        self,
        initial: float = 20,
        *,
        minimum: int = 1,
        maximum: int = 1000,
        max_latency: float = math.inf,
        hint: float | None = None,
    ) -> None:
        reason: Mapping[str, object] = {"reason": "initial"}
        if hint is not None:
            if not hint >= 1:
                raise ValueError(f"hint must be a limit of 1 or more, or None, not {hint!r}")
            initial = clamped(hint * HINT_TRUST, minimum, maximum)
            reason = {"reason": "hint", "hint": hint}
        check_bounds(initial, minimum, maximum)
        self._minimum, self._maximum, self._max_latency = minimum, maximum, max_latency
        self._limit = self._home = int(initial)
        self._mode, self._upwards, self._max_step_up = _Mode.RESTING, True, MAX_STEP_UP_LOG
        self._probed_from = 0  # the limit to which a probe may return in one step
        self._meter = Meter()
        self._belief, self._stall, self._bracket = (
            Belief(maximum),
            StallDetector(),
            RefusalBracket(),
        )
        self._latest: Reading | None = None
        self._before_alarm: Reading | None = None
        self._learned, self._last_end = 0.0, -math.inf
        self._why: Mapping[str, object] = reason

    @property
    def limit(self) -> float:
        """The limit now proposed, in calls."""
        return self._limit

    def why(self) -> Mapping[str, object]:
        """Return the last decision: its reason, the limit before and after, the figures."""
        return self._why

    def on_start(self, now: float, in_flight: int) -> None:
        """Record that a call starts."""
        self._meter.on_start(now, in_flight)

    def on_finish(self, sample: Sample) -> None:
        """Record that a call has ended, and decide if it completes a reading."""
        if sample.outcome is Outcome.SUCCESS:
            self._on_success(sample.end, sample.weight)
        self._meter.on_finish(sample)
        if sample.outcome is Outcome.OVERLOADED and sample.start >= self._meter.changed:
            self._on_refusal(sample)

    def _on_success(self, now: float, weight: int) -> None:
        # Readings begin and end between two instants at which calls finish. Otherwise a server
        # that answers in batches would be read in the middle of a batch.
        if now > self._last_end:
            self._advance(now)
        self._last_end = now
        self._stall.finished += weight
        self._bracket.on_success()

    def on_tick(self, now: float, in_flight: int, waiting: int) -> None:
        """Watch for calls that are missing."""
        self._meter.on_tick(now)
        if (before := self._before_alarm) is not None:
            if now - self._meter.opened >= ALARM_TRIPS * READING_AGES * before.age:
                self._close(now)
            return
        cv = self._meter.latency.cv
        missing = self._stall.missing(now, self._latest, self._limit, in_flight, cv)
        if missing:
            self._before_alarm, self._mode = self._latest, _Mode.RESTING
            self._explain("overdue", self._limit, missing=missing)
            self._meter.open(now)

    # Readings.

    def _advance(self, now: float) -> None:
        alarmed, long_enough = self._before_alarm is not None, self._meter.long_enough(now)
        if self._meter.settling:
            if long_enough:
                self._settled(now)
            return
        enough_calls = self._meter.calls >= max(MIN_READING_CALLS, self._limit)
        if enough_calls and (alarmed or long_enough):
            self._close(now)

    def _settled(self, now: float) -> None:
        self._bracket.accept(self._limit)
        if self._mode is _Mode.CLIMBING:
            self._climb(now)
        else:
            self._meter.open(now)

    def _close(self, now: float) -> None:
        reading, before, self._before_alarm = self._meter.read(now), self._before_alarm, None
        if misfit := reading.misfit(self._limit):
            self._move_to(now, self._home, _Mode.RESTING, misfit, in_flight=reading.in_flight)
        elif before is not None:
            self._learn(now, reading.counted(before), MIN_CV_ALARMED)
            self._probe_slower_or_smaller(now, reading.rate / before.rate)
        else:
            if self._latest is None:  # all calls began together, so the quick ones ended first
                reading = reading.counted(reading)
            self._learn(now, reading, MIN_CV_STEADY)
            self._decide(now, reading)

    def _learn(self, now: float, reading: Reading, min_cv: float) -> None:
        error = MIN_READING_ERROR + self._error(reading, min_cv)
        trips = min(MAX_TRIPS_AGED, (now - self._learned) / reading.latency)
        rounds = max(1.0, reading.calls / reading.in_flight)
        cv, skew = self._meter.latency.cv, self._meter.latency.skew
        self._belief.update(
            reading.in_flight, reading.location, error=error, rounds=rounds, trips=trips, skew=skew
        )
        self._belief.update_order(reading.in_flight, reading.overtaken, cv, reading.placed)
        if self._latest is not None:  # one reading alone does not show where the knee is
            tail = HOME_TAIL / (1 + HOME_TAIL_PER_CV * cv)
            self._home = self._within_reach(self._belief.quantile(1 - tail), reading)
        self._latest, self._learned = reading, now

    def _error(self, reading: Reading, min_cv: float) -> float:
        """Return the relative error of a reading, assuming at least this scatter of calls."""
        return reading.error(max(min_cv, self._meter.latency.error))

    # Decisions.

    def _decide(self, now: float, reading: Reading) -> None:
        doubted = self._doubted()
        probe = self._next_probe(*doubted, reading)
        evidence = {"knee": doubted, "in_flight": reading.in_flight, "latency": reading.location}
        least = max(SAME_LIMIT_LOG, self._log_distance(self._home))
        if self._bracket.is_next(self._limit) and self._bracket.is_due(now):
            self._raise(now, 1)
        elif self._mode is _Mode.PROBING or self._log_distance(probe) < least:
            self._move_to(now, self._home, _Mode.RESTING, "home", **evidence)
        else:
            self._upwards = probe > self._limit
            reason = "looking up" if self._upwards else "looking down"
            self._move_to(now, probe, _Mode.PROBING, reason, **evidence)

    def _probe_slower_or_smaller(self, now: float, pace: float) -> None:
        """Probe the limit that would be enough for the rest of the pace.

        There a smaller service is no slower than before, and a slower one is.
        """
        probe = round(self._limit * min(1.0, pace))
        self._move_to(now, probe, _Mode.PROBING, "slower or smaller?", pace=pace)

    def _doubted(self) -> tuple[float, float]:
        """Return the limits between which the knee probably is, as far as certainty pays."""
        tail = PROBE_TAIL + 1 / self._limit
        low = self._belief.quantile(min(MAX_PROBE_TAIL_BELOW, tail))
        return low, self._belief.quantile(1 - min(MAX_PROBE_TAIL_ABOVE, tail))

    def _next_probe(self, low: float, high: float, reading: Reading) -> int:
        """Return the limit to probe next: on the other side in turn, unless it is not in doubt."""
        down = self._within_reach(low, reading)
        up = self._within_reach(self._peek(high, reading), reading)
        this, other = (down, up) if self._upwards else (up, down)
        least = max(SAME_LIMIT_LOG, self._log_distance(other) / SAME_SIDE_RATIO)
        return this if self._log_distance(this) >= least else other

    def _peek(self, knee: float, reading: Reading) -> float:
        """Return the limit to probe above: no deep queue, and a difference clear of chance."""
        if round(knee) <= self._limit:
            return knee
        clear = self._up_by(self._error(reading, MIN_CV_STEADY))
        return min(max(knee, clear), self._up_by(MAX_PROBE_UP_LOG))

    def _log_distance(self, limit: int) -> float:
        return abs(math.log(limit / self._limit))

    def _within_reach(self, aim: float, reading: Reading) -> int:
        """Return the limit nearest to ``aim`` that one step may reach."""
        highest = min(
            max(self._up_by(self._max_step_up), self._probed_from),
            self._limit * max(MAX_SLOW_STEP_DOWN, self._max_latency / reading.latency),
            self._bracket.refused - 1,
        )
        return self._bounded(max(self._limit * math.exp(-MAX_STEP_DOWN_LOG), min(aim, highest)))

    def _up_by(self, logarithm: float) -> float:
        return max(self._limit + 1, self._limit * math.exp(logarithm))

    def _bounded(self, limit: float) -> int:
        return round(clamped(limit, self._minimum, self._maximum))

    def _move_to(self, now: float, to: int, mode: _Mode, reason: str, **figures: object) -> None:
        before, self._limit, self._mode = self._limit, self._bounded(to), mode
        self._probed_from = before if mode is _Mode.PROBING else 0
        self._explain(reason, before, **figures)
        if self._limit == before and mode is not _Mode.CLIMBING:
            self._meter.open(now)
            return
        if self._limit > before:
            self._max_step_up = min(MAX_STEP_UP_LOG, 2 * self._max_step_up)
        self._bracket.on_move()
        self._meter.settle(now, self._limit)

    def _explain(self, reason: str, before: int, **figures: object) -> None:
        self._why = {"reason": reason, "before": before, "after": self._limit, **figures}

    # Overload.

    def _on_refusal(self, sample: Sample) -> None:
        if not self._bracket.on_refusal():
            return
        now = sample.end
        slow = sample.latency > self._meter.age(now)
        factor = SLOW_CUT_FACTOR if slow else CUT_FACTOR
        self._home = self._bounded(self._bracket.cut(self._limit, now, factor))
        if slow:  # the belief did not foresee it
            self._belief, self._latest, self._before_alarm = Belief(self._maximum), None, None
        else:
            self._max_step_up = 1 / math.sqrt(self._limit)
        mode = _Mode.RESTING if slow else _Mode.CLIMBING
        self._move_to(now, self._home, mode, "overloaded", ceiling=self._bracket.refused)

    def _raise(self, now: float, step: int) -> None:
        self._bracket.step = step
        aim, known = self._limit + step, self._bracket.refused
        self._move_to(now, aim, _Mode.CLIMBING, "testing the ceiling", ceiling=known)

    def _climb(self, now: float) -> None:
        step = self._bracket.next_step(self._limit)
        if step is not None and self._limit < self._maximum:
            self._raise(now, step)
        else:
            self._home, self._mode = self._limit, _Mode.RESTING
            self._meter.open(now)
