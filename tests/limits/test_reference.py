"""The reference policies, sample by sample, against values worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from trio_turnstile.limits import (
    AIMDLimit,
    Gradient2Limit,
    Outcome,
    Sample,
    VectorLimit,
    VegasLimit,
    Windowed,
)


def call(
    latency: float, in_flight: int = 20, outcome: Outcome = Outcome.SUCCESS, end: float = 10.0
) -> Sample:
    return Sample(end - latency, end, in_flight, outcome)


class Spy:
    """A policy that records the samples it gets."""

    def __init__(self) -> None:
        self.limit = 20.0
        self.seen: list[Sample] = []

    def on_start(self, now: float, in_flight: int) -> None: ...

    def on_finish(self, sample: Sample) -> None:
        self.seen.append(sample)

    def on_tick(self, now: float, in_flight: int, waiting: int) -> None: ...

    def why(self) -> Mapping[str, object]:
        return {"reason": "spy"}


class TestAIMD:
    def test_grows_by_one_when_half_in_use(self) -> None:
        """2 * in_flight >= limit is enough, one less is not."""
        policy = AIMDLimit()
        policy.on_finish(call(0.1, in_flight=9))
        assert policy.limit == 20
        policy.on_finish(call(0.1, in_flight=10))
        assert policy.limit == 21

    def test_cuts_by_a_tenth_rounded_down(self) -> None:
        """floor(0.9 * 25) = 22, for an overload and for a call slower than 5 s."""
        for bad in (call(0.1, outcome=Outcome.OVERLOADED), call(5.1)):
            policy = AIMDLimit(25)
            policy.on_finish(bad)
            assert policy.limit == 22

    def test_stays_in_its_bounds(self) -> None:
        """The default bounds are those of the source: 20 to 200."""
        policy = AIMDLimit(200)
        policy.on_finish(call(0.1, in_flight=200))
        assert policy.limit == 200
        for _ in range(50):
            policy.on_finish(call(0.1, outcome=Outcome.OVERLOADED))
        assert policy.limit == 20


class TestVegas:
    def test_first_sample_only_teaches_the_shortest_latency(self) -> None:
        """A new shortest latency is learned, and the limit does not move."""
        policy = VegasLimit()
        policy.on_finish(call(0.1))
        assert policy.limit == 20

    @pytest.mark.parametrize(
        ("latency", "in_flight", "outcome", "limit"),
        [
            (0.1, 20, Outcome.SUCCESS, 26),  # queue 0 <= g = 1: + 6
            (0.105, 20, Outcome.SUCCESS, 26),  # queue ceil(20 * 0.0476) = 1: + 6
            (0.11, 20, Outcome.SUCCESS, 21),  # queue ceil(20 * 0.0909) = 2 < 3: + 1
            (0.13, 20, Outcome.SUCCESS, 20),  # queue ceil(20 * 0.2308) = 5: hold
            (0.2, 20, Outcome.SUCCESS, 19),  # queue 10 > 6: - 1
            (0.1, 9, Outcome.SUCCESS, 20),  # not in use: hold
            (0.1, 20, Outcome.OVERLOADED, 19),  # - g
        ],
    )
    def test_moves_by_its_queue(
        self, latency: float, in_flight: int, outcome: Outcome, limit: float
    ) -> None:
        """With limit 20, g = floor(log10 20) = 1, and a shortest latency of 0.1 s."""
        policy = VegasLimit()
        policy.on_finish(call(0.1))
        policy.on_finish(call(latency, in_flight, outcome))
        assert policy.limit == limit

    def test_the_grain_grows_with_the_limit(self) -> None:
        """At 100 the grain is 2: no queue adds 12."""
        policy = VegasLimit(100)
        policy.on_finish(call(0.1, 100))
        policy.on_finish(call(0.1, 100))
        assert policy.limit == 112

    def test_forgets_the_shortest_latency_in_time(self) -> None:
        """After 15 to 30 samples per call of the limit, a longer latency is no longer a queue."""
        policy = VegasLimit(20, maximum=26)
        policy.on_finish(call(0.1))
        for _ in range(299):
            policy.on_finish(call(0.13))
        assert policy.limit == 20
        for _ in range(302):
            policy.on_finish(call(0.13))
        assert policy.limit == 26


class TestGradient2:
    def test_no_slowness_adds_a_fifth_of_the_queue(self) -> None:
        """gradient 1: 0.8 * 20 + 0.2 * (20 + 4) = 20.8."""
        policy = Gradient2Limit()
        policy.on_finish(call(0.1))
        assert policy.limit == pytest.approx(20.8)

    def test_slowness_brakes(self) -> None:
        """After calls of 0.1, 0.3 and 1.2 s the gradient is 1.5 * mean / 1.2."""
        policy = Gradient2Limit(100, minimum=1)
        policy.on_finish(call(0.1, 100))
        policy.on_finish(call(0.3, 100))
        before = policy.limit
        policy.on_finish(call(1.2, 100))
        long = (0.1 + 0.3 + 1.2) / 3
        assert policy.limit == pytest.approx(0.8 * before + 0.2 * (before * 1.5 * long / 1.2 + 4))

    def test_long_term_mean_drifts_down_after_a_slow_time(self) -> None:
        """Above twice the latency the long-term mean loses 5 % per sample."""
        policy = Gradient2Limit()
        policy.on_finish(call(1.0))
        policy.on_finish(call(0.1))
        assert policy.why()["long"] == pytest.approx((1.0 + 0.1) / 2 * 0.95)

    def test_holds_while_not_in_use(self) -> None:
        """The limit holds if in_flight < limit / 2."""
        policy = Gradient2Limit()
        policy.on_finish(call(0.1, in_flight=9))
        assert policy.limit == 20


class TestVector:
    def test_first_interval_sets_the_mean_and_then_grows(self) -> None:
        """Limit reached, latency no worse than its mean: + 1, once per mean latency."""
        policy = VectorLimit()
        policy.on_start(0.0, 1)
        policy.on_finish(call(0.1, 1, end=0.1))
        policy.on_start(0.1, 1)
        policy.on_finish(call(0.1, 1, end=0.19))
        assert policy.limit == 1
        policy.on_finish(call(0.1, 1, end=0.2))
        assert policy.limit == 2

    def test_overload_cuts(self) -> None:
        """floor(0.9 * 20) = 18."""
        policy = VectorLimit(20)
        policy.on_finish(call(0.1, 20, end=0.1))
        policy.on_finish(call(0.1, 20, Outcome.OVERLOADED, end=0.3))
        assert policy.limit == 18

    def test_clearly_slower_cuts_and_is_then_half_learned(self) -> None:
        """First 0.1 s is the mark; then m = 0.14 s, v = 0.0024 s2, and the mark is 0.2625 s."""
        for latency, limit in ((0.262, 18), (0.263, 16)):
            policy = VectorLimit(20)
            policy.on_finish(call(0.1, 20, end=0.1))
            policy.on_finish(call(0.2, 20, end=0.3))
            assert policy.limit == 18
            policy.on_finish(call(latency, 20, end=1.0))
            assert policy.limit == limit
            assert limit == 18 or policy.why()["past"] == pytest.approx(0.14)


class TestWindowed:
    def test_hands_on_mean_latency_largest_in_flight_and_any_overload(self) -> None:
        """Twelve calls in a window become one sample."""
        spy = Spy()
        policy = Windowed(spy)
        for i in range(12):
            outcome = Outcome.OVERLOADED if i == 3 else Outcome.SUCCESS
            policy.on_finish(call(0.1 if i % 2 else 0.3, i, outcome, end=i / 10))
        (seen,) = spy.seen
        assert seen.latency == pytest.approx(0.2)
        assert (seen.in_flight, seen.outcome) == (11, Outcome.OVERLOADED)

    def test_throws_thin_windows_away(self) -> None:
        """A window with fewer than ten calls is discarded."""
        policy = Windowed(AIMDLimit())
        for i in range(9):
            policy.on_finish(call(0.1, 20, end=i / 4))
        assert policy.limit == 20

    def test_leaves_unreal_calls_out(self) -> None:
        """Calls shorter than 100 microseconds are discarded."""
        policy = Windowed(AIMDLimit())
        for i in range(50):
            policy.on_finish(call(1e-5, 20, end=i / 4))
        assert policy.limit == 20
