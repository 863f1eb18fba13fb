"""The decisions of `KneeLimit`, one situation at a time."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterable
from statistics import fmean, stdev

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_turnstile.limits import KneeLimit, Outcome, Sample
from trio_turnstile.limits._knee.belief import Belief
from trio_turnstile.limits._knee.latency import LatencyEstimator
from trio_turnstile.limits._knee.meter import Meter, Reading
from trio_turnstile.limits._knee.refusals import RETEST_CALLS, RETEST_SECONDS, RefusalBracket
from trio_turnstile.limits._knee.stall import StallDetector
from trio_turnstile.simulation import SINE, Client, Result, Scenario, Server, Steps, simulate


def settled_limit(
    policy: KneeLimit, server: Server, duration: float = 30.0, **client: float
) -> float:
    """The median limit over the last half of a simulated run."""
    scenario = Scenario(name="", server=server, duration=duration, clients=(Client(**client),))
    limits = sorted(
        point.limits[0] for point in simulate(policy, scenario, seed=7).trace[-int(5 * duration) :]
    )
    return limits[len(limits) // 2]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [4, 40, 160])
def test_finds_the_knee_from_below_and_above(workers: int) -> None:
    """Whatever the start, the limit ends just above the capacity."""
    for initial in (1, 20, 5 * workers):
        limit = settled_limit(KneeLimit(initial), Server(workers=workers), duration=60.0)
        assert 0.85 * workers <= limit <= 1.4 * workers + 1


def first_seconds(policy: KneeLimit, workers: int) -> Result:
    """The figures of the first 20 s, the start included."""
    server = Server(workers=workers)
    return simulate(policy, Scenario(name="", server=server, duration=20, warm_up=0), seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [20, 60, 160])
def test_a_right_hint_is_checked_for_less_than_three_per_cent(workers: int) -> None:
    """The way up from half of the hint costs little, and less than a start without a hint."""
    trusted = first_seconds(KneeLimit(workers), workers).throughput
    checked = first_seconds(KneeLimit(hint=workers), workers).throughput
    assert checked > 0.97 * trusted
    assert checked > first_seconds(KneeLimit(4), workers).throughput


def test_a_wrong_hint_does_half_the_harm() -> None:
    """If the service has become smaller, the queue is shorter than if the hint were trusted."""
    checked, trusted = (
        first_seconds(policy, 20) for policy in (KneeLimit(hint=160), KneeLimit(160))
    )
    assert checked.p99_ratio < 0.6 * trusted.p99_ratio
    assert checked.throughput > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("workers", [20, 60, 160])
def test_probes_cost_less_than_three_per_cent(workers: int) -> None:
    """Probing costs less than 3 % of the throughput of a service that does not change."""
    scenario = Scenario(name="", server=Server(workers=workers), duration=120)
    assert simulate(KneeLimit(hint=workers), scenario, seed=3).throughput > 0.97


@pytest.mark.parametrize(("hint", "limit"), [(None, 20), (100, 50), (1, 2), (5000, 100), (7, 3)])
def test_a_hint_is_kept_within_the_bounds(hint: float | None, limit: float) -> None:
    """The first limit is half of the hint, unless that is out of bounds."""
    policy = KneeLimit(minimum=2, maximum=100, hint=hint)
    assert policy.limit == limit
    assert policy.why()["reason"] == ("initial" if hint is None else "hint")


@pytest.mark.parametrize("hint", [0, -3, math.nan])
def test_what_is_no_limit_is_no_hint(hint: float) -> None:
    """A hint that is not a limit is refused at once."""
    with pytest.raises(ValueError, match="hint must be a limit of 1 or more"):
        KneeLimit(hint=hint)


@pytest.mark.parametrize("workers", [3, 8, 40])
def test_where_calls_share_the_workers(workers: int) -> None:
    """Calls that share the workers overtake each other, and this does not mislead the policy."""
    server = Server(workers=workers, shared=True)
    assert workers <= settled_limit(KneeLimit(20), server, 60.0) <= 1.2 * workers + 1


def test_tells_slower_from_smaller() -> None:
    """Latency doubles in both cases, and the limit halves only if the service is smaller."""
    slower = Server(service_time=Steps(0.1, ((15, 0.2),)))
    smaller = Server(workers=Steps(40, ((15, 20),)))
    assert settled_limit(KneeLimit(), slower, 40.0) > 34
    assert settled_limit(KneeLimit(), smaller, 40.0) < 26


def test_holds_still_while_not_in_use() -> None:
    """At 50 calls per second of 0.1 s each, a limit of 20 never binds and never moves."""
    scenario = Scenario(name="", clients=(Client(arrivals=50),), duration=60.0)
    result = simulate(KneeLimit(), scenario, seed=1)
    assert {point.limits[0] for point in result.trace[100:]} == {20}


def test_always_moves_by_at_least_one() -> None:
    """From 1 upwards, the smallest probe is a whole call."""
    assert settled_limit(KneeLimit(1), Server(workers=3), 60.0) >= 2


@pytest.mark.slow
def test_growth_is_seen_soon_where_calls_are_few() -> None:
    """Four workers become eight: after 33 round trips on average, the limit is six."""
    server = Server(workers=Steps(4, ((40, 8),)), sigma=0.1)
    scenario = Scenario(name="", server=server, duration=60.0)

    def trips(seed: int) -> float:
        trace = simulate(KneeLimit(), scenario, seed=seed).trace
        return 10 * (next(p.time for p in trace if p.time > 40 and p.limits[0] >= 6) - 40)

    assert fmean(trips(seed) for seed in range(1, 33)) < 33


def test_keeps_under_a_latency_ceiling() -> None:
    """With `max_latency`, the limit stays low even if throughput suffers."""
    server = Server(workers=100, queue=math.inf)
    free = settled_limit(KneeLimit(), server, 40.0)
    bound = settled_limit(KneeLimit(max_latency=0.05), server, 40.0)
    assert free > 80
    assert bound == 1


def test_one_cut_per_cohort() -> None:
    """Twenty refusals of calls admitted at the same limit cut the limit once."""
    policy = KneeLimit()
    for i in range(20):
        policy.on_start(0.0, i + 1)
    for i in range(20):
        policy.on_finish(Sample(0.0, 0.01 + i / 1000, i + 1, Outcome.OVERLOADED))
    assert policy.limit == 18
    assert policy.why()["reason"] == "overloaded"


def test_time_outs_cut_deep_and_are_not_climbed_back_to() -> None:
    """If every call times out at the start, the limit falls far and stays low."""
    server = Server(workers=2, service_time=0.05, collapse=0.5)
    assert settled_limit(KneeLimit(), server, 60.0, timeout=2.5) <= 3


@pytest.mark.parametrize("seed", [3, 4, 6])
def test_probes_up_are_short(seed: int) -> None:
    """A probe never causes a deep queue: it is at most two fifths above home."""
    scenario = Scenario(name="", server=Server(workers=8, collapse=0.5), duration=60.0)
    trace = simulate(KneeLimit(), scenario, seed=seed).trace
    assert max(point.limits[0] for point in trace if point.time > 8.0) <= 13


@pytest.mark.slow
def test_a_large_quota_is_kept_to() -> None:
    """If the service refuses one call among hundreds again and again, the limit falls by one."""
    server = Server(workers=400, service_time=0.2, queue=0)
    scenario = Scenario(name="", server=server, duration=60.0)
    result = simulate(KneeLimit(), scenario, seed=1)
    assert result.throughput >= 0.9
    assert result.rejected <= 0.02


def test_rare_failures_are_no_overload() -> None:
    """Three failures in a hundred at any load do not lower the limit."""
    limit = settled_limit(KneeLimit(), Server(errors=0.03), 40.0)
    assert limit > 30


def test_missing_calls_reveal_a_stall() -> None:
    """If all but two workers stop, the limit falls within 2 s, long before calls time out."""
    scenario = Scenario(name="", server=Server(workers=Steps(40, ((20, 2),))), duration=25.0)
    trace = simulate(KneeLimit(), scenario, seed=3).trace
    assert min(point.limits[0] for point in trace if 20 < point.time < 22) <= 5


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_follows_a_capacity_that_drifts(seed: int) -> None:
    """The limit follows from 60 to 20 in a minute and back, never far behind."""
    trace = simulate(KneeLimit(), SINE, seed=seed).trace
    beyond = sorted(point.limits[0] / point.capacity for point in trace[300:])
    assert beyond[len(beyond) // 2] < 1.3
    assert beyond[9 * len(beyond) // 10] < 2


def test_explains_itself() -> None:
    """The evidence of a move contains the figures behind it."""
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
    assert {"looking down", "looking up", "home"} <= reasons
    assert {"before", "after"} <= set(policy.why())


@pytest.mark.slow
def test_a_sample_costs_little() -> None:
    """Start and finish together take at most 20 microseconds, in the best of five runs."""

    def seconds_per_call() -> float:
        policy, count = KneeLimit(), 20_000
        begin = time.perf_counter()
        for i in range(count):
            policy.on_start(i / 1000, 20)
            policy.on_finish(Sample(i / 1000 - 0.02, i / 1000, 20))
        return (time.perf_counter() - begin) / count

    assert min(seconds_per_call() for _ in range(5)) < 20e-6


def teach(belief: Belief, knee: float, time: float, limits: Iterable[float]) -> None:
    """Update a belief with a reading at each limit, of a service that follows the law."""
    for calls in limits:
        latency = time * max(1.0, calls / knee)
        belief.update(calls, latency, error=0.05, rounds=1.0, trips=3.0, skew=1.0)


class TestBelief:
    @given(st.floats(1.5, 400), st.floats(0.005, 10))
    def test_readings_on_both_sides_tell_the_knee(self, knee: float, time: float) -> None:
        """The median is within a seventh of the knee or three quarters of a call."""
        belief = Belief(1000)
        teach(belief, knee, time, [1.2 * knee, 0.7 * knee] * 20)
        assert abs(belief.quantile(0.5) - knee) <= max(0.75, 0.15 * knee)

    @given(
        st.lists(
            st.tuples(st.floats(1, 1000), st.floats(0.001, 1000), st.floats(0, 1), st.floats(0, 9)),
            max_size=20,
        )
    )
    @example([(68.0, 136.0, 0.0, 0.0), (1.0, 142.0, 0.0, 0.0), (666.0, 137.0, 0.0, 0.0)])
    @example([(2.0, 100.0, 0.0, 0.0), (1.0, 1.0, 0.0, 0.0), *2 * [(1000.0, 100.0, 0.0, 0.0)]])
    @example(20 * [(2.0, 1.0, 0.0, 3.0), (2.0, 1.0, 1.0, 3.0)])
    def test_shares_are_in_order(self, readings: list[tuple[float, float, float, float]]) -> None:
        """Quantiles are ordered and within the grid after any readings."""
        belief = Belief(1000)
        for calls, latency, overtaken, scatter in readings:
            belief.update(calls, latency, error=0.02, rounds=1.0, trips=2.0, skew=1.5)
            belief.update_order(calls, overtaken, scatter, calls=1000)
        knees = [belief.quantile(share) for share in (0.0, 0.1, 0.5, 0.9, 1.0)]
        assert knees == sorted(knees)
        assert 0.5 <= knees[0] <= knees[-1] <= 1200

    def test_one_limit_does_not_show_the_knee(self) -> None:
        """After readings at one limit, the knee may be below or above it."""
        belief = Belief(1000)
        teach(belief, 40, 0.1, [20])
        assert belief.quantile(0.2) < 10
        assert belief.quantile(0.8) > 100

    @pytest.mark.parametrize("slope", [1.0, 1.6])
    def test_learns_how_steeply_a_queue_slows_calls_down(self, slope: float) -> None:
        """Two limits above the knee and one below show both, with contention or without."""
        belief = Belief(1000)
        for calls in [15, 30, 60] * 20:
            latency = 0.1 * max(1.0, calls / 20) ** slope
            belief.update(calls, latency, error=0.02, rounds=2.0, trips=3.0, skew=1.0)
        assert 18 < belief.quantile(0.5) < 22

    def test_a_queue_is_as_long_as_the_mean_of_its_calls(self) -> None:
        """If the mean is twice the location, a short queue delays twice as much."""
        belief = Belief(1000)
        for calls in [14, 24] * 5:
            latency = 0.1 * (1 + 2 * max(0.0, calls / 20 - 1))
            belief.update(calls, latency, error=0.02, rounds=2.0, trips=3.0, skew=2.0)
        assert 19 < belief.quantile(0.1) < belief.quantile(0.9) < 23

    def test_others_may_be_in_a_queue(self) -> None:
        """A short reading of a queue changes little, and a long reading changes much."""
        for rounds, moved in ((1.0, False), (5.0, True)):
            belief = Belief(1000)
            teach(belief, 20, 0.1, [24, 14] * 10)
            belief.update(40, 0.12, error=0.05, rounds=rounds, trips=3.0, skew=1.0)
            assert (belief.quantile(0.5) > 25) is moved

    @pytest.mark.parametrize(
        ("overtaken", "low", "high"), [(0.0, 1, 2), (0.2, 4.5, 5.5), (0.44, 9, 60)]
    )
    def test_the_order_of_ends_tells_the_knee(
        self, overtaken: float, low: float, high: float
    ) -> None:
        """In a line, calls that wait overtake nobody, and calls that are worked on do."""
        belief = Belief(1000)
        teach(belief, 5, 0.1, [7, 3.5] * 10)
        for _ in range(5):
            belief.update_order(7, 0.3, cv=1.0, calls=100)
        # A long time passes, and this reading is imprecise.
        belief.update(10, 0.14, error=0.5, rounds=1.0, trips=200.0, skew=1.0)
        for _ in range(5):
            belief.update_order(10, overtaken, cv=1.0, calls=100)
        assert low < belief.quantile(0.5) < high

    def test_without_a_line_the_order_tells_nothing(self) -> None:
        """If calls share the workers, their order does not change the belief."""
        belief, by_latency = Belief(1000), Belief(1000)
        for calls in [10, 4] * 20:
            teach(belief, 5, 0.1, [calls])
            teach(by_latency, 5, 0.1, [calls])
            belief.update_order(calls, 0.44, cv=1.0, calls=20)
        assert belief.quantile(0.5) == pytest.approx(by_latency.quantile(0.5), rel=0.05)

    def test_a_doubled_latency_may_be_slower_or_smaller(self) -> None:
        """Both hypotheses stay probable until readings at other limits decide."""
        slower, smaller = (Belief(1000) for _ in range(2))
        for belief in (slower, smaller):
            teach(belief, 40, 0.1, [44, 30] * 10)
            teach(belief, 20, 0.1, [40])
            assert belief.quantile(0.1) < 25
            assert belief.quantile(0.9) > 35
        teach(slower, 40, 0.2, [15, 30, 40] * 3)
        teach(smaller, 20, 0.1, [15, 30, 40] * 3)
        assert slower.quantile(0.3) > 35
        assert smaller.quantile(0.7) < 25

    def test_doubt_grows_with_time(self) -> None:
        """After a few hundred round trips the belief is wide enough for another probe."""
        belief = Belief(1000)
        teach(belief, 40, 0.1, [44, 30] * 10)
        sure = belief.quantile(0.8)
        belief.update(40, 0.1, error=0.05, rounds=1.0, trips=300.0, skew=1.0)
        assert belief.quantile(0.8) > 1.3 * sure


class TestStallDetector:
    def test_fires_when_calls_do_not_finish(self) -> None:
        """At half the pace of forty calls of 0.1 s, the detector fires within half a second."""
        stall, normal = StallDetector(), reading(pace=400.0, in_flight=40.0)
        assert not self.watched(stall, normal, pace=400.0, since=0.0, ticks=100)
        assert self.watched(stall, normal, pace=200.0, since=10.0, ticks=5)

    def test_a_pace_read_from_few_calls_is_expected_less_of(self) -> None:
        """At three quarters of the pace it fires only if the pace was well known."""
        for calls, missed in ((800, True), (20, False)):
            normal = attrs.evolve(reading(pace=400.0, in_flight=40.0), calls=calls)
            assert self.watched(StallDetector(), normal, pace=300.0, since=0.0, ticks=40) is missed

    def test_expects_nothing_of_a_limit_not_in_use(self) -> None:
        """No calls are expected before the first reading, nor at a limit that is not in use."""
        stall = StallDetector()
        assert not stall.missing(0.0, None, 40, 40, 0.3)
        normal = reading(pace=400.0, in_flight=40.0)
        assert not any(stall.missing(t / 10, normal, 40, 10, 0.3) for t in range(100))

    def watched(
        self, stall: StallDetector, normal: Reading, *, pace: float, since: float, ticks: int
    ) -> bool:
        noticed = False
        for tick in range(1, ticks + 1):
            stall.finished += round(pace / 10)
            noticed |= stall.missing(since + tick / 10, normal, 40, 40, cv=0.3) > 0
        return noticed


def reading(*, pace: float, in_flight: float, finished: int = 800) -> Reading:
    """A reading of two seconds, with the latency of Little's law."""
    latency = in_flight / pace
    return Reading(
        calls=finished,
        stood_for=finished,
        seconds=2.0,
        in_flight=in_flight,
        latency=latency,
        location=0.9 * latency,
        age=latency / 2,
    )


class TestRefusalBracket:
    def test_returns_by_halves(self) -> None:
        """If 40 was refused and 20 accepted, 30 is next, and after its refusal 25."""
        bracket = RefusalBracket()
        bracket.accept(20)
        assert bracket.cut(40, now=1.0) == 20
        assert bracket.halfway(20) == 30
        assert bracket.cut(30, now=2.0) == 20
        assert bracket.halfway(20) == 25

    def test_the_proven_limit_gives_way_by_a_tenth(self) -> None:
        """A cut of the accepted limit is at least one call, and never goes below one."""
        bracket = RefusalBracket()
        bracket.accept(50)
        assert [bracket.cut(50, 1.0), bracket.cut(45, 1.1)] == [45, 40]
        assert [bracket.cut(2, 1.2), bracket.cut(1, 1.3)] == [1, 1]

    def test_is_tested_after_a_hold_and_enough_calls(self) -> None:
        """A test needs both the time and the calls."""
        bracket = RefusalBracket()
        bracket.accept(20)
        bracket.cut(21, now=0.0)
        assert bracket.is_next(20)
        assert not bracket.is_due(RETEST_SECONDS)
        for _ in range(RETEST_CALLS):
            bracket.on_success()
        assert not bracket.is_due(RETEST_SECONDS / 2)
        assert bracket.is_due(RETEST_SECONDS)

    def test_passing_it_forgets_it(self) -> None:
        """If the service accepts the refused limit, the bracket is open again."""
        bracket = RefusalBracket()
        bracket.accept(20)
        bracket.cut(21, now=0.0)
        bracket.accept(21)
        assert bracket.refused == math.inf


class TestReading:
    def test_what_ends_tells_of_now(self) -> None:
        """After a stall only quick calls end, so the rate gives the latency."""
        former, stalled = (
            reading(pace=100.0, in_flight=20.0),
            reading(pace=100.0, in_flight=20.0, finished=20),
        )
        assert stalled.counted(former).latency == pytest.approx(2.0)
        assert stalled.counted(former).location == pytest.approx(1.8)


class TestMeter:
    def test_reads_littles_law(self) -> None:
        """With two calls of 1 s always in flight: rate 2, in flight 2, latency 1, age a half."""
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
        assert reading.rate == pytest.approx(2)
        assert reading.age == pytest.approx(0.5)

    def test_begins_with_the_first_call(self) -> None:
        """A reading starts with the first call, not at time 0."""
        meter = Meter()
        meter.on_start(1000.0, 1)
        meter.on_finish(Sample(1000.0, 1002.0, 1))
        reading = meter.read(1002.0)
        assert reading.seconds == pytest.approx(2)
        assert reading.in_flight == pytest.approx(1)

    @pytest.mark.parametrize(
        ("starts", "ended", "placed", "overtaken"),
        [
            ([0, 1, 2], 0, 1, 0.0),
            ([0, 1, 2], 1, 1, 0.5),
            ([0, 1, 2], 2, 1, 1.0),
            ([0, 1, 1], 1, 0, 0.0),  # two began together: their order is unknown
            ([1], 1, 0, 0.0),  # alone
            ([], 0, 0, 0.0),  # began before the meter existed
        ],
    )
    def test_measures_the_share_overtaken(
        self, starts: list[int], ended: int, placed: int, overtaken: float
    ) -> None:
        """A call has overtaken the calls in flight that began before it."""
        meter = Meter()
        meter.open(0.0)
        for n, start in enumerate(starts):
            meter.on_start(float(start), n + 1)
        meter.on_finish(Sample(float(ended), 3.0, 1))
        reading = meter.read(4.0)
        assert (reading.placed, reading.overtaken) == (placed, overtaken)

    def test_one_call_tells_nothing_of_the_scatter(self) -> None:
        """One call, or calls that took no time, leave the estimates unchanged."""
        for latency, calls in ((1.0, 1), (0.0, 5)):
            meter = Meter()
            meter.open(0.0)
            guessed = meter.latency.cv
            for _ in range(calls):
                meter.on_start(2.0 - latency, 1)
                meter.on_finish(Sample(2.0 - latency, 2.0, 1))
            meter.read(3.0)
            assert meter.latency.cv == guessed


class TestLatencyEstimator:
    def test_a_few_slow_calls_hardly_move_the_location(self) -> None:
        """A few slow calls hardly move the location or its error, but treble the mean."""
        estimator = LatencyEstimator()
        assert estimator.update([0.9, 1.0, 1.1] * 3 + [20.0]) < 1.1
        assert estimator.error < 0.4
        assert estimator.skew == pytest.approx(2.9, rel=0.1)
        assert estimator.cv == pytest.approx(1.55, rel=0.02)

    @pytest.mark.parametrize(
        ("sigma", "slow", "calls"), [(0.1, 0.0, 10), (0.5, 0.0, 10), (1.0, 0.0, 10), (0.1, 0.2, 40)]
    )
    def test_the_standard_error_is_right(self, sigma: float, slow: float, calls: int) -> None:
        """Over many readings, the standard error is right within a fifth."""
        rng, estimator = random.Random(1), LatencyEstimator()
        typical, errors = list[float](), list[float]()
        for _ in range(600):
            kinds = (10 if rng.random() < slow else 1 for _ in range(calls))
            found = estimator.update([kind * rng.lognormvariate(0, sigma) for kind in kinds])
            typical.append(math.log(found))
            errors.append(estimator.error)
        assert fmean(errors) / math.sqrt(calls) == pytest.approx(stdev(typical), rel=0.2)

    @given(
        st.lists(st.floats(0.001, 1000), min_size=1, max_size=30),
        st.lists(st.floats(0.001, 1000), min_size=1, max_size=30),
        st.integers(-5, 5),
    )
    def test_any_unit_will_do(self, first: list[float], then: list[float], power: int) -> None:
        """The location scales exactly with the unit, and the other estimates have no unit."""
        here, there, unit = (
            LatencyEstimator(),
            LatencyEstimator(),
            4.0**power,
        )  # a power of 4 is exact
        for calls in (first, then):
            typical = here.update(calls)
            assert min(calls) * (1 - 1e-9) <= typical <= max(calls) * (1 + 1e-9)
            assert there.update([unit * call for call in calls]) == unit * typical
        for name in ("cv", "error", "skew"):
            assert getattr(there, name) == getattr(here, name)

    def test_forgets_slowly(self) -> None:
        """One reading of equal calls does not make the error small."""
        estimator = LatencyEstimator()
        estimator.update([0.5, 1.0, 1.5, 2.0])
        before = estimator.error
        estimator.update([1.0] * 10)
        assert before / 2 < estimator.error < before

    def test_one_call_tells_nothing(self) -> None:
        """One call, or calls that took no time, leave the estimates unchanged."""
        estimator = LatencyEstimator()
        guessed = (estimator.cv, estimator.error, estimator.skew)
        assert (estimator.update([2.0]), estimator.update([0.0] * 5)) == (2.0, 0.0)
        assert (estimator.cv, estimator.error, estimator.skew) == guessed
