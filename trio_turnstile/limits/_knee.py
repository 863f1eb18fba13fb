"""Find the knee of a service's throughput by small probes.

As calls in flight rise, throughput first rises in step, then stops: that is the knee, and
the right limit is just above it. Below the knee a tenth fewer calls in flight cost a tenth
of the throughput; above it they cost nothing. So *try*: change the limit a little for a
moment, compare, and change it back or keep it. No latency is ever learned as "normal", hence
none can be learned wrongly.

What is measured is told in `_finding`, how long a probe is in `_tempo`. The law:

1. *Rest* at home, the limit thought best, and read; the calmer things are, the longer.
2. *Probe down*. Gain near 1: every token is needed, so probe up at once, and for a while no
   more down. Near 0: keep, and go on down. Between: home moves to the knee, plus headroom of
   scatter * sqrt(knee) calls (square-root staffing: enough that chance idles no worker).
3. *Probe up*. It pays: keep, and go on up. It does not: home moves to the knee.
4. *Check* when calls grow old (`_drought`) or when the pace at home jumps: read afresh, and
   if throughput has fallen, probe straight down to where it would now suffice. Where it falls
   slowly (`_baseline`), that is taken off what a probe shows.
5. *Overload answers* cut the limit at once, without a reading, once per cohort of calls, and
   make a ceiling (`_ceiling`): approached by halves, later tested again by single calls.
6. While a limit is not used or not kept to (as in shadow mode) nothing is learned or moved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from typing import final

from ._baseline import Baseline
from ._ceiling import CUT, DROWNED, Ceiling
from ._drought import Drought
from ._finding import DEEPEST, SLOWED, Finding, compare
from ._meter import AGES, Meter, Reading
from ._moving import check_bounds
from ._protocol import Outcome, Sample
from ._tempo import LONGEST, Tempo, calls_needed, shortest


class _Doing(Enum):
    RESTING = "resting"
    CHECKING = "checking"
    PROBING = "probing"
    CLIMBING = "climbing"


@final
class KneeLimit:
    """Finds the most calls in flight that still add throughput, and stays just above.

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
        self._doing = _Doing.RESTING
        self._meter = Meter()
        self._meter.settle(0.0, self._limit)
        self._baseline = Baseline()
        self._needed, self._last_end = 0.0, -math.inf
        self._tempo, self._drought, self._ceiling = Tempo(), Drought(), Ceiling()
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
        """Watch for calls that grow old."""
        self._meter.on_tick(now)
        latest, checking = self._baseline.latest, self._doing is _Doing.CHECKING
        missing = self._drought.noticed(now, latest, self._limit, in_flight)
        if missing and not checking:
            self._check(now, "overdue", **missing)
        elif checking and latest and now - self._meter.opened >= 4 * AGES * latest.age:
            self._close(now)

    def _advance(self, now: float) -> None:
        hasty = self._doing is _Doing.CHECKING
        if self._meter.settling:
            if self._meter.long_enough(now):
                self._settled(now)
        elif self._meter.calls >= self._needed and (hasty or self._meter.long_enough(now)):
            self._needed = self._calls_needed()  # the scatter is better known by now
            if self._meter.calls >= self._needed:
                self._close(now)

    def _settled(self, now: float) -> None:
        self._ceiling.prove(self._limit)
        if self._doing is _Doing.CLIMBING:
            self._climb(now)
        else:
            self._read(now)

    def _read(self, now: float) -> None:
        self._meter.open(now)
        self._needed = self._calls_needed()

    def _calls_needed(self) -> float:
        return calls_needed(self._step(), self._limit, self._meter.spread())

    def _step(self) -> float:
        if self._doing is _Doing.CHECKING:
            return LONGEST
        if self._doing is _Doing.PROBING:
            return abs(math.log(self._limit / self._home))
        return self._tempo.stride

    def _close(self, now: float) -> None:
        reading = self._meter.read(now)
        if misfit := reading.misfit(self._limit):
            self._tempo.calm = 0
            self._rest(now, self._home, misfit, in_flight=reading.in_flight)
            return
        former, self._baseline.latest = self._baseline.latest, reading
        if reading.latency > self._max_latency and self._limit > self._lower:
            self._too_slow(now, reading)
        elif self._doing is _Doing.PROBING and self._baseline.present is not None:
            self._judge(now, self._baseline.present, reading)
        elif self._doing is _Doing.CHECKING and former is not None:
            self._checked(now, former, reading)
        else:
            self._rested(now, reading)

    def _too_slow(self, now: float, reading: Reading) -> None:
        aim = self._limit * max(0.5, self._max_latency / reading.latency)
        self._tempo.disturb(up=False)
        self._rest(now, min(self._limit - 1, aim), "too slow", latency=reading.latency)

    def _move(self, now: float, to: float, doing: _Doing, reason: str, **figures: object) -> None:
        before, self._limit, self._doing = self._limit, self._bounded(to), doing
        self._explain(reason, before, **figures)
        if self._limit == before and doing is not _Doing.CLIMBING:
            self._read(now)
            return
        self._ceiling.moved()
        self._meter.settle(now, self._limit)

    def _explain(self, reason: str, before: int, **figures: object) -> None:
        self._why = {"reason": reason, "before": before, "after": self._limit, **figures}

    def _bounded(self, limit: float) -> int:
        return round(min(self._upper, max(self._lower, limit)))

    def _rest(self, now: float, limit: float, reason: str, **figures: object) -> None:
        self._baseline.begin()
        self._home = self._bounded(limit)
        self._move(now, self._home, _Doing.RESTING, reason, **figures)

    def _shortest(self) -> float:
        return shortest(self._home, self._meter.scatter)

    # At rest, and what ends it.

    def _rested(self, now: float, reading: Reading) -> None:
        known = self._baseline.contradicted(reading, self._meter.scatter)
        if known is not None:
            self._check(now, "changed", pace=(known.pace, reading.pace))
            return
        base = self._baseline.add(reading, self._meter.scatter)
        if self._ceiling.near(self._home) and self._ceiling.due(now):
            self._raise(now, 1)
        elif base.seconds < self._tempo.rest(self._shortest()):
            self._read(now)
        elif self._tempo.up:
            self._probe_up(now, base)
        else:
            self._probe_down(now, base)

    def _check(self, now: float, reason: str, **figures: object) -> None:
        self._home, self._doing = self._limit, _Doing.CHECKING
        self._tempo.disturb(up=False)
        self._explain(reason, self._limit, **figures)
        self._read(now)

    def _checked(self, now: float, former: Reading, reading: Reading) -> None:
        ratio = reading.rate / former.rate
        base = self._baseline.present = reading.at_pace(former.pace * ratio)
        self._doing = _Doing.RESTING
        self._tempo.stride = self._shortest()
        if ratio < SLOWED and self._home > self._lower:
            self._probe(now, self._home * max(DEEPEST, ratio), "slower or smaller?", ratio=ratio)
        elif ratio > 1:
            self._probe_up(now, base)
        else:
            self._read(now)

    # Probes.

    def _probe_down(self, now: float, base: Reading) -> None:
        if self._home > self._lower:
            aim = min(self._home - 1, self._home * math.exp(-self._tempo.down()))
            self._probe(now, aim, "probe down")
        else:
            self._probe_up(now, base)

    def _probe_up(self, now: float, base: Reading) -> None:
        aim = self._bounded(max(self._home + 1, self._home * math.exp(self._tempo.stride)))
        halfway = self._ceiling.halfway(self._home)
        if aim <= self._home or base.latency > 0.9 * self._max_latency:
            self._stay_below(now, "at the maximum")
        elif aim < self._ceiling.value:
            self._probe(now, aim, "probe up")
        elif halfway is not None:
            self._raise(now, halfway - self._home)
        else:
            self._stay_below(now, "at the ceiling")

    def _stay_below(self, now: float, reason: str) -> None:
        self._tempo.stay(self._home)
        self._rest(now, self._home, reason)

    def _probe(self, now: float, limit: float, reason: str, **figures: object) -> None:
        self._tempo.began = now
        self._move(now, limit, _Doing.PROBING, reason, **figures)

    def _judge(self, now: float, base: Reading, reading: Reading) -> None:
        self._tempo.seconds = now - self._tempo.began
        found = compare(base, reading, self._meter.scatter, self._baseline.drift)
        if not found.plausible:
            self._baseline.latest = base
            self._changed(now, found)
        elif found.step > 0:
            self._judge_up(now, found)
        else:
            self._judge_down(now, found)

    def _changed(self, now: float, found: Finding) -> None:
        if found.step > 0 > found.gain:  # never follow upwards a service that is failing
            self._tempo.disturb(up=False)
            self._rest(now, self._home, "changed", **found.figures())
        else:
            self._check(now, "changed", **found.figures())

    def _judge_up(self, now: float, found: Finding) -> None:
        if not found.pays:
            self._home_in(now, "enough", found)
            self._tempo.turn(self._home)
        elif not found.needed:
            self._tempo.lengthen(found.step, up=True)
            self._rest(now, found.aim, "more", **found.figures())
        else:
            self._tempo.lengthen(found.step, up=True)
            self._keep("more", found)
            self._probe_up(now, found.probe)

    def _judge_down(self, now: float, found: Finding) -> None:
        if found.needed:
            self._tempo.shorten(self._shortest())
            self._tempo.proven = self._home
            self._probe_up(now, found.base)
        elif found.idle:
            self._tempo.lengthen(-found.step, up=False)
            self._keep("less", found)
            self._probe_down(now, found.probe)
        else:
            self._home_in(now, "knee", found)
            self._tempo.lean(found.gain)

    def _keep(self, reason: str, found: Finding) -> None:
        before, self._home, self._baseline.present = self._home, self._limit, found.probe
        self._explain(reason, before, **found.figures())

    def _home_in(self, now: float, reason: str, found: Finding) -> None:
        move = abs(math.log(self._bounded(found.aim) / self._home))
        near = self._tempo.arrive(self._shortest(), abs(found.step), move)
        # Two findings are better than one: a near one moves home half the way.
        aim = math.sqrt(found.aim * self._home) if near else found.aim
        self._rest(now, aim, reason, **found.figures())

    # Overload.

    def _refused(self, sample: Sample) -> None:
        if not self._ceiling.refused():
            return
        now = sample.end
        slow = sample.latency > self._meter.age(now)
        back = self._bounded(self._ceiling.cut(self._limit, now, DROWNED if slow else CUT))
        self._baseline.forget()
        if back != self._home:
            self._tempo.disturb(up=False)
        self._home = back
        doing = _Doing.RESTING if slow else _Doing.CLIMBING
        self._tempo.stride = LONGEST if slow else self._shortest()
        self._move(now, back, doing, "overloaded", ceiling=self._ceiling.value)

    def _raise(self, now: float, step: int) -> None:
        self._baseline.begin()
        self._ceiling.step = step
        aim, known = self._home + step, self._ceiling.value
        self._move(now, aim, _Doing.CLIMBING, "testing the ceiling", ceiling=known)

    def _climb(self, now: float) -> None:
        self._home = self._limit
        step = self._ceiling.next_step(self._home)
        if step is not None and self._home < self._upper:
            self._raise(now, step)
        else:
            self._doing = _Doing.RESTING
            if self._ceiling.value == math.inf:
                self._tempo.disturb(up=True)
            else:
                self._tempo.turn(self._home)
            self._read(now)
