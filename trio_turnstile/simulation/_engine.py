"""The engine of the simulator: clients call a server on virtual time, and count the calls.

Three things keep the engine fast. It reads varying numbers once a tick and not once a call.
The time-outs of a client expire in the order of its calls, so one event for the oldest call
is enough. A worker that becomes free takes the next call at once, without an event.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Sequence
from typing import final

import attrs

from trio_turnstile.limits._protocol import LimitPolicy, Outcome, Sample

from ._scenarios import TICK, Client, Scenario, at
from ._servers import AnyServer, Call, Clock, make_server


@final
@attrs.frozen
class TracePoint:
    """What happened in one tick, for a plot."""

    time: float
    """The end of the tick, in seconds."""
    limits: tuple[float, ...]
    """The limit of each client."""
    capacity: int
    """Calls that the server can work on at once."""
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
    """The counts of one client.

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
    """Calls that were shed before they got a token."""
    latencies: list[tuple[float, float]] = attrs.field(factory=list[tuple[float, float]])
    """``(end, latency)`` of every call that succeeded."""
    overloads: list[float] = attrs.field(factory=list[float])
    """When each refusal and time-out came."""


@final
class _Caller:
    """One client: starts as many calls as its policy's limit permits."""

    def __init__(
        self,
        plan: Client,
        policy: LimitPolicy,
        server: AnyServer,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._plan = plan
        self.policy = policy
        self._server = server
        self._clock = clock
        self._rng = rng
        self._waiting: deque[float] = deque()
        self._pending: deque[Call] = deque()
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
        call = Call(self, arrived, now, books.in_flight)
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

    def refused(self, call: Call) -> None:
        if not call.done:
            self.books.refused += 1
            self._overloaded(call)

    def _overloaded(self, call: Call) -> None:
        self.books.overloads.append(self._clock.now)
        self._finish(call, Outcome.OVERLOADED)

    def succeeded(self, call: Call) -> None:
        if call.done:
            return
        now = self._clock.now
        self.books.ok += 1
        self.books.latencies.append((now, now - call.arrived))
        self._finish(call, Outcome.SUCCESS)

    def _finish(self, call: Call, outcome: Outcome) -> None:
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

    def __init__(self, callers: Sequence[_Caller], server: AnyServer) -> None:
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
    """Play a scenario with one policy for each client, and change these policies."""
    clock = Clock()
    server = make_server(scenario.server, clock, random.Random(seed))
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
