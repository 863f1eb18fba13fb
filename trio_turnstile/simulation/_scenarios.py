"""Scenarios: frozen values that describe a simulated service and its clients.

A scenario consists of a few parts. A number that may change over time is a plain number,
`Steps` (it jumps at given times) or `Sine` (it oscillates); the simulator reads it again at
every tick, 100 ms.

The built-in scenarios have the letters of the comparison table. Each asks one question about
a policy.
"""

from __future__ import annotations

import math
import random
from typing import Protocol, TypeAlias, final

import attrs
from attrs.validators import ge, gt, min_len, optional

TICK = 0.1
"""Seconds between two readings of the numbers that change over time."""


@final
@attrs.frozen
class Steps:
    """A number that jumps at given times."""

    first: float
    """The value at the beginning."""
    then: tuple[tuple[float, float], ...] = ()
    """Each ``(time, value)`` holds from its time on; times in seconds, ascending."""

    def at(self, now: float) -> float:
        """Return the value at a time in seconds."""
        value = self.first
        for time, later in self.then:
            if now + 1e-9 < time:
                break
            value = later
        return value


@final
@attrs.frozen
class Sine:
    """A number that oscillates; it starts at its mean and goes up."""

    mean: float
    """The mean of the oscillation."""
    amplitude: float
    """The greatest distance from the mean."""
    period: float
    """The time of one oscillation, in seconds."""

    def at(self, now: float) -> float:
        """Return the value at a time in seconds."""
        return self.mean + self.amplitude * math.sin(2 * math.pi * now / self.period)


Varying: TypeAlias = float | Steps | Sine
"""A number, or one that changes over time."""


def at(number: Varying, now: float) -> float:
    """Return the value of a number that may vary, at a time in seconds."""
    return number.at(now) if isinstance(number, Steps | Sine) else number


class Jitter(Protocol):
    """A distribution of service times: factors with mean 1."""

    def draw(self, rng: random.Random) -> float:
        """Return the factor of the next call."""
        ...


@final
@attrs.frozen
class LogNormal:
    """Factors whose logarithm is normal."""

    sigma: float
    """The standard deviation of the logarithm."""

    def draw(self, rng: random.Random) -> float:
        """Return the factor of the next call."""
        return rng.lognormvariate(-self.sigma * self.sigma / 2, self.sigma)


@final
@attrs.frozen
class Bimodal:
    """Two kinds of calls, short and long."""

    share: float = 0.1
    """The share of the calls that are long."""
    ratio: float = 20.0
    """How many times as long those take."""

    def draw(self, rng: random.Random) -> float:
        """Return the factor of the next call."""
        fast = 1 / (1 + self.share * (self.ratio - 1))
        return fast * self.ratio if rng.random() < self.share else fast


@final
@attrs.frozen
class Pareto:
    """A power-law tail."""

    shape: float = 2.5
    """The exponent, more than 1; the smaller, the heavier the tail."""

    def draw(self, rng: random.Random) -> float:
        """Return the factor of the next call."""
        return rng.paretovariate(self.shape) * (self.shape - 1) / self.shape


@final
@attrs.frozen
class Erlang:
    """The sum of exponential steps."""

    stages: int = 1
    """How many steps; 1 is the exponential distribution itself."""

    def draw(self, rng: random.Random) -> float:
        """Return the factor of the next call."""
        return rng.gammavariate(self.stages, 1 / self.stages)


@final
@attrs.frozen(kw_only=True)
class TokenBudget:
    """What a metered service lets its callers spend; it refuses a call that costs too much."""

    per_second: Varying = 20_000
    """Tokens that come back each second."""
    burst: float = attrs.field(default=20_000, validator=gt(0))
    """The most tokens that there can be at once, and how many there are at the beginning."""
    cost: float = attrs.field(default=50, validator=gt(0))
    """Tokens that a call costs, on average."""
    scatter: Jitter = LogNormal(0.8)
    """How the costs differ."""


@final
@attrs.frozen(kw_only=True)
class Server:
    """The service: workers behind one first-come-first-served queue, or shared by all calls."""

    workers: Varying = 40
    """Calls it can work on at once, which is its true capacity. If the number falls, calls that
    have begun are finished."""
    service_time: Varying = 0.1
    """Mean time that a worker spends on a call, in seconds."""
    sigma: float = attrs.field(default=0.3, validator=ge(0))
    """Scatter of the service time, log-normal."""
    jitter: Jitter | None = None
    """Another distribution of the service time, in place of the log-normal."""
    collapse: float = attrs.field(default=0.0, validator=ge(0))
    """Contention: each worker slows down by this share for every multiple of the capacity
    beyond it."""
    queue: float = attrs.field(default=math.inf, validator=ge(0))
    """Calls that may wait; the server refuses more. 0 makes it a quota."""
    refusal_time: float = attrs.field(default=0.005, validator=ge(0))
    """Seconds that a refusal takes."""
    errors: Varying = 0.0
    """Share of calls that fail at random at any load."""
    shared: bool = False
    """No call waits in line: the server works on all calls at once, and beyond the capacity all
    become slower, like processes that share the cores of a machine."""
    flush: float | None = attrs.field(default=None, validator=optional(gt(0)))
    """A batch server: calls are gathered and answered, at most ``workers`` together,
    each time this many seconds have passed."""
    budget: TokenBudget | None = None
    """What calls may cost, if the service is metered."""
    keys: int = attrs.field(default=1, validator=ge(1))
    """Each call is for one of this many keys, at random. Each key has an equal share of the
    workers, and a queue of its own."""

    def capacity(self, now: float) -> int:
        """Return how many calls it can work on at once, at a time in seconds."""
        workers = int(at(self.workers, now) / self.keys) * self.keys
        if self.budget is None:
            return workers
        calls = at(self.budget.per_second, now) / self.budget.cost
        return min(workers, max(1, round(calls * at(self.service_time, now))))

    def __attrs_post_init__(self) -> None:
        if self.shared and self.flush is not None:
            raise ValueError(
                f"a server that answers in batches, with flush={self.flush}, has no workers to"
                " share; leave out shared or flush"
            )


@final
@attrs.frozen(kw_only=True)
class Client:
    """A client with its own limit."""

    arrivals: Varying | None = None
    """Calls per second, at random (Poisson); None is batch mode: there is always another call."""
    timeout: float = attrs.field(default=5.0, validator=gt(0))
    """Seconds after which the client gives a call up; it counts as overload. The server still
    finishes the work."""
    max_wait: float = attrs.field(default=math.inf, validator=ge(0))
    """Seconds that a call may wait for a token before it is shed; only with ``arrivals``."""
    joins: float = attrs.field(default=0.0, validator=ge(0))
    """When the client starts, in seconds."""


@final
@attrs.frozen(kw_only=True)
class Scenario:
    """A service and its clients, for some time."""

    name: str
    """The name in tables."""
    server: Server = Server()
    """The service."""
    clients: tuple[Client, ...] = attrs.field(default=(Client(),), validator=min_len(1))
    """The clients; each has its own policy."""
    duration: float = attrs.field(default=120.0, validator=gt(0))
    """Seconds to simulate."""
    warm_up: float = attrs.field(default=10.0, validator=ge(0))
    """Seconds at the beginning that the figures exclude."""
    initial: float = 20.0
    """The limit that a comparison starts with."""

    @property
    def changes(self) -> tuple[float, ...]:
        """When the capacity jumps, in seconds, including the beginning."""
        server = self.server
        moving = server.workers if server.budget is None else server.budget.per_second
        later = moving.then if isinstance(moving, Steps) else ()
        return (0.0, *(time for time, _ in later))


def _burst(every: float, length: float, share: float, duration: float) -> Steps:
    starts = (every * (i + 1) for i in range(int(duration / every)))
    return Steps(0.0, tuple(step for t in starts for step in ((t, share), (t + length, 0.0))))


STEADY = Scenario(name="A steady")
"""40 workers of 0.1 s each: does the policy find the knee?"""
HALVED = Scenario(
    name="B halve, double", server=Server(workers=Steps(40, ((60, 20), (120, 40)))), duration=180.0
)
"""The capacity halves and doubles: does the limit follow?"""
SLOWER = Scenario(
    name="C slower, same capacity",
    server=Server(service_time=Steps(0.1, ((60, 0.2), (120, 0.1)))),
    duration=180.0,
)
"""Every call takes twice as long, at the same capacity: does the limit stay?"""
QUOTA = Scenario(
    name="D quota", server=Server(workers=Steps(50, ((60, 25), (120, 50))), queue=0), duration=180.0
)
"""A quota that halves and doubles, and refuses calls beyond it: does the limit respect it?"""
HEAVY_TAIL = Scenario(name="E heavy tail", server=Server(sigma=1.0))
"""Service times that differ widely: do they mislead the policy?"""
OPEN = Scenario(
    name="F open load",
    clients=(Client(arrivals=Steps(120, ((60, 600), (120, 120))), max_wait=1.0, timeout=2.0),),
    duration=180.0,
)
"""Calls at random: too few to use the limit at first, then too many."""
COLLAPSE = Scenario(name="G contention collapse", server=Server(collapse=0.5))
"""Each call beyond the capacity slows all calls down: does the limit stay below?"""
STALL = Scenario(
    name="H stall",
    server=Server(workers=Steps(40, ((60, 2), (90, 40)))),
    clients=(Client(timeout=2.0),),
    duration=180.0,
)
"""Nearly all workers stop for 30 s, and calls time out."""
TWO_CLIENTS = Scenario(name="I two clients", clients=(Client(), Client(joins=60.0)))
"""A second client joins half-way: do both share fairly?"""
COLD_START = Scenario(
    name="J cold start", server=Server(workers=100), duration=60.0, warm_up=0.0, initial=1.0
)
"""From 1 to a capacity of 100: is the policy quick?"""
SINE = Scenario(name="K sine", server=Server(workers=Sine(40, 20, 120.0)), duration=240.0)
"""The capacity oscillates."""
ERROR_BURSTS = Scenario(name="L error bursts", server=Server(errors=_burst(20.0, 1.0, 0.5, 120.0)))
"""Half the calls are refused for a second, now and then, whatever the load."""
BIMODAL = Scenario(name="M bimodal", server=Server(service_time=0.145, jitter=Bimodal(0.1, 20.0)))
"""One call in ten takes twenty times as long."""
BATCH_SERVER = Scenario(name="N batch server", server=Server(flush=0.2))
"""Answers come in batches, every 0.2 s."""
TOKEN_BUDGET = Scenario(
    name="O token budget",
    server=Server(
        workers=1000,
        budget=TokenBudget(per_second=Steps(20_000, ((60, 10_000), (120, 20_000)))),
    ),
    duration=180.0,
)
"""Calls cost different amounts of tokens, and what may be spent halves and doubles."""
PER_KEY = Scenario(name="P limits per key", server=Server(workers=40, keys=8, queue=2))
"""Eight keys, each with five workers and room for two calls that wait."""

GATE: tuple[Scenario, ...] = (
    STEADY,
    HALVED,
    SLOWER,
    QUOTA,
    HEAVY_TAIL,
    OPEN,
    COLLAPSE,
    STALL,
    COLD_START,
)
"""The nine scenarios a policy is scored on."""
SCENARIOS: tuple[Scenario, ...] = (
    *GATE[:8],
    TWO_CLIENTS,
    COLD_START,
    SINE,
    ERROR_BURSTS,
    BIMODAL,
    BATCH_SERVER,
    TOKEN_BUDGET,
    PER_KEY,
)
"""All built-in scenarios, by letter."""
