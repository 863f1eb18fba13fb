"""The simulator: it obeys the laws of queues, and its counts balance."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_turnstile.limits import KneeLimit, Sample
from trio_turnstile.simulation import (
    QUOTA,
    SCENARIOS,
    STALL,
    STEADY,
    TWO_CLIENTS,
    Bimodal,
    Client,
    Erlang,
    Jitter,
    LogNormal,
    Pareto,
    Result,
    Scenario,
    Server,
    Sine,
    Steps,
    TokenBudget,
    jain,
    simulate,
)


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        (Server, {"sigma": -0.1}),
        (Server, {"collapse": -1}),
        (Server, {"queue": -1}),
        (Server, {"refusal_time": -1}),
        (Server, {"flush": 0}),
        (Client, {"timeout": 0}),
        (Client, {"max_wait": -1}),
        (Client, {"joins": -1}),
        (Scenario, {"name": "", "duration": 0}),
        (Scenario, {"name": "", "warm_up": -1}),
        (Scenario, {"name": "", "clients": ()}),
    ],
)
def test_impossible_arguments_are_refused(part: type, wrong: dict[str, object]) -> None:
    """The message names the wrong value and the rule."""
    name = list(wrong)[-1]
    with pytest.raises(ValueError, match=name):
        part(**wrong)


def test_a_batch_server_shares_nothing() -> None:
    """Two options that exclude each other raise ValueError."""
    with pytest.raises(ValueError, match="leave out shared or flush"):
        Server(shared=True, flush=0.2)


class Fixed:
    """A policy with a limit that never moves."""

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def on_start(self, now: float, in_flight: int) -> None: ...

    def on_finish(self, sample: Sample) -> None: ...

    def on_tick(self, now: float, in_flight: int, waiting: int) -> None: ...

    def why(self) -> Mapping[str, object]:
        return {"reason": "fixed"}


def test_half_the_capacity_gives_half_the_throughput() -> None:
    """With 20 calls in flight on 40 workers, none waits and half the work is done."""
    result = simulate(Fixed(20), STEADY, seed=1)
    assert result.throughput == pytest.approx(0.5, abs=0.01)
    assert result.p99_ratio == pytest.approx(1.0, abs=0.02)
    assert result.settled == (None,)


def test_too_much_in_flight_only_waits() -> None:
    """With 100 calls in flight on 40 workers, only the latency grows."""
    result = simulate(Fixed(100), STEADY, seed=1)
    assert result.throughput == pytest.approx(1.0, abs=0.01)
    assert result.p99_ratio > 1.6


@pytest.mark.parametrize("limit", [20, 40, 80])
def test_littles_law(limit: int) -> None:
    """In flight = throughput * latency, at any load."""
    trace = simulate(Fixed(limit), STEADY, seed=2).trace[100:]
    finished = sum(sum(point.finished) for point in trace)
    latency = sum(point.latency * sum(point.finished) for point in trace) / finished
    in_flight = sum(point.in_flight for point in trace) / len(trace)
    assert finished / (len(trace) / 10) * latency == pytest.approx(in_flight, rel=0.02)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_books_balance(scenario: Scenario, knee: Callable[[Scenario, int], Result]) -> None:
    """Every call that started has ended in exactly one way, or is in flight."""
    for books in knee(scenario, 3).books:
        assert books.started == books.ok + books.refused + books.timed_out + books.in_flight
        assert books.ok == len(books.latencies)
        assert books.in_flight >= 0


@settings(max_examples=20, deadline=None)
@given(
    workers=st.integers(0, 30),
    queue=st.sampled_from([0.0, 5.0, float("inf")]),
    timeout=st.sampled_from([0.05, 1.0]),
    errors=st.sampled_from([0.0, 0.2]),
    arrivals=st.sampled_from([None, 50.0, 500.0]),
    shared=st.booleans(),
)
def test_the_books_balance_anywhere(
    workers: int, queue: float, timeout: float, errors: float, arrivals: float | None, shared: bool
) -> None:
    """The counts balance even if nothing works, all calls time out, or half are shed."""
    server = Server(workers=workers, queue=queue, errors=errors, shared=shared)
    client = Client(arrivals=arrivals, timeout=timeout, max_wait=0.5)
    books = simulate(
        Fixed(10), Scenario(name="", server=server, clients=(client,), duration=5.0), seed=1
    ).books[0]
    assert books.started == books.ok + books.refused + books.timed_out + books.in_flight
    assert 0 <= books.in_flight <= 10


def test_a_metered_server_lets_nobody_spend_more_than_its_budget() -> None:
    """The server refuses calls beyond the budget it began with and what has come back since."""
    budget = TokenBudget(
        per_second=Steps(100, ((10, 50),)), burst=200, cost=10, scatter=LogNormal(0)
    )
    server = Server(budget=budget, service_time=0.5)
    scenario = Scenario(name="", server=server, duration=20.0, warm_up=0.0)
    result = simulate(Fixed(40), scenario, seed=1)
    assert result.books[0].ok == pytest.approx((200 + 10 * 100 + 10 * 50) / 10, abs=10)
    assert result.books[0].refused > 0
    assert (server.capacity(0), server.capacity(10)) == (5, 2)
    assert scenario.changes == (0.0, 10)


def test_calls_need_a_worker_of_their_key() -> None:
    """With a worker for each of two keys, half of the calls meet the other call of their key."""
    server = Server(workers=2, keys=2, queue=0, sigma=0, refusal_time=0.1)
    result = simulate(Fixed(2), Scenario(name="", server=server, duration=200.0), seed=1)
    assert result.rejected == pytest.approx(0.5, abs=0.2)
    assert result.trace[-1].capacity == 2
    alone = attrs.evolve(server, keys=1)
    assert simulate(Fixed(2), Scenario(name="", server=alone), seed=1).rejected == 0


def test_the_same_seed_gives_the_same_trace(knee: Callable[[Scenario, int], Result]) -> None:
    """Another seed gives another trace."""
    first, again, other = knee(STALL, 4), simulate(KneeLimit(), STALL, seed=4), knee(STALL, 5)
    assert repr(first.trace) == repr(again.trace)  # by repr, because nan is not equal to itself
    assert repr(first.trace) != repr(other.trace)


def test_the_policy_given_is_left_alone() -> None:
    """Each run works with a copy of the policy."""
    policy = KneeLimit()
    simulate(policy, STEADY, seed=1)
    assert policy.why() == {"reason": "initial"}


@pytest.mark.slow
def test_a_quota_refuses_what_is_beyond_it() -> None:
    """When one call too many is in flight, one is refused every 5 ms."""
    books = simulate(Fixed(51), QUOTA, seed=1).books[0]
    assert books.refused > 10_000
    assert simulate(Fixed(25), QUOTA, seed=1).books[0].refused == 0


def test_calls_that_share_the_workers_wait_for_none() -> None:
    """Three times as many calls as workers take three times as long, and short calls end first."""
    sharing = Server(workers=10, jitter=Bimodal(0.2, 10.0), shared=True)
    shared, in_line = (
        simulate(Fixed(30), Scenario(name="", server=server), seed=1)
        for server in (sharing, attrs.evolve(sharing, shared=False))
    )
    assert shared.throughput == pytest.approx(1.0, abs=0.03)
    assert in_line.throughput == pytest.approx(1.0, abs=0.03)
    quick = 0.1 / (1 + 0.2 * 9)
    for result, least in ((shared, 2.9 * quick), (in_line, 5 * quick)):
        latencies = sorted(latency for _, latency in result.books[0].latencies[100:])
        assert latencies[len(latencies) // 10] == pytest.approx(least, rel=0.1)


def test_time_outs_end_the_call_and_not_the_work() -> None:
    """A server too slow for the time-out completes no call."""
    scenario = Scenario(
        name="", server=Server(service_time=1.0, sigma=0.0), clients=(Client(timeout=0.5),)
    )
    books = simulate(Fixed(10), scenario, seed=1).books[0]
    assert (books.ok, books.timed_out) == (0, 10 * 240)


def test_open_clients_shed_what_waits_too_long() -> None:
    """At 600 calls per second, of which 200 can be served, two thirds are shed."""
    client = Client(arrivals=600.0, max_wait=1.0)
    scenario = Scenario(name="", server=Server(workers=20), clients=(client,), duration=60.0)
    result = simulate(Fixed(20), scenario, seed=1)
    assert result.shed == pytest.approx(400 * 59, rel=0.03)


def test_two_equal_clients_share_equally() -> None:
    """Jain's index of 10 and 30 is 0.8; of equals it is 1."""
    assert jain([10, 30]) == pytest.approx(0.8)
    assert simulate(Fixed(40), TWO_CLIENTS, seed=1).fairness == pytest.approx(1.0, abs=0.001)


@pytest.mark.parametrize("jitter", [LogNormal(1.0), Bimodal(), Pareto(3.0), Erlang(1), Erlang(4)])
def test_scatter_has_mean_one(jitter: Jitter) -> None:
    """The service time is the mean of every distribution."""
    rng = random.Random(1)
    assert sum(jitter.draw(rng) for _ in range(100_000)) / 100_000 == pytest.approx(1.0, abs=0.03)


def test_numbers_that_change() -> None:
    """A step holds from its time on, and a sine begins at its mean."""
    steps = Steps(40, ((60, 20), (120, 40)))
    assert [steps.at(t) for t in (0, 59.9, 60, 119.9, 120)] == [40, 20 + 20, 20, 20, 40]
    assert Sine(40, 20, 120).at(0) == 40
    assert Sine(40, 20, 120).at(30) == pytest.approx(60)
