"""A breaker stops calls in an outage, probes the service, and spends no tries meanwhile."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_turnstile import (
    Batch,
    Breaker,
    ConcurrentError,
    Consumer,
    Limiter,
    Pause,
    PipelineReport,
    Producer,
    Reason,
    Resume,
    Retry,
    Skip,
    Turnstile,
    open_turnstile,
    retry,
)
from trio_turnstile.limits import AIMDLimit
from trio_turnstile.testing import assert_conserved

BEGIN = 30.0


class Service:
    """Answers after a second, but fails at once from `BEGIN` to `end`; notes when it is called."""

    def __init__(self, seconds: float = 20 * 60) -> None:
        self.began = trio.current_time()
        self.end = BEGIN + seconds
        self.calls: list[float] = []

    @property
    def now(self) -> float:
        """Seconds since it was made."""
        return trio.current_time() - self.began

    @property
    def is_out(self) -> bool:
        """Whether it fails now."""
        return BEGIN <= self.now < self.end

    @property
    def calls_in_outage(self) -> list[float]:
        """When it was called in vain."""
        return [time for time in self.calls if BEGIN <= time < self.end]

    @property
    def calls_at_full_speed(self) -> list[float]:
        """When it was called in the second that begins 29 seconds after the outage."""
        return [time for time in self.calls if self.end + 29 <= time < self.end + 30]

    async def __call__(self, item: object) -> None:
        """Answer, or fail."""
        self.calls.append(self.now)
        if self.is_out:
            await trio.lowlevel.checkpoint()
            raise OSError("no route to host")
        await trio.sleep(1)

    async def ping(self) -> bool:
        """Tell whether it is there."""
        await trio.lowlevel.checkpoint()
        return not self.is_out


async def many(
    breaker: Breaker, service: Service, count: int = 1000, **options: Any
) -> PipelineReport:
    """Have so many items handled by ten tokens, with three tries each."""
    async with open_turnstile() as turnstile:
        for watcher in options.pop("watchers", ()):
            turnstile.watch(watcher)
        api = turnstile.limiter("api", 10, breaker=breaker)
        policies = [breaker, Retry(2, on=OSError), Skip()]
        return await (
            Producer(range(count)) | Consumer(service, limiter=api, on_error=policies, **options)
        ).run()


async def test_no_item_is_lost_in_an_outage(autojump_clock: MockClock) -> None:
    """In twenty minutes none fails, few calls are made, and soon after all tokens are in use."""
    service, breaker = Service(), Breaker(on=OSError)
    report = await many(breaker, service)
    assert_conserved(report)
    assert report.steps[0].completed == 1000
    assert len(service.calls_in_outage) <= 25
    assert len(service.calls_at_full_speed) == 10
    assert breaker.state == "closed"


@pytest.mark.parametrize("minutes", [1, 5, 12.3, 60])
async def test_the_end_of_an_outage_is_found(autojump_clock: MockClock, minutes: float) -> None:
    """However long it lasts, the next probe comes within the longest wait."""
    service = Service(minutes * 60)
    await many(Breaker(on=OSError, longest=50), service, 500)
    assert min(time for time in service.calls if time >= service.end) <= service.end + 50


async def test_a_check_finds_the_end_of_an_outage(autojump_clock: MockClock) -> None:
    """With it fewer calls are made in vain, and all tokens are in use within 30 s of the end."""
    service, breaker = Service(), Breaker(on=OSError)
    watcher = breaker.check(service.ping)
    report = await many(breaker, service, watchers=[watcher])
    assert report.steps[0].completed == 1000
    assert len(service.calls_in_outage) <= 10
    assert len(service.calls_at_full_speed) == 10


async def test_without_a_breaker_the_tries_are_spent(autojump_clock: MockClock) -> None:
    """What the breaker is for: in an outage all items would fail."""
    service = Service()
    policies = [Retry(2, on=OSError), Skip()]
    report = await (Producer(range(1000)) | Consumer(service, limiter=10, on_error=policies)).run()
    assert report.steps[0].completed < 400


async def test_a_batch_spends_no_try(autojump_clock: MockClock) -> None:
    """The members of a batch wait for the end of the outage, too."""
    service, breaker = Service(), Breaker(on=OSError, window=2)
    report = await many(breaker, service, batch=Batch(10))
    assert report.steps[0].completed == 1000
    assert_conserved(report)


@asynccontextmanager
async def guarded(
    breaker: Breaker, tokens: int = 4, **options: Any
) -> AsyncIterator[tuple[Turnstile, Limiter]]:
    """Open a turnstile with one limiter."""
    async with open_turnstile() as turnstile:
        yield turnstile, turnstile.limiter("api", tokens, breaker=breaker, **options)


async def fail(limiter: Limiter, times: int = 1, error: type[Exception] = OSError) -> None:
    """Make so many calls that fail."""
    for _ in range(times):
        with pytest.raises(error):
            async with limiter:
                raise error("down")


async def succeed(limiter: Limiter, times: int = 1) -> None:
    """Make so many calls that succeed."""
    for _ in range(times):
        async with limiter:
            pass


async def test_it_opens_probes_and_closes(autojump_clock: MockClock) -> None:
    """Each state is a bound of the limit, and each change of it a decision."""
    breaker = Breaker(window=4, wait=30, probes=2)
    async with guarded(breaker) as (_, limiter):
        await succeed(limiter, 2)
        await fail(limiter, 2)
        assert (breaker.state, limiter.total_tokens) == ("open", 0)
        assert limiter.statistics().bounds["breaker"].why["state"] == "open"
        await trio.sleep(30.1)
        assert (breaker.state, limiter.total_tokens) == ("half-open", 2)
        await succeed(limiter)
        assert (breaker.state, limiter.total_tokens) == ("closed", 4)
        decisions = [each for each in limiter.decisions if each.reason is Reason.BREAKER]
        assert [each.evidence["state"] for each in decisions] == ["open", "half-open", "closed"]
        assert "breaker" not in limiter.statistics().bounds


async def test_each_probe_in_vain_doubles_the_wait(autojump_clock: MockClock) -> None:
    """It stays open for longer each time, up to a bound; after a success it begins anew."""
    breaker = Breaker(window=1, wait=30, longest=100)
    async with guarded(breaker) as (_, limiter):
        await fail(limiter)
        for seconds in (30, 60, 100, 100):
            began = trio.current_time()
            await fail(limiter)
            assert trio.current_time() - began == pytest.approx(seconds)
        await succeed(limiter)
        await fail(limiter)
        began = trio.current_time()
        await succeed(limiter)
        assert trio.current_time() - began == pytest.approx(30)


async def test_other_errors_are_no_outage(autojump_clock: MockClock) -> None:
    """An error that it is not for counts neither as a failure nor as a success."""
    breaker = Breaker(on=OSError, window=2)
    async with guarded(breaker) as (_, limiter):
        await fail(limiter, 10, ValueError)
        assert breaker.state == "closed"
        await fail(limiter, 2)
        await trio.sleep(31)
        await fail(limiter, 1, ValueError)
        assert breaker.state == "half-open"


async def test_a_predicate_that_fails_costs_no_token(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The token is given back, the error of the call comes out, and the log tells."""

    def predicate(error: Exception) -> bool:
        raise RuntimeError("a bug")

    async with guarded(Breaker(on=predicate)) as (_, limiter):
        await fail(limiter)
        assert limiter.borrowed_tokens == 0
    assert "a bug" in caplog.text


async def test_calls_from_before_the_outage_tell_nothing(autojump_clock: MockClock) -> None:
    """A call that began before it opened neither closes it nor opens it again."""
    breaker = Breaker(window=2, wait=10)

    async def slow(seconds: float, error: Exception | None) -> None:
        try:
            async with limiter:
                await trio.sleep(seconds)
                if error is not None:
                    raise error
        except OSError:
            pass

    async with guarded(breaker) as (_, limiter), trio.open_nursery() as nursery:
        nursery.start_soon(slow, 15, None)
        nursery.start_soon(slow, 16, OSError())
        cancelled = trio.CancelScope()

        async def in_scope() -> None:
            with cancelled:
                await slow(100, None)

        nursery.start_soon(in_scope)
        await wait_all_tasks_blocked()
        await fail(limiter, 2)
        await trio.sleep(12)
        assert breaker.state == "half-open"
        await trio.sleep(6)
        assert breaker.state == "half-open"
        cancelled.cancel()
        await succeed(limiter)
        assert breaker.state == "closed"


@pytest.mark.parametrize("how", ["resume", "ask", "assign"])
async def test_the_operator_may_end_it(how: str, autojump_clock: MockClock) -> None:
    """To resume, or to assign a limit, closes it."""
    breaker = Breaker(window=1)
    async with guarded(breaker) as (turnstile, limiter):
        await fail(limiter)
        foreseen = turnstile.preview("api", Resume())
        assert foreseen.after == 4
        assert breaker.state == "open"
        if how == "resume":
            limiter.resume()
        elif how == "ask":
            await turnstile.ask("api", Resume())
        else:
            limiter.total_tokens = 3
        await wait_all_tasks_blocked()
        assert breaker.state == "closed"
        assert limiter.total_tokens == (3 if how == "assign" else 4)
        await succeed(limiter)


async def test_a_pause_goes_on_when_it_closes(autojump_clock: MockClock) -> None:
    """Each bound is one of several."""
    breaker = Breaker(window=1, wait=10)
    async with guarded(breaker) as (turnstile, limiter):
        await fail(limiter)
        await turnstile.ask("api", Pause(60))
        await trio.sleep(30)
        assert (breaker.state, limiter.total_tokens) == ("half-open", 0)


async def test_it_does_nothing_without_a_turnstile() -> None:
    """Nothing would ever let calls begin again."""
    breaker = Breaker(window=1)
    limiter = Limiter("api", 2, breaker=breaker)
    await fail(limiter, 5)
    await succeed(limiter)
    assert breaker.state == "closed"


async def test_one_call_that_is_tried_again_waits_for_it(autojump_clock: MockClock) -> None:
    """`retry` spends no try either."""
    breaker, calls = Breaker(window=1, wait=10), list[float]()

    async def call() -> str:
        calls.append(trio.current_time())
        if len(calls) < 5:
            raise OSError("down")
        return "up"

    async with guarded(breaker) as (_, limiter):
        assert await retry([breaker, Retry(1)], call, limiter=limiter) == "up"


async def test_a_check_that_fails_or_hangs_means_no(autojump_clock: MockClock) -> None:
    """Neither ends the turnstile; the next check is made in time."""
    breaker, answers = Breaker(window=1), iter(["raise", "hang", False, True])

    async def is_there() -> bool:
        answer = next(answers)
        if answer == "raise":
            raise OSError("no route")
        if answer == "hang":
            await trio.sleep(math.inf)
        return bool(answer)

    async with guarded(breaker) as (turnstile, limiter):
        turnstile.watch(breaker.check(is_there, every=1.0))
        await succeed(limiter)
        await trio.sleep(10)  # nothing is asked while it is closed
        await fail(limiter)
        began = trio.current_time()
        await succeed(limiter)
        assert 4 <= trio.current_time() - began <= 7


async def test_a_clean_up_is_not_tried_again(autojump_clock: MockClock) -> None:
    """As with `Retry`."""
    breaker = Breaker(window=1)
    async with guarded(breaker) as (_, limiter):
        error = ConcurrentError("no", phase="cleanup")
        error.__cause__ = OSError()
        await fail(limiter)
        assert breaker.decide(error) is None
        error.phase = "work"
        assert breaker.decide(error) is not None


def test_a_breaker_belongs_to_one_limiter() -> None:
    """What it learns is about one limiter."""
    breaker = Breaker()
    Limiter("a", 1, breaker=breaker)
    with pytest.raises(ValueError, match="limiter 'b' cannot have the breaker that limiter 'a'"):
        Limiter("b", 1, breaker=breaker)
    assert repr(breaker) == "<trio_turnstile.Breaker closed>"


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"share": 2}, ValueError, "share must be at most 1"),
        ({"share": 0}, ValueError, "share must be more than 0"),
        ({"window": 0}, ValueError, "window must be at least 1"),
        ({"wait": 0}, ValueError, "wait must be more than 0"),
        ({"wait": 100}, ValueError, "longest must not be less than wait"),
        ({"probes": "2"}, TypeError, "probes must be an int"),
        ({"on": 3}, TypeError, "on"),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], error: type[Exception], match: str) -> None:
    """A wrong one is told where it is given."""
    with pytest.raises(error, match=match):
        Breaker(**options)


async def test_while_it_is_open_calls_from_before_change_nothing() -> None:
    """They tell of the time before, whatever they tell."""
    breaker = Breaker(window=1)
    breaker.failed(OSError(), 0.0)
    breaker.succeeded(1.0)
    breaker.failed(OSError(), 2.0)
    assert (breaker.state, breaker.next_tick) == ("open", 30.0)


async def test_a_call_that_is_cancelled_tells_nothing(autojump_clock: MockClock) -> None:
    """It may be cancelled for any reason; a token of a limiter in no turnstile wakes nobody."""
    breaker = Breaker(window=1)

    async def hang(item: object) -> None:
        await trio.sleep(math.inf)

    async with guarded(breaker) as (_, limiter):
        with trio.move_on_after(1):
            async with limiter:
                await hang(None)
        assert breaker.state == "closed"
        with trio.move_on_after(1):
            await (Producer([1]) | Consumer(hang, limiter=limiter)).run()
        assert breaker.state == "closed"
        turnless = Breaker()
        Limiter("alone", 1, breaker=turnless)
        turnless._wake()


async def test_a_policy_moves_the_limit_beside_a_breaker_that_is_closed(
    autojump_clock: MockClock,
) -> None:
    """Each of them bounds the limit."""
    async with guarded(Breaker(), tokens=9, policy=AIMDLimit(2, minimum=1)) as (_, limiter):
        await trio.sleep(10)
        assert limiter.total_tokens == 2
