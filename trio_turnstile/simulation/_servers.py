"""The simulated servers, and their virtual time.

The engine passes each tick and each call to a server, and the server calls the owner of a call
when the call has ended. Future events are in one heap of ``(time, number, action)``; the number
breaks ties, so that the same seed gives the same run on every machine.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from typing import Protocol, final

from ._scenarios import LogNormal, Server, TokenBudget, at


class AnyServer(Protocol):
    """What calls are submitted to."""

    @property
    def capacity(self) -> int: ...

    def tick(self) -> None: ...

    def submit(self, call: Call) -> None: ...


class Owner(Protocol):
    """The client that started a call; the server reports the end of the call to it."""

    def succeeded(self, call: Call) -> None: ...

    def refused(self, call: Call) -> None: ...


@final
class Call:
    """One call in flight."""

    __slots__ = ("arrived", "done", "in_flight", "owner", "started")

    def __init__(self, owner: Owner, arrived: float, started: float, in_flight: int) -> None:
        self.owner = owner
        self.arrived = arrived
        self.started = started
        self.in_flight = in_flight
        self.done = False


@final
class Clock:
    """Virtual time, and the events to come."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., None], object]] = []
        self._count = 0

    def at(self, time: float, action: Callable[..., None], argument: object = None) -> None:
        self._count += 1
        heapq.heappush(self._heap, (time, self._count, action, argument))

    def run(self, until: float) -> None:
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= until:
            self.now, _, action, argument = pop(heap)
            action(argument)


@final
class _Conditions:
    """The server's numbers in the present tick."""

    def __init__(self, plan: Server, rng: random.Random) -> None:
        self._plan = plan
        self._rng = rng
        self._draw = (plan.jitter or LogNormal(plan.sigma)).draw
        self.capacity = 0
        self._service_time = self._errors = 0.0

    def tick(self, now: float) -> None:
        self.capacity = int(at(self._plan.workers, now) / self._plan.keys)
        self._service_time = at(self._plan.service_time, now)
        self._errors = at(self._plan.errors, now)

    def an_error(self) -> bool:
        return self._errors > 0 and self._rng.random() < self._errors

    def work(self, present: int) -> float:
        """Return the seconds of work of the next call, given the number of calls present."""
        time = self._service_time * self._draw(self._rng)
        if self._plan.collapse:
            time *= 1 + self._plan.collapse * max(0, present - self.capacity) / max(
                1, self.capacity
            )
        return time


def _refuse(call: Call, plan: Server, clock: Clock) -> None:
    clock.at(clock.now + plan.refusal_time, call.owner.refused, call)


@final
class QueueServer:
    """Workers behind a queue."""

    def __init__(self, plan: Server, clock: Clock, rng: random.Random) -> None:
        self._plan = plan
        self._clock = clock
        self._now = _Conditions(plan, rng)
        self._queue: deque[Call] = deque()
        self._busy = 0
        if plan.flush is not None:
            clock.at(plan.flush, self._flush)

    @property
    def capacity(self) -> int:
        return self._now.capacity

    def tick(self) -> None:
        self._now.tick(self._clock.now)
        self._dispatch()

    def submit(self, call: Call) -> None:
        if self._now.an_error():
            _refuse(call, self._plan, self._clock)
        elif self._plan.flush is None and self._busy < self._now.capacity and not self._queue:
            self._begin(call)
        elif len(self._queue) < self._plan.queue:
            self._queue.append(call)
        else:
            _refuse(call, self._plan, self._clock)

    def _begin(self, call: Call) -> None:
        self._busy += 1
        time = self._now.work(self._busy + len(self._queue))
        self._clock.at(self._clock.now + time, self._end, call)

    def _end(self, call: Call) -> None:
        self._busy -= 1
        self._dispatch()
        call.owner.succeeded(call)

    def _dispatch(self) -> None:
        if self._plan.flush is not None:
            return
        while self._queue and self._busy < self._now.capacity:
            self._begin(self._queue.popleft())

    def _flush(self, _: object) -> None:
        assert self._plan.flush is not None
        self._clock.at(self._clock.now + self._plan.flush, self._flush)
        batch = [self._queue.popleft() for _ in range(min(self.capacity, len(self._queue)))]
        for call in batch:
            call.owner.succeeded(call)


@final
class SharedServer:
    """Workers that all calls share: beyond the capacity all calls slow down, and none waits.

    All calls advance equally. So one number is enough: the work done so far on a call that
    was present all the time. A call is done when that number has grown by the call's own work.
    """

    def __init__(self, plan: Server, clock: Clock, rng: random.Random) -> None:
        self._plan = plan
        self._clock = clock
        self._now = _Conditions(plan, rng)
        self._calls: list[tuple[float, int, Call]] = []
        self._count = 0
        self._turn = 0  # of the next event; events of earlier turns are void
        self._done = self._as_of = 0.0

    @property
    def capacity(self) -> int:
        return self._now.capacity

    def tick(self) -> None:
        self._advance()
        self._now.tick(self._clock.now)
        self._await_next()

    def submit(self, call: Call) -> None:
        room = len(self._calls) < self.capacity + self._plan.queue
        if self._now.an_error() or not room:
            _refuse(call, self._plan, self._clock)
            return
        self._advance()
        self._count += 1
        done = self._done + self._now.work(len(self._calls) + 1)
        heapq.heappush(self._calls, (done, self._count, call))
        self._await_next()

    def _speed(self) -> float:
        return min(1.0, self.capacity / len(self._calls)) if self._calls else 0.0

    def _advance(self) -> None:
        self._done += (self._clock.now - self._as_of) * self._speed()
        self._as_of = self._clock.now

    def _await_next(self) -> None:
        self._turn += 1
        if speed := self._speed():
            left = max(0.0, self._calls[0][0] - self._done)
            self._clock.at(self._clock.now + left / speed, self._end, self._turn)

    def _end(self, turn: int) -> None:
        if turn != self._turn:
            return
        self._advance()
        _, _, call = heapq.heappop(self._calls)
        self._await_next()
        call.owner.succeeded(call)


@final
class KeyedServer:
    """Workers and a queue for each key.

    Args:
      plan: the server as a whole, with all its keys.
      clock: the virtual time.
      rng: chooses the key of each call.
    """

    def __init__(self, plan: Server, clock: Clock, rng: random.Random) -> None:
        self._each = [_plain_server(plan, clock, rng) for _ in range(plan.keys)]
        self._rng = rng

    @property
    def capacity(self) -> int:
        return sum(server.capacity for server in self._each)

    def tick(self) -> None:
        for server in self._each:
            server.tick()

    def submit(self, call: Call) -> None:
        self._rng.choice(self._each).submit(call)


@final
class MeteredServer:
    """Refuses calls that cost more than is left in the budget.

    Args:
      server: handles the calls.
      plan: the server as a whole, with its budget.
      budget: what calls may cost.
      clock: the virtual time.
      rng: draws the cost of each call.
    """

    def __init__(
        self, server: AnyServer, plan: Server, budget: TokenBudget, clock: Clock, rng: random.Random
    ) -> None:
        self._server = server
        self._plan = plan
        self._budget = budget
        self._clock = clock
        self._rng = rng
        self._tokens, self._as_of, self._per_second = budget.burst, 0.0, 0.0

    @property
    def capacity(self) -> int:
        return self._plan.capacity(self._clock.now)

    def tick(self) -> None:
        self._refill()
        self._per_second = at(self._budget.per_second, self._clock.now)
        self._server.tick()

    def submit(self, call: Call) -> None:
        self._refill()
        cost = self._budget.cost * self._budget.scatter.draw(self._rng)
        if cost > self._tokens:
            _refuse(call, self._plan, self._clock)
            return
        self._tokens -= cost
        self._server.submit(call)

    def _refill(self) -> None:
        gained = (self._clock.now - self._as_of) * self._per_second
        self._tokens = min(self._budget.burst, self._tokens + gained)
        self._as_of = self._clock.now


def make_server(plan: Server, clock: Clock, rng: random.Random) -> AnyServer:
    """Return the server of a scenario."""
    server = _plain_server(plan, clock, rng) if plan.keys == 1 else KeyedServer(plan, clock, rng)
    if plan.budget is None:
        return server
    return MeteredServer(server, plan, plan.budget, clock, rng)


def _plain_server(plan: Server, clock: Clock, rng: random.Random) -> AnyServer:
    return (SharedServer if plan.shared else QueueServer)(plan, clock, rng)
