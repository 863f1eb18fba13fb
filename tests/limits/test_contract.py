"""The promises of every policy, for any service."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_turnstile.limits import (
    AIMDLimit,
    Gradient2Limit,
    KneeLimit,
    LimitPolicy,
    Outcome,
    Sample,
    VectorLimit,
    VegasLimit,
    Windowed,
)

Make = Callable[[], LimitPolicy]
POLICIES: dict[str, Make] = {
    "aimd": lambda: AIMDLimit(20, minimum=1),
    "vegas": lambda: VegasLimit(20, maximum=200),
    "gradient2": lambda: Gradient2Limit(20, minimum=1),
    "vector": lambda: VectorLimit(20),
    "windowed": lambda: Windowed(VegasLimit(20, maximum=200)),
    "knee": lambda: KneeLimit(20, maximum=200),
    "knee with a latency ceiling": lambda: KneeLimit(20, maximum=200, max_latency=0.2),
}
every_policy = pytest.mark.parametrize("make", POLICIES.values(), ids=POLICIES.keys())
outcomes = st.sampled_from([Outcome.SUCCESS] * 6 + [Outcome.OVERLOADED, Outcome.IGNORED])
calls = st.lists(st.tuples(st.floats(0.0, 5.0), outcomes, st.booleans()), max_size=300)


def drive(policy: LimitPolicy, story: list[tuple[float, Outcome, bool]]) -> list[float]:
    """Play a busy client: each entry starts calls, waits, ends one, and may tick."""
    now, running, limits = 0.0, list[tuple[float, int]](), list[float]()
    for latency, outcome, tick in story:
        while len(running) < int(policy.limit) and len(running) < 40:
            running.append((now, len(running) + 1))
            policy.on_start(now, len(running))
        now += latency / 10
        if running:
            start, in_flight = running.pop(0)
            policy.on_finish(Sample(start, now, in_flight, outcome))
        if tick:
            policy.on_tick(now, len(running), 5)
        limits.append(policy.limit)
    return limits


@every_policy
@settings(max_examples=60, deadline=None)
@given(story=calls)
def test_the_limit_is_finite_and_in_bounds(
    make: Make, story: list[tuple[float, Outcome, bool]]
) -> None:
    """No sequence of calls moves the limit below 1, above the maximum, or to infinity."""
    limits = drive(make(), story)
    assert all(math.isfinite(limit) and 1 <= limit <= 200 for limit in limits)


@every_policy
@settings(max_examples=20, deadline=None)
@given(story=calls)
def test_the_same_calls_give_the_same_limits(
    make: Make, story: list[tuple[float, Outcome, bool]]
) -> None:
    """A policy is moved only by the calls that it sees."""
    assert drive(make(), story) == drive(make(), story)


@every_policy
def test_ignored_calls_teach_nothing(make: Make) -> None:
    """A thousand cancelled calls leave the limit where it is."""
    assert set(drive(make(), [(0.1, Outcome.IGNORED, False)] * 1000)) == {20}


@every_policy
def test_every_policy_gives_its_reason(make: Make) -> None:
    """`why` gives a reason before the first move and after."""
    policy = make()
    assert policy.why()["reason"] == "initial"
    drive(
        policy, [(0.5, Outcome.OVERLOADED if i % 2 else Outcome.SUCCESS, True) for i in range(300)]
    )
    assert isinstance(policy.why()["reason"], str)


@every_policy
def test_an_idle_application_moves_nothing(make: Make) -> None:
    """Ticks without calls leave the limit unchanged."""
    policy = make()
    for i in range(1000):
        policy.on_tick(i / 10, 0, 0)
    assert policy.limit == 20


@pytest.mark.parametrize("make", [AIMDLimit, VegasLimit, Gradient2Limit, KneeLimit])
def test_a_limit_out_of_bounds_is_refused(make: Callable[..., LimitPolicy]) -> None:
    """An initial limit above the maximum raises ValueError."""
    with pytest.raises(ValueError, match="minimum"):
        make(20_000)


class Halfway(LimitPolicy):
    """A policy with only the members that a subclass of `LimitPolicy` must have."""

    def __init__(self) -> None:
        self.seen = 0

    @property
    def limit(self) -> float:
        return 10

    def on_finish(self, sample: Sample) -> None:
        self.seen += 1

    def why(self) -> Mapping[str, object]:
        return {"reason": "initial"}


def test_a_subclass_may_ignore_starts_and_ticks() -> None:
    """`LimitPolicy` has bodies for `on_start` and `on_tick` that do nothing."""
    policy = Halfway()
    drive(policy, [(0.1, Outcome.SUCCESS, True)] * 20)
    assert policy.seen == 20


def test_a_subclass_must_learn_from_finished_calls() -> None:
    """A subclass of `LimitPolicy` without `on_finish` cannot be made."""
    incomplete = type("Incomplete", (LimitPolicy,), {"limit": 10, "why": dict})
    with pytest.raises(TypeError, match="on_finish"):
        incomplete()
