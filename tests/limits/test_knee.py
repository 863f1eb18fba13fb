"""The decisions of `KneeLimit`, one situation at a time."""

from __future__ import annotations

import math
import random
import time

import pytest

from trio_turnstile.limits import KneeLimit, Outcome, Sample
from trio_turnstile.limits._baseline import Baseline
from trio_turnstile.limits._ceiling import CALLS, HOLD, Ceiling
from trio_turnstile.limits._finding import compare
from trio_turnstile.limits._meter import Meter, Reading
from trio_turnstile.limits._tempo import LONGEST, Tempo
from trio_turnstile.testing import SINE, Client, Scenario, Server, Steps, simulate


def settled_limit(
    policy: KneeLimit, server: Server, duration: float = 30.0, **client: float
) -> float:
    """The median limit over the last half of a simulated run."""
    scenario = Scenario(name="", server=server, duration=duration, clients=(Client(**client),))
    limits = sorted(
        point.limits[0] for point in simulate(policy, scenario, seed=7).trace[-int(5 * duration) :]
    )
    return limits[len(limits) // 2]


@pytest.mark.parametrize("workers", [4, 40, 160])
def test_finds_the_knee_from_below_and_above(workers: int) -> None:
    """Whatever the start, the limit ends just above the capacity."""
    for initial in (1, 20, 5 * workers):
        limit = settled_limit(KneeLimit(initial), Server(workers=workers), duration=60.0)
        assert 0.85 * workers <= limit <= 1.4 * workers + 1


def test_tells_slower_from_smaller() -> None:
    """Latency doubles in both cases; the limit halves in one alone."""
    slower = Server(service_time=Steps(0.1, ((15, 0.2),)))
    smaller = Server(workers=Steps(40, ((15, 20),)))
    assert settled_limit(KneeLimit(), slower, 40.0) > 34
    assert settled_limit(KneeLimit(), smaller, 40.0) < 26


def test_holds_still_while_not_in_use() -> None:
    """At 50 calls per second of 0.1 s each a limit of 20 never binds, and nothing moves it."""
    scenario = Scenario(name="", clients=(Client(arrivals=50),), duration=60.0)
    result = simulate(KneeLimit(), scenario, seed=1)
    assert {point.limits[0] for point in result.trace[100:]} == {20}


def test_always_moves_by_at_least_one() -> None:
    """From 1 upwards: the smallest probe is a whole call."""
    assert settled_limit(KneeLimit(1), Server(workers=3), 60.0) >= 2


def test_keeps_under_a_latency_ceiling() -> None:
    """More throughput is not bought by a latency that the user does not want."""
    server = Server(workers=100, queue=math.inf)
    free = settled_limit(KneeLimit(), server, 40.0)
    bound = settled_limit(KneeLimit(max_latency=0.05), server, 40.0)
    assert free > 80
    assert bound == 1


def test_one_cut_per_cohort() -> None:
    """Twenty refusals of calls admitted at the same limit cut once."""
    policy = KneeLimit()
    for i in range(20):
        policy.on_start(0.0, i + 1)
    for i in range(20):
        policy.on_finish(Sample(0.0, 0.01 + i / 1000, i + 1, Outcome.OVERLOADED))
    assert policy.limit == 18
    assert policy.why()["reason"] == "overloaded"


def test_time_outs_halve_and_are_not_climbed_back_to() -> None:
    """A service that drowns at the start, where every call times out, is left to breathe."""
    server = Server(workers=2, service_time=0.05, collapse=0.5)
    assert settled_limit(KneeLimit(), server, 60.0, timeout=2.5) <= 3


def test_a_large_quota_is_kept_to() -> None:
    """One call too many among hundreds is refused again and again, and is given up."""
    server = Server(workers=400, service_time=0.2, queue=0)
    scenario = Scenario(name="", server=server, duration=60.0)
    result = simulate(KneeLimit(), scenario, seed=1)
    assert result.throughput >= 0.9
    assert result.rejected <= 0.02


def test_rare_failures_are_no_overload() -> None:
    """Three failures in a hundred, at any load, do not bring the limit down."""
    limit = settled_limit(KneeLimit(), Server(errors=0.03), 40.0)
    assert limit > 30


def test_a_stall_is_noticed_by_what_does_not_finish() -> None:
    """All but two workers stop: within 2 s the limit is down, long before calls time out."""
    scenario = Scenario(name="", server=Server(workers=Steps(40, ((20, 2),))), duration=25.0)
    trace = simulate(KneeLimit(), scenario, seed=3).trace
    assert min(point.limits[0] for point in trace if 20 < point.time < 22) <= 5


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_follows_a_capacity_that_drifts(seed: int) -> None:
    """Down from 60 to 20 in a minute and up again: behind at times, but not three times over."""
    trace = simulate(KneeLimit(), SINE, seed=seed).trace
    beyond = sorted(point.limits[0] / point.capacity for point in trace[300:])
    assert beyond[len(beyond) // 2] < 1.2
    assert beyond[9 * len(beyond) // 10] < 3


def test_after_a_stall_the_pace_is_that_of_what_ends() -> None:
    """The calls that end at first are the quick ones: their latencies tell too much."""
    reading = read(pace=100.0, in_flight=20.0)
    known = reading.at_pace(50.0)
    assert known.pace == pytest.approx(50)
    assert known.in_flight == reading.in_flight


def test_explains_itself() -> None:
    """The evidence of a move holds the figures it rests on."""
    policy, reasons = KneeLimit(), set[object]()
    now, running = 0.0, list[tuple[float, int]]()
    rng = random.Random(1)
    for _ in range(2000):
        while len(running) < int(policy.limit):
            running.append((now, len(running) + 1))
            policy.on_start(now, len(running))
        now += 0.1 / min(len(running), 30) * rng.uniform(0.8, 1.2)
        start, in_flight = running.pop(0)
        policy.on_finish(Sample(start, now, in_flight))
        reasons.add(policy.why()["reason"])
    assert {"probe down", "probe up", "enough"} <= reasons
    assert {"before", "after"} <= set(policy.why())


@pytest.mark.slow
def test_a_sample_costs_little() -> None:
    """At most 20 microseconds for start and finish together; the best of five runs."""

    def seconds_per_call() -> float:
        policy, count = KneeLimit(), 20_000
        begin = time.perf_counter()
        for i in range(count):
            policy.on_start(i / 1000, 20)
            policy.on_finish(Sample(i / 1000 - 0.02, i / 1000, 20))
        return (time.perf_counter() - begin) / count

    assert min(seconds_per_call() for _ in range(5)) < 20e-6


def read(*, pace: float, in_flight: float, calls: int = 400, middle: float = 0.0) -> Reading:
    """A reading of two seconds, with a latency as Little's law has it."""
    latency = in_flight / pace
    return Reading(
        calls=calls,
        stood_for=calls,
        middle=middle,
        seconds=2.0,
        in_flight=in_flight,
        latency=latency,
        typical=latency,
        age=latency / 2,
    )


class TestBaseline:
    def test_drift_is_the_fall_between_two_rests(self) -> None:
        """A tenth less after 5 s: two hundredths a second, in logarithms."""
        baseline = Baseline()
        baseline.add(read(pace=100, in_flight=20), scatter=0.3)
        assert baseline.drift == 0.0
        baseline.begin()
        baseline.add(read(pace=90, in_flight=20, middle=5.0), scatter=0.3)
        assert baseline.drift == pytest.approx(math.log(0.9) / 5)

    @pytest.mark.parametrize(
        ("pace", "in_flight"),
        [(98, 20), (90, 22), (110, 20)],
        ids=["by chance", "at another limit", "a rise"],
    )
    def test_what_is_no_drift(self, pace: float, in_flight: float) -> None:
        """A fall that chance explains, or the limit; and a rise, which may be followed."""
        baseline = Baseline()
        baseline.add(read(pace=100, in_flight=20), scatter=0.3)
        baseline.begin()
        baseline.add(read(pace=pace, in_flight=in_flight, middle=5.0), scatter=0.3)
        assert baseline.drift == 0.0

    def test_a_jump_contradicts_what_is_known(self) -> None:
        """Even if it was known from the rest before; not after all was forgotten."""
        baseline, halved = Baseline(), read(pace=50, in_flight=20, middle=5.0)
        known = baseline.add(read(pace=100, in_flight=20), scatter=0.3)
        baseline.begin()
        assert baseline.contradicted(halved, scatter=0.3) is known
        baseline.forget()
        assert baseline.contradicted(halved, scatter=0.3) is None


class TestFinding:
    def test_drift_is_none_of_the_probes_doing(self) -> None:
        """A tenth fewer calls in flight, and 4 % less pace while 4 % go by themselves: no gain."""
        base, probe = read(pace=100, in_flight=40), read(pace=96, in_flight=36, middle=2.0)
        drift = math.log(0.96) / 2
        assert compare(base, probe, scatter=0.3).gain == pytest.approx(0.39, abs=0.01)
        assert compare(base, probe, scatter=0.3, drift=drift).gain == pytest.approx(0)


class TestTempo:
    @pytest.mark.parametrize(
        ("gain", "calm", "up"), [(0.7, 0, True), (0.4, 0, False), (0.4, 2, True), (0.2, 2, False)]
    )
    def test_which_way_after_a_probe_down(self, gain: float, calm: int, up: bool) -> None:
        """Up where every call counts; when calm, up too unless a queue is likely."""
        tempo = Tempo()
        tempo.calm = calm
        tempo.lean(gain)
        assert tempo.up is up

    def test_a_gain_that_asks_for_more_is_not_waited_upon(self) -> None:
        """However calm it was."""
        tempo = Tempo()
        tempo.calm = 5
        tempo.lean(0.7)
        assert tempo.calm == 1

    @pytest.mark.parametrize(
        ("step", "move", "stride", "near"),
        [(0.1, 0.05, 0.08, True), (0.1, 0.4, 0.2, False), (0.6, 0.2, 0.3, False)],
        ids=["near", "a far move", "a far probe"],
    )
    def test_what_is_in_doubt_is_the_next_stride(
        self, step: float, move: float, stride: float, near: bool
    ) -> None:
        """Half of how far home moves, or of how far a deep probe went; never under the least."""
        tempo = Tempo()
        tempo.stride, tempo.searching = 0.1, False
        assert tempo.arrive(0.08, step, move) is near
        assert tempo.stride == pytest.approx(stride)
        assert tempo.calm == near

    def test_the_search_ends_when_the_knee_is_seen(self) -> None:
        """Until then it goes down by a quarter at a time."""
        tempo = Tempo()
        assert tempo.down() == 2 * LONGEST
        tempo.arrive(0.1, LONGEST, 0.3)
        assert tempo.down() == tempo.stride < LONGEST


class TestCeiling:
    def test_returns_by_halves(self) -> None:
        """40 was refused, 20 accepted: 30 is next; 30 refused: 25."""
        ceiling = Ceiling()
        ceiling.prove(20)
        assert ceiling.cut(40, now=1.0) == 20
        assert ceiling.halfway(20) == 30
        assert ceiling.cut(30, now=2.0) == 20
        assert ceiling.halfway(20) == 25

    def test_the_proven_limit_gives_way_by_a_tenth(self) -> None:
        """And always by at least one, never below one."""
        ceiling = Ceiling()
        ceiling.prove(50)
        assert [ceiling.cut(50, 1.0), ceiling.cut(45, 1.1)] == [45, 40]
        assert [ceiling.cut(2, 1.2), ceiling.cut(1, 1.3)] == [1, 1]

    def test_is_tested_after_a_hold_and_enough_calls(self) -> None:
        """Neither time nor calls alone."""
        ceiling = Ceiling()
        ceiling.prove(20)
        ceiling.cut(21, now=0.0)
        assert ceiling.near(20)
        assert not ceiling.due(HOLD)
        for _ in range(CALLS):
            ceiling.succeeded()
        assert not ceiling.due(HOLD / 2)
        assert ceiling.due(HOLD)

    def test_passing_it_forgets_it(self) -> None:
        """A quota that grew."""
        ceiling = Ceiling()
        ceiling.prove(20)
        ceiling.cut(21, now=0.0)
        ceiling.prove(21)
        assert ceiling.value == math.inf


class TestMeter:
    def test_reads_littles_law(self) -> None:
        """Two calls of 1 s, always in flight: rate 2, in flight 2, latency 1, age a half."""
        meter = Meter()
        meter.on_start(0.0, 1)
        meter.on_start(0.0, 2)
        meter.open(0.0)
        for second in range(1, 6):
            for _ in range(2):
                meter.on_finish(Sample(second - 1.0, float(second), 2))
            for n in range(2):
                meter.on_start(float(second), n + 1)
        reading = meter.read(5.0)
        assert reading.calls == 10
        assert reading.in_flight == pytest.approx(2)
        assert reading.latency == pytest.approx(1)
        assert reading.rate == pytest.approx(reading.pace) == pytest.approx(2)
        assert reading.age == pytest.approx(0.5)
