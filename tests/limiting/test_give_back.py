"""A token is given back whatever goes wrong, and the error of the call comes out."""

from __future__ import annotations

import datetime as dt
import logging
import math
from collections.abc import Mapping
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_turnstile import (
    ConcurrentError,
    Consumer,
    Limiter,
    Overloaded,
    Producer,
    Retry,
    Saturated,
    Skip,
    Throttle,
    open_turnstile,
    parse_retry_after,
)
from trio_turnstile.limits import KneeLimit


class OddHint(Exception):
    """An error of another library that raises when it is asked for its hint."""

    @property
    def retry_after(self) -> float:
        raise RuntimeError("not parsed yet")


ODD_HINTS: list[Any] = [
    -1,
    -math.inf,
    math.nan,
    math.inf,
    10**400,
    True,
    "30",
    "Wed, 21 Oct 2015 07:28:00 GMT",
    dt.timedelta(seconds=3),
    [1],
]


@pytest.mark.parametrize("hint", ODD_HINTS, ids=lambda hint: repr(hint)[:20])
@pytest.mark.parametrize("grouped", [False, True])
async def test_a_hint_that_is_no_time_is_ignored(
    autojump_clock: MockClock, hint: Any, grouped: bool
) -> None:
    """The hint is ignored in a block and in a step, where a retry follows without it."""
    error: Exception = Overloaded(hint)
    error = ExceptionGroup("", [error]) if grouped else error
    calls = 0

    async def call(item: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise error

    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 2)
        with pytest.raises(type(error)):
            async with api:
                raise error
        report = await (Producer(range(3)) | Consumer(call, limiter=api, on_error=Retry(3))).run()
        assert api.borrowed_tokens == 0
        assert api.total_tokens == 2
    assert report.steps[0].completed == 3
    assert trio.current_time() < 1


async def test_a_hint_that_is_no_time_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A service that always sends such a hint does not fill the log."""
    api = Limiter("api", 2, overload=(Overloaded, OddHint))
    for error in (Overloaded(-1), OddHint(), Overloaded("30")):  # type: ignore[arg-type]
        with pytest.raises(type(error)):
            async with api:
                raise error
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "the retry_after of Overloaded(-1) is not a number of seconds" in record.getMessage()


async def test_a_predicate_that_raises_hides_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """The error of the body comes out, the run goes on, and the error is logged once."""

    def overload(error: BaseException) -> bool:
        return bool(error.status == 429)  # type: ignore[attr-defined]

    async def call(item: int) -> None:
        raise ConnectionError("reset")

    api = Limiter("api", 1, overload=overload)
    with pytest.raises(ConnectionError, match="reset"):
        async with api:
            raise ConnectionError("reset")
    report = await (Producer(range(3)) | Consumer(call, limiter=api, on_error=Skip())).run()
    assert report.steps[0].failed == 3
    assert api.borrowed_tokens == 0
    assert len(caplog.records) == 1


async def test_a_predicate_may_raise_what_cannot_be_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log has a text even for an error that cannot be shown."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise AttributeError("code")

    def overload(error: BaseException) -> bool:
        raise Mute

    api = Limiter("api", 1, overload=overload)
    with pytest.raises(ConnectionError, match="reset"):
        async with api:
            raise ConnectionError("reset")
    assert "cannot tell whether ConnectionError('reset') means overload: Mute" in caplog.text


async def test_a_predicate_may_return_anything_true() -> None:
    """The result of the predicate is tested for truth, as Python does."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 3, overload=lambda error: getattr(error, "retry_after", 0))
        with pytest.raises(Overloaded):
            async with api:
                raise Overloaded(5)
        assert api.statistics().withheld == 1


class Policy:
    """A policy with a bug in one method."""

    def __init__(self, bug: str) -> None:
        self._bug = bug
        self.calls = 0

    def _maybe(self, name: str) -> None:
        self.calls += 1
        if name == self._bug:
            raise RuntimeError(f"bug in {name}")

    @property
    def limit(self) -> float:
        if self.calls:
            self._maybe("limit")
        return math.nan if self._bug == "nan" and self.calls else 5.0

    def on_start(self, now: float, in_flight: int) -> None:
        self._maybe("on_start")

    def on_finish(self, sample: object) -> None:
        self._maybe("on_finish")

    def on_tick(self, now: float, in_flight: int, waiting: int) -> None:
        self._maybe("on_tick")

    def why(self) -> Mapping[str, object]:
        self._maybe("why")
        return {}


@pytest.mark.parametrize("bug", ["limit", "nan", "on_start", "on_finish", "on_tick", "why"])
async def test_a_policy_that_raises_harms_nobody(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, bug: str
) -> None:
    """The policy is logged and consulted no more; the limit stays, and signals move it."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 8, policy=Policy(bug))
        for _ in range(3):
            with pytest.raises(KeyError, match="of the body"):
                async with api:
                    await trio.sleep(0.2)
                    raise KeyError("of the body")
        assert api.borrowed_tokens == 0
        assert api.total_tokens == 5
        api.down()
        api.down()
        await trio.sleep(31)
        api.down()
        await trio.sleep(1)
        assert api.total_tokens == 4
        api.total_tokens = 8  # clears the bounds, so their reasons are asked for again
        await trio.sleep(1)
        failed = api.statistics().bounds["policy"].why.get("reason") == "the policy failed"
        assert failed
    assert len(caplog.records) == 1


async def test_an_overload_of_a_limiter_that_was_closed_comes_out(
    autojump_clock: MockClock,
) -> None:
    """The holder finishes; there is no longer a limit from which its token could be withheld."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 2)
        with pytest.raises(Overloaded):
            async with api:
                api.close()
                raise Overloaded(5)
        assert api.borrowed_tokens == 0


async def test_an_overload_that_a_phase_describes_is_one() -> None:
    """A `ConcurrentError` caused by an overload tells the limiter the same as its cause does."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 3)
        with pytest.raises(ConcurrentError):
            async with api:
                raise ConcurrentError("refused") from Overloaded(5)
        assert api.statistics().withheld == 1


# ---- Retry-After in HTTP ----


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 5 ", 5),
        ("0", 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 30),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 30),
        ("Wed, 21 Oct 2015 07:26:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("1e3", None),
        ("²", None),
        ("9" * 400, None),
        ("", None),
        (None, None),
    ],
)
def test_a_retry_after_header_is_understood(header: str | None, seconds: float | None) -> None:
    """The header may be seconds or an HTTP date; anything else says nothing."""
    now = dt.datetime(2015, 10, 21, 7, 27, 30, tzinfo=dt.UTC).timestamp()
    assert parse_retry_after(header, now=now) == seconds


def test_a_date_is_compared_with_the_clock_of_the_system() -> None:
    """The system clock is used if no time is given."""
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


# ---- one policy, one limiter ----


async def test_a_policy_belongs_to_one_limiter() -> None:
    """A policy learns about one limiter; once that is closed, another may have the policy."""
    policy = KneeLimit()
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 30, policy=policy)
        with pytest.raises(ValueError, match="'db' cannot have the policy that limiter 'api' has"):
            turnstile.limiter("db", 30, policy=policy)
        api.close()
        turnstile.limiter("db", 30, policy=policy)


def test_a_policy_goes_on_from_where_it_was_in_the_next_run() -> None:
    """The clock of each run starts anywhere, but the time of a policy never goes backwards."""

    class Records(Policy):
        times: list[float]

        def on_start(self, now: float, in_flight: int) -> None:
            self.times.append(now)

        def on_finish(self, sample: Any) -> None:
            assert sample.start <= sample.end
            self.times.append(sample.end)

    policy = Records("")
    policy.times = []

    async def main() -> None:
        async with open_turnstile() as turnstile:
            api = turnstile.limiter("api", 8, policy=policy)
            for _ in range(3):
                async with api:
                    await trio.sleep(1)

    for start in (900_000, 10_000, 500_000):
        clock = MockClock(autojump_threshold=0)
        clock.jump(start)
        trio.run(main, clock=clock)
    assert policy.times == sorted(policy.times)
    assert len(policy.times) == 18


class Unweakable:
    """A policy without weak references, and with a limit that moves."""

    __slots__ = ("limit",)

    def __init__(self) -> None:
        self.limit = 5.0

    def on_tick(self, now: float, in_flight: int, waiting: int) -> None:
        self.limit = 3.0

    def why(self) -> Mapping[str, object]:
        raise RuntimeError("no reason")


async def test_a_policy_that_cannot_say_why_is_retired(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The bound says that the policy failed, and the limit stays."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 8, policy=Unweakable())
        await trio.sleep(1)
        assert api.total_tokens == 3
        assert api.statistics().bounds["policy"].why["reason"] == "the policy failed"
    assert len(caplog.records) == 1


async def test_rules_can_be_changed_while_they_hold(autojump_clock: MockClock) -> None:
    """The throttle and the length of the queue can be changed live."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 8)
        api.throttle = Throttle(down=3, hold=0)
        assert api.throttle.down == 3
        api.down()
        await trio.sleep(0.1)
        assert api.total_tokens == 5
        api.max_waiting = 0
        assert api.max_waiting == 0
        api.total_tokens = 1
        async with api:
            with pytest.raises(Saturated):
                await api.acquire_on_behalf_of("other")
        with pytest.raises(ValueError, match=r"throttle.min must not be above the ceiling: 9 > 8"):
            api.throttle = Throttle(min=9)
