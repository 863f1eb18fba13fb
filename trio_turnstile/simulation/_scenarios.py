"""Scenarios: frozen values that say what service is simulated, and who calls it.

A scenario is put together from a few parts. A number that may change over time is either a
plain number, `Steps` (it jumps at given times) or `Sine` (it swings); the simulator reads
it anew at every tick, 100 ms.

The scenarios built in are lettered as in the comparison table: each asks one question of a
policy.
"""

from __future__ import annotations

import math
import random
from typing import Protocol, TypeAlias, final

import attrs
from attrs.validators import ge, gt, min_len, optional

TICK = 0.1
"""Seconds between two readings of everything that changes over time."""


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
    """A number that swings, beginning at its mean and going up."""

    mean: float
    """What it swings about."""
    amplitude: float
    """How far it swings."""
    period: float
    """How long a swing takes, in seconds."""

    def at(self, now: float) -> float:
        """Return the value at a time in seconds."""
        return self.mean + self.amplitude * math.sin(2 * math.pi * now / self.period)


Varying: TypeAlias = float | Steps | Sine
"""A number, or one that changes over time."""


def at(number: Varying, now: float) -> float:
    """Return the value of a number that may vary, at a time in seconds."""
    return number.at(now) if isinstance(number, Steps | Sine) else number


class Jitter(Protocol):
    """How service times scatter: factors with mean 1."""

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
    """Two kinds of work, quick and long."""

    share: float = 0.1
    """The share of the calls that are long."""
    ratio: float = 20.0
    """How many times as long they take."""

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
class Server:
    """The service: workers behind one first-come-first-served queue, or shared by all calls."""

    workers: Varying = 40
    """Calls it can work on at once, which is its true capacity. When it falls, work begun
    is finished."""
    service_time: Varying = 0.1
    """Mean time a worker spends on a call, in seconds."""
    sigma: float = attrs.field(default=0.3, validator=ge(0))
    """Scatter of the service time, log-normal."""
    jitter: Jitter | None = None
    """Another distribution of the scatter, in place of the log-normal."""
    collapse: float = attrs.field(default=0.0, validator=ge(0))
    """Contention: each worker slows down by this share for every multiple of the capacity
    beyond it."""
    queue: float = attrs.field(default=math.inf, validator=ge(0))
    """Calls that may wait; beyond, a call is refused. 0 is a quota."""
    refusal_time: float = attrs.field(default=0.005, validator=ge(0))
    """Seconds that it takes to refuse a call."""
    errors: Varying = 0.0
    """Share of calls refused at random, whatever the load."""
    shared: bool = False
    """No call waits in line: all are worked on at once, each the slower the more there are
    beyond the capacity, as on a machine whose cores are shared by what it runs."""
    flush: float | None = attrs.field(default=None, validator=optional(gt(0)))
    """A batch server: calls are gathered and answered, at most ``workers`` together,
    each time that so many seconds have gone by."""

    def __attrs_post_init__(self) -> None:
        if self.shared and self.flush is not None:
            raise ValueError(
                f"a server that answers in batches, with flush={self.flush}, has no workers to"
                " share; leave out shared or flush"
            )


@final
@attrs.frozen(kw_only=True)
class Client:
    """A caller behind a limit of its own."""

    arrivals: Varying | None = None
    """Calls per second, at random (Poisson); None is batch mode: there is always more to do."""
    timeout: float = attrs.field(default=5.0, validator=gt(0))
    """Seconds after which a call is given up, and counts as overload. The server does the
    work all the same."""
    max_wait: float = attrs.field(default=math.inf, validator=ge(0))
    """Seconds a call may wait for a token before it is shed; in open mode only."""
    joins: float = attrs.field(default=0.0, validator=ge(0))
    """When the client begins, in seconds."""


@final
@attrs.frozen(kw_only=True)
class Scenario:
    """A service and its callers, for some time."""

    name: str
    """For tables."""
    server: Server = Server()
    """The service."""
    clients: tuple[Client, ...] = attrs.field(default=(Client(),), validator=min_len(1))
    """The callers; each gets a policy of its own."""
    duration: float = attrs.field(default=120.0, validator=gt(0))
    """Seconds to simulate."""
    warm_up: float = attrs.field(default=10.0, validator=ge(0))
    """Seconds at the beginning that the figures leave out."""
    initial: float = 20.0
    """The limit a bench is to start with."""

    @property
    def changes(self) -> tuple[float, ...]:
        """When the capacity jumps, the beginning included."""
        workers = self.server.workers
        later = workers.then if isinstance(workers, Steps) else ()
        return (0.0, *(time for time, _ in later))


def _burst(every: float, length: float, share: float, duration: float) -> Steps:
    starts = (every * (i + 1) for i in range(int(duration / every)))
    return Steps(0.0, tuple(step for t in starts for step in ((t, share), (t + length, 0.0))))


STEADY = Scenario(name="A steady")
"""40 workers of 0.1 s each: does it find the knee?"""
HALVED = Scenario(
    name="B halve, double", server=Server(workers=Steps(40, ((60, 20), (120, 40)))), duration=180.0
)
"""The capacity halves and doubles: does it follow?"""
SLOWER = Scenario(
    name="C slower, same capacity",
    server=Server(service_time=Steps(0.1, ((60, 0.2), (120, 0.1)))),
    duration=180.0,
)
"""Every call takes twice as long, at the same capacity: does it hold?"""
QUOTA = Scenario(
    name="D quota", server=Server(workers=Steps(50, ((60, 25), (120, 50))), queue=0), duration=180.0
)
"""A quota that halves and doubles, and refuses what is beyond: is it heeded?"""
HEAVY_TAIL = Scenario(name="E heavy tail", server=Server(sigma=1.0))
"""Service times that scatter widely: is it misled?"""
OPEN = Scenario(
    name="F open load",
    clients=(Client(arrivals=Steps(120, ((60, 600), (120, 120))), max_wait=1.0, timeout=2.0),),
    duration=180.0,
)
"""Calls at random, too few to use the limit at first, then too many."""
COLLAPSE = Scenario(name="G contention collapse", server=Server(collapse=0.5))
"""Each call beyond the capacity slows down all: does it keep clear of it?"""
STALL = Scenario(
    name="H stall",
    server=Server(workers=Steps(40, ((60, 2), (90, 40)))),
    clients=(Client(timeout=2.0),),
    duration=180.0,
)
"""Nearly all workers stop for 30 s, and calls time out."""
TWO_CLIENTS = Scenario(name="I two clients", clients=(Client(), Client(joins=60.0)))
"""A second client joins half-way: do they share?"""
COLD_START = Scenario(
    name="J cold start", server=Server(workers=100), duration=60.0, warm_up=0.0, initial=1.0
)
"""From 1 to a capacity of 100: is it quick?"""
SINE = Scenario(name="K sine", server=Server(workers=Sine(40, 20, 120.0)), duration=240.0)
"""The capacity swings."""
ERROR_BURSTS = Scenario(name="L error bursts", server=Server(errors=_burst(20.0, 1.0, 0.5, 120.0)))
"""Half the calls are refused for a second, now and then, whatever the load."""
BIMODAL = Scenario(name="M bimodal", server=Server(service_time=0.145, jitter=Bimodal(0.1, 20.0)))
"""One call in ten takes twenty times as long."""
BATCH_SERVER = Scenario(name="N batch server", server=Server(flush=0.2))
"""Answers come in batches, every 0.2 s."""

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
)
"""All that are built in, by letter."""
