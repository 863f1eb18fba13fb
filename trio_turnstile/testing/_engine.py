"""The simulator's engine: calls, clients and a server on virtual time.

One heap of ``(time, number, action)``; the number breaks ties, so that the same seed gives
the same run on every machine. Three things keep it quick, and are worth knowing when
reading: what varies is read once a tick and not once a call; the time-outs of a client fall
due in the order of their calls, so one event for the oldest is enough; and a worker that
becomes free takes the next call at once, without an event.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import final

import attrs

from trio_turnstile.limits._protocol import LimitPolicy, Outcome, Sample

from ._scenarios import TICK, Client, LogNormal, Scenario, Server, at


@final
@attrs.frozen
class TracePoint:
    """What happened in one tick, to plot."""

    time: float
    """The end of the tick, in seconds."""
    limits: tuple[float, ...]
    """The limit of each client."""
    capacity: int
    """Calls the server can work on at once."""
    in_flight: int
    """Calls in flight, all clients together."""
    finished: tuple[int, ...]
    """Calls that succeeded during the tick, by client."""
    refused: int
    """Calls refused or timed out during the tick."""
    latency: float
    """Mean latency of those that succeeded, in seconds; nan if there were none."""


@final
@attrs.define(eq=False)
class Books:
    """What one client has seen.

    At any time ``started == ok + refused + timed_out + in_flight``.
    """

    started: int = 0
    """Calls that have begun."""
    ok: int = 0
    """Calls that succeeded."""
    refused: int = 0
    """Calls that the server refused."""
    timed_out: int = 0
    """Calls that took too long."""
    in_flight: int = 0
    """Calls that have begun and not ended."""
    shed: int = 0
    """Calls given up before they got a token."""
    latencies: list[tuple[float, float]] = attrs.field(factory=list[tuple[float, float]])
    """``(end, latency)`` of every call that succeeded."""
    overloads: list[float] = attrs.field(factory=list[float])
    """When each refusal and time-out came."""


class _Call:
    __slots__ = ("arrived", "done", "in_flight", "owner", "started")

    def __init__(self, owner: _Caller, arrived: float, started: float, in_flight: int) -> None:
        self.owner = owner
        self.arrived = arrived
        self.started = started
        self.in_flight = in_flight
        self.done = False


@final
class _Clock:
    """Virtual time, and what is to happen when."""

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
    """What the plan says of the present tick."""

    def __init__(self, plan: Server, rng: random.Random) -> None:
        self._plan = plan
        self._rng = rng
        self._draw = (plan.jitter or LogNormal(plan.sigma)).draw
        self.capacity = 0
        self._service_time = self._errors = 0.0

    def tick(self, now: float) -> None:
        self.capacity = int(at(self._plan.workers, now))
        self._service_time = at(self._plan.service_time, now)
        self._errors = at(self._plan.errors, now)

    def an_error(self) -> bool:
        return self._errors > 0 and self._rng.random() < self._errors

    def work(self, present: int) -> float:
        """Return the seconds of work of the next call, so many calls being there."""
        time = self._service_time * self._draw(self._rng)
        if self._plan.collapse:
            time *= 1 + self._plan.collapse * max(0, present - self.capacity) / max(
                1, self.capacity
            )
        return time


@final
class _Server:
    """Workers behind a queue."""

    def __init__(self, plan: Server, clock: _Clock, rng: random.Random) -> None:
        self._plan = plan
        self._clock = clock
        self._now = _Conditions(plan, rng)
        self._queue: deque[_Call] = deque()
        self._busy = 0
        if plan.flush is not None:
            clock.at(plan.flush, self._flush)

    @property
    def capacity(self) -> int:
        return self._now.capacity

    def tick(self) -> None:
        self._now.tick(self._clock.now)
        self._dispatch()

    def submit(self, call: _Call) -> None:
        if self._now.an_error():
            self._refuse(call)
        elif self._plan.flush is None and self._busy < self._now.capacity and not self._queue:
            self._begin(call)
        elif len(self._queue) < self._plan.queue:
            self._queue.append(call)
        else:
            self._refuse(call)

    def _refuse(self, call: _Call) -> None:
        self._clock.at(self._clock.now + self._plan.refusal_time, call.owner.refused, call)

    def _begin(self, call: _Call) -> None:
        self._busy += 1
        time = self._now.work(self._busy + len(self._queue))
        self._clock.at(self._clock.now + time, self._end, call)

    def _end(self, call: _Call) -> None:
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
class _Shared:
    """Workers that all calls share: beyond the capacity each call is the slower, and none waits.

    All advance alike, so one number, the work done for each that was there all the time, tells
    when a call is done: when it has grown by the work of that call.
    """

    def __init__(self, plan: Server, clock: _Clock, rng: random.Random) -> None:
        self._plan = plan
        self._clock = clock
        self._now = _Conditions(plan, rng)
        self._calls: list[tuple[float, int, _Call]] = []
        self._count = 0
        self._turn = 0  # of the event that is awaited; those of former turns are void
        self._done = self._as_of = 0.0

    @property
    def capacity(self) -> int:
        return self._now.capacity

    def tick(self) -> None:
        self._advance()
        self._now.tick(self._clock.now)
        self._await_next()

    def submit(self, call: _Call) -> None:
        room = len(self._calls) < self.capacity + self._plan.queue
        if self._now.an_error() or not room:
            self._clock.at(self._clock.now + self._plan.refusal_time, call.owner.refused, call)
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
class _Caller:
    """One client: starts calls as its policy's limit permits."""

    def __init__(
        self,
        plan: Client,
        policy: LimitPolicy,
        server: _Server | _Shared,
        clock: _Clock,
        rng: random.Random,
    ) -> None:
        self._plan = plan
        self.policy = policy
        self._server = server
        self._clock = clock
        self._rng = rng
        self._waiting: deque[float] = deque()
        self._pending: deque[_Call] = deque()
        self._watching = False
        self._joined = False
        self.books = Books()
        clock.at(plan.joins, self._join)

    def _join(self, _: object) -> None:
        self._joined = True
        if self._plan.arrivals is not None:
            self._arrive(None)
        self._start_all()

    def _arrive(self, arrival: float | None) -> None:
        assert self._plan.arrivals is not None
        now = self._clock.now
        if arrival is not None:
            self._waiting.append(now)
            self._start_all()
        rate = at(self._plan.arrivals, now)
        following = now + (self._rng.expovariate(rate) if rate > 0 else TICK)
        self._clock.at(following, self._arrive, following if rate > 0 else None)

    def tick(self) -> None:
        if not self._joined:
            return
        self._shed()
        waiting = (
            max(1, int(self.policy.limit)) if self._plan.arrivals is None else len(self._waiting)
        )
        self.policy.on_tick(self._clock.now, self.books.in_flight, waiting)
        self._start_all()

    def _shed(self) -> None:
        oldest = self._clock.now - self._plan.max_wait
        while self._waiting and self._waiting[0] < oldest:
            self._waiting.popleft()
            self.books.shed += 1

    def _start_all(self) -> None:
        room = int(self.policy.limit) - self.books.in_flight
        if room <= 0:
            return
        if self._plan.arrivals is None:
            for _ in range(room):
                self._start(self._clock.now)
            return
        self._shed()
        for _ in range(min(room, len(self._waiting))):
            self._start(self._waiting.popleft())

    def _start(self, arrived: float) -> None:
        now, books = self._clock.now, self.books
        books.started += 1
        books.in_flight += 1
        call = _Call(self, arrived, now, books.in_flight)
        if self._plan.timeout < math.inf:
            self._pending.append(call)
            if not self._watching:
                self._watch()
        self.policy.on_start(now, books.in_flight)
        self._server.submit(call)

    def _watch(self) -> None:
        self._watching = True
        self._clock.at(self._pending[0].started + self._plan.timeout, self._time_out)

    def _time_out(self, _: object) -> None:
        self._watching = False
        pending, due = self._pending, self._clock.now - self._plan.timeout + 1e-9
        while pending and (pending[0].done or pending[0].started <= due):
            call = pending.popleft()
            if not call.done:
                self.books.timed_out += 1
                self._overloaded(call)
        if pending and not self._watching:
            self._watch()

    def refused(self, call: _Call) -> None:
        if not call.done:
            self.books.refused += 1
            self._overloaded(call)

    def _overloaded(self, call: _Call) -> None:
        self.books.overloads.append(self._clock.now)
        self._finish(call, Outcome.OVERLOADED)

    def succeeded(self, call: _Call) -> None:
        if call.done:
            return
        now = self._clock.now
        self.books.ok += 1
        self.books.latencies.append((now, now - call.arrived))
        self._finish(call, Outcome.SUCCESS)

    def _finish(self, call: _Call, outcome: Outcome) -> None:
        call.done = True
        self.books.in_flight -= 1
        self.policy.on_finish(Sample(call.started, self._clock.now, call.in_flight, outcome))
        self._start_all()


@final
@attrs.frozen
class Run:
    """A scenario played to its end."""

    books: tuple[Books, ...]
    """The books of each client."""
    trace: tuple[TracePoint, ...]
    """What happened in every tick."""


@final
class _Recorder:
    """Writes a trace point for each tick."""

    def __init__(self, callers: Sequence[_Caller], server: _Server | _Shared) -> None:
        self._callers = callers
        self._server = server
        self._seen = [0] * len(callers)
        self._refused = 0
        self.trace: list[TracePoint] = []

    def note(self, now: float) -> None:
        books = [caller.books for caller in self._callers]
        fresh = [b.latencies[seen:] for b, seen in zip(books, self._seen, strict=True)]
        self._seen = [len(b.latencies) for b in books]
        latencies = [latency for part in fresh for _, latency in part]
        refused = sum(len(b.overloads) for b in books)
        self.trace.append(
            TracePoint(
                time=now,
                limits=tuple(float(caller.policy.limit) for caller in self._callers),
                capacity=self._server.capacity,
                in_flight=sum(b.in_flight for b in books),
                finished=tuple(len(part) for part in fresh),
                refused=refused - self._refused,
                latency=sum(latencies) / len(latencies) if latencies else math.nan,
            )
        )
        self._refused = refused


def play(scenario: Scenario, policies: Sequence[LimitPolicy], seed: int) -> Run:
    """Play a scenario, one policy for each client; the policies are used up by it."""
    clock = _Clock()
    kind = _Shared if scenario.server.shared else _Server
    server = kind(scenario.server, clock, random.Random(seed))
    callers = [
        _Caller(plan, policy, server, clock, random.Random(f"{seed}/{i}"))
        for i, (plan, policy) in enumerate(zip(scenario.clients, policies, strict=True))
    ]
    recorder = _Recorder(callers, server)

    def tick(number: int) -> None:
        server.tick()
        for caller in callers:
            caller.tick()
        recorder.note(clock.now)
        clock.at((number + 1) * TICK, tick, number + 1)

    server.tick()
    clock.at(0.0, tick, 0)
    clock.run(scenario.duration)
    return Run(tuple(caller.books for caller in callers), tuple(recorder.trace))
