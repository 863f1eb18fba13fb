"""What a user writes, and the types that come out of it. Checked, never run."""

# pyright: strict

import math
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from typing import assert_type

import trio

from trio_turnstile import (
    Abort,
    Aborted,
    Backoff,
    Channels,
    ConcurrentError,
    Decision,
    ErrorNoted,
    ErrorPolicy,
    Event,
    Fail,
    Halt,
    History,
    Instant,
    Limiter,
    LimiterClosed,
    LimiterOpened,
    LimiterStatistics,
    LimitPolicy,
    LiveRun,
    Load,
    Manager,
    Observation,
    Observer,
    Override,
    PhaseTimeouts,
    Reason,
    Report,
    Retry,
    RetryIn,
    RunClosed,
    RunOpened,
    RunReport,
    Saturated,
    Scalable,
    SetLimit,
    Signal,
    Skip,
    Snapshot,
    Stop,
    Throttle,
    Turnstile,
    Verdict,
    log_decisions,
    open_turnstile,
    retry,
    run_phases,
)
from trio_turnstile.limits import Sample
from trio_turnstile.testing import assert_conserved

# ---- limiters ----


async def limiters() -> None:
    api = Limiter("api", 10, throttle=Throttle(up=1, down=2, min=1, hold=30.0), max_waiting=100)
    Limiter("unbounded", math.inf, throttle=Throttle(min=0, hold=30))
    async with api as token:
        assert_type(token, None)
    assert_type(await api.acquire(), None)
    assert_type(await api.acquire_on_behalf_of("somebody"), None)
    assert_type(api.acquire_nowait(), None)
    assert_type(api.release(), None)
    assert_type(await api.wait_idle(), None)
    assert_type(api.name, str)
    assert_type(api.total_tokens, float)
    api.total_tokens = 5
    api.total_tokens = math.inf
    assert_type(api.borrowed_tokens, int)
    assert_type(api.available_tokens, float)
    assert_type(api.ceiling, float)
    assert_type(api.minimum, int)
    assert_type(api.decisions, tuple[Decision, ...])
    statistics = api.statistics()
    assert_type(statistics, LimiterStatistics)
    assert_type(api.load(), Load)
    assert_type(statistics.borrowers, list[object])
    assert_type(statistics.paused, bool)
    api.up()
    api.down()
    api.pause()
    api.pause(30)
    api.resume()
    api.close()


def shed(error: Saturated) -> None:
    assert_type(error.limiter, str)
    assert_type(error.waiting, int)
    assert_type(error.limit, float)


# ---- turnstiles ----


async def alarm(turnstile: Turnstile) -> None:
    turnstile.down()
    turnstile.signal(Signal.UP, "api")


def observe(event: Event) -> None:
    match event:
        case Decision():
            assert_type(event.signal, Signal | None)
            assert_type(event.reason, Reason)
            assert_type(event.evidence, Mapping[str, object])
            assert_type(event.applied, bool)
        case Snapshot():
            assert_type(event.running, int)
        case LimiterOpened():
            assert_type(event.ceiling, float)
        case LimiterClosed():
            assert_type(event.time, float)
        case RunOpened():
            assert_type(event.run, LiveRun)
        case RunClosed():
            assert_type(event.report, RunReport)
        case ErrorNoted():
            assert_type(event.error, ConcurrentError)


class Recorder:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event, /) -> None:
        self.events.append(event)


class Half:
    """A policy of the user's own."""

    def __init__(self, most: int) -> None:
        self._most = most

    @property
    def limit(self) -> float:
        return self._most / 2

    def on_tick(self, now: float, in_flight: int, waiting: int) -> None:
        pass

    def on_start(self, now: float, in_flight: int) -> None: ...

    def on_finish(self, sample: Sample) -> None: ...

    def why(self) -> dict[str, object]:
        return {"most": self._most}


async def turnstiles() -> None:
    events: list[Event] = []
    observers: list[Observer] = [observe, log_decisions, Recorder(), events.append]
    policy: LimitPolicy = Half(10)
    async with open_turnstile(observers=observers, sample_every=5) as turnstile:
        assert_type(turnstile, Turnstile)
        api = turnstile.limiter("api", 10, throttle=Throttle(hold=5), policy=policy)
        assert_type(api, Limiter)
        assert_type(turnstile.add(Limiter("db", 40, policy=Half(4))), Limiter)
        assert_type(turnstile.limiters, Mapping[str, Limiter])
        turnstile.watch(alarm)
        turnstile.up()
        turnstile.down("api")
        assert_type(await turnstile.ask("api", SetLimit(20), by="ann", note="night"), Decision)
        assert_type(turnstile.preview("api", Signal.UP), Decision)
        assert_type(api.override, Override | None)
        assert_type(turnstile.runs, Mapping[str, LiveRun])
        assert_type(turnstile.opened, Instant)
        with turnstile.observe(observe) as observation:
            assert_type(observation, Observation)
        assert_type(turnstile.history, History)
        assert_type(turnstile.history.averages("api"), Mapping[int, float | None])
        assert_type(turnstile.history.latest("api"), Snapshot | None)
        assert_type(turnstile.history.samples("api", 60), list[Snapshot])


# ---- phases ----


class Align(Scalable):
    """An operation of the user's own."""

    def __init__(self, path: str) -> None:
        self.path = path

    @property
    def identifiers(self) -> tuple[str, ...]:
        return (self.path,)

    async def work(self, channels: Channels) -> None:
        await channels.working.send(1)
        await channels.errors.send(ConcurrentError("slow disk", identifiers=[self.path]))


def lazily() -> Iterator[Align]:
    yield Align("a")


async def asynchronously() -> AsyncIterator[Align]:
    yield Align("a")
    await trio.lowlevel.checkpoint()


async def phases() -> None:
    assert_type(await run_phases([Align("a")], limiter=8), Report)
    assert_type(await run_phases({Align("a"): 1}, limiter=trio.CapacityLimiter(8)), Report)
    assert_type(await run_phases(lazily(), limiter=Limiter("api", 8), window=100), Report)
    assert_type(await run_phases(asynchronously(), limiter=8, prepare_limiter=2), Report)
    send, receive = trio.open_memory_channel[Align](10)
    with send, receive:
        await send.send(Align("b"))
        assert_type(await run_phases(receive, limiter=8), Report)
    report = await run_phases(
        (Align(name) for name in "abc"),
        limiter=8,
        prepare_limiter=Limiter("disk", 2),
        on_error=[Retry(2, on=OSError), Halt("soon", fail="5%"), Skip()],
        timeouts=PhaseTimeouts(prepare=10, work=60.0),
        cleanup_grace=5,
        counting="phases",
        max_errors=100,
    )
    assert_type(report.completed, int)
    assert_type(report.errors, tuple[ConcurrentError, ...])
    assert_type(report.cut_off, tuple[Scalable, ...])
    assert_conserved(report)


async def managed() -> None:
    async with trio.open_nursery() as nursery:
        manager: Manager = await nursery.start(partial(run_phases, lazily(), limiter=8))
        assert_type(manager.working, int)
        assert_type(manager.errors, tuple[ConcurrentError, ...])
        assert_type(manager.limiter, Limiter | trio.CapacityLimiter)
        manager.limiter.total_tokens = 16
        manager.drain()
        manager.drain(trio.current_time() + 60)
        assert_type(manager.report(), Report)
        assert_conserved(manager)


async def aborted() -> None:
    try:
        await run_phases(lazily(), limiter=8, on_error=[Abort()])
    except Aborted as group:
        for error in group.exceptions:
            assert_type(error, ConcurrentError | ExceptionGroup[ConcurrentError])


# ---- policies ----


class Patient:
    """An error policy of the user's own."""

    def decide(self, error: ConcurrentError, /) -> Verdict | None:
        return RetryIn(60.0) if error.attempt < 3 else Fail()


def is_throttled(error: BaseException) -> bool:
    return "429" in str(error)


def linear(failures: int) -> float:
    return float(failures)


policies: list[ErrorPolicy] = [
    Patient(),
    Retry(3),
    Retry(3, on=(OSError, TimeoutError), backoff=Backoff(initial=1, maximum=60)),
    Retry(3, on=is_throttled, backoff=linear),
    Retry(None),
    Retry(None, within=60),
    Halt("now", fail=3),
    Skip(on=ValueError),
    Abort(on=lambda error: isinstance(error, MemoryError)),
]


async def fetch(url: str, page: int) -> bytes:
    raise NotImplementedError


async def retries(api: Limiter, plain: trio.CapacityLimiter) -> None:
    assert_type(await retry(Retry(3, on=OSError), fetch, "a", 1), bytes)
    assert_type(await retry(policies, fetch, "a", 1, limiter=api), bytes)
    assert_type(await retry([Patient()], partial(fetch, "a", page=1), limiter=plain), bytes)


verdicts: list[Verdict] = [RetryIn(1.0), Fail(), Stop("soon", failures=3, share=0.1)]


def account(error: ConcurrentError) -> None:
    assert_type(error.identifiers, tuple[str, ...])
    assert_type(error.item, object)
    assert_type(error.phase, str)
    assert_type(error.attempt, int)
    assert_type(error.elapsed, float | None)
    assert_type(error.notes, tuple[str, ...])
