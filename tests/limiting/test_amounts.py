"""`RateLimiter`: passes that count for more than one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_turnstile import RateLimiter


async def test_a_dear_pass_waits_for_all_that_it_counts_for(autojump_clock: MockClock) -> None:
    """An amount of ten at two a second takes five seconds, once the burst is used up."""
    rate = RateLimiter(2, burst=10)
    await rate.acquire(10)
    assert trio.current_time() == 0
    await rate.acquire(10)
    assert trio.current_time() == 5
    await rate.acquire(0.5)
    assert trio.current_time() == 5.25


async def test_a_pass_for_nothing_uses_nothing_up(autojump_clock: MockClock) -> None:
    """An amount of 0 passes at once and leaves the burst whole."""
    rate = RateLimiter(1, burst=3)
    await rate.acquire(0)
    rate.acquire_nowait(0)
    assert rate.available == 3


@pytest.mark.parametrize("ask", [RateLimiter.acquire_nowait, RateLimiter.acquire])
async def test_more_than_the_burst_is_refused_at_once(ask: Callable[..., object]) -> None:
    """An amount above the burst could never pass, so the error names the amount and the burst."""
    rate = RateLimiter(1, burst=10)
    with pytest.raises(ValueError, match="at most the burst, which is 10, not 11"):
        result = ask(rate, 11)
        await result  # type: ignore[misc]
    assert rate.available == 10


async def test_without_a_limit_any_amount_passes(autojump_clock: MockClock) -> None:
    """An infinite rate has no burst that limits an amount."""
    rate = RateLimiter(math.inf)
    await rate.acquire(1e9)
    assert rate.available == 1
    assert RateLimiter.per(math.inf, seconds=1).burst == 1


@pytest.mark.parametrize(
    ("amount", "error"), [(-1, ValueError), (math.nan, ValueError), ("2", TypeError)]
)
async def test_an_amount_is_a_number(amount: float, error: type[Exception]) -> None:
    """An amount that is not a number is an error that names it."""
    with pytest.raises(error, match="amount must be"):
        await RateLimiter(1).acquire(amount)


async def test_nobody_later_overtakes_a_dear_pass(autojump_clock: MockClock) -> None:
    """Cheap passes that would fit at once wait behind a dear one."""
    rate, passed = RateLimiter(1, burst=10), list[tuple[float, float]]()
    rate.acquire_nowait(6)

    async def caller(amount: float) -> None:
        await rate.acquire(amount)
        passed.append((amount, trio.current_time()))

    async with trio.open_nursery() as nursery:
        for amount in (9, 1, 2):
            nursery.start_soon(caller, amount)
            await wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            rate.acquire_nowait(0.1)
    assert passed == [(9, 5), (1, 6), (2, 8)]


async def test_who_leaves_gives_back_whole(autojump_clock: MockClock) -> None:
    """If a dear caller gives up, those behind it pass as if it had never come."""
    rate = RateLimiter(1, burst=10)
    rate.acquire_nowait(10)
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(cancelled_after, 2, scope)
            nursery.start_soon(rate.acquire, 4)
            await rate.acquire(10)
    assert scope.cancelled_caught
    assert trio.current_time() == 4


async def cancelled_after(seconds: float, scope: trio.CancelScope) -> None:
    await trio.sleep(seconds)
    scope.cancel()


async def test_a_refund_lets_others_pass_at_once(autojump_clock: MockClock) -> None:
    """A refund wakes waiting callers, and fills the bucket no further than the burst."""
    rate = RateLimiter(1, burst=10)
    rate.acquire_nowait(10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rate.acquire, 5)
        await trio.sleep(1)
        rate.refund(4)
    assert trio.current_time() == 1
    assert rate.available == 0
    rate.refund(100)
    assert rate.available == 10


async def test_a_rate_by_any_period(autojump_clock: MockClock) -> None:
    """A rate of 90,000 a minute is 1,500 a second, with a burst of the whole 90,000."""
    rate = RateLimiter.per(90_000, seconds=60)
    assert (rate.per_second, rate.burst) == (1500, 90_000)
    await rate.acquire(90_000)
    await rate.acquire(45_000)
    assert trio.current_time() == 30
    assert RateLimiter.per(90_000, seconds=60, burst=10).burst == 10
    assert RateLimiter.per(0.5, seconds=60).burst == 1


@pytest.mark.parametrize(
    ("seconds", "amount", "named"), [(0, 1, "seconds"), (60, 0, "amount"), (60, -1, "amount")]
)
def test_a_period_is_checked(seconds: float, amount: float, named: str) -> None:
    """The error says what is wrong with the period."""
    with pytest.raises(ValueError, match=f"{named} must be more than 0"):
        RateLimiter.per(amount, seconds=seconds)


# ---- what the service says ----


async def test_the_service_may_have_less_left(autojump_clock: MockClock) -> None:
    """If the service has less left than we counted, less passes; if more, nothing changes."""
    rate = RateLimiter(1, burst=10)
    rate.observe(remaining=3)
    assert rate.available == 3
    rate.observe(remaining=100)
    assert rate.available == 3
    await rate.acquire(5)
    assert trio.current_time() == 2


async def test_a_service_that_counts_anew_gives_nothing_before(autojump_clock: MockClock) -> None:
    """Until the service resets, no more passes than it has left; then only our own count holds."""
    rate = RateLimiter(1, burst=10)
    rate.observe(remaining=4, reset_after=60)
    await rate.acquire(3)
    assert (trio.current_time(), rate.available) == (0, 1)
    rate.observe(remaining=9, reset_after=60)
    assert rate.available == 1
    await rate.acquire(2)
    assert trio.current_time() == 60
    rate.observe(reset_after=30)
    await rate.acquire()
    assert trio.current_time() == 90


async def test_a_lower_limit_slows_the_rate(autojump_clock: MockClock) -> None:
    """What is left stays; the rest refills at the share that the service allows, until it rises."""
    rate = RateLimiter.per(100, seconds=10)
    await rate.acquire(80)
    rate.observe(limit=50)
    assert rate.available == 20
    await rate.acquire(50)
    assert trio.current_time() == 6
    await rate.acquire(60)  # more than the service allows at once, but it may be asked
    assert trio.current_time() == 16
    rate.observe(limit=200)
    await rate.acquire(50)
    assert trio.current_time() == 22
    unknown = RateLimiter(10, burst=10)
    unknown.observe(limit=5)
    assert unknown.available == 10


async def test_a_changed_rate_knows_its_period(autojump_clock: MockClock) -> None:
    """A limit is compared with what the rate now allows in its period."""
    rate = RateLimiter.per(100, seconds=10)
    rate.per_second = 5
    rate.observe(limit=50)
    await rate.acquire(100)
    await rate.acquire(50)
    assert trio.current_time() == 10


@pytest.mark.parametrize(
    "said", [{"remaining": -1}, {"reset_after": -1}, {"limit": 0}, {"remaining": math.nan}]
)
async def test_nonsense_is_refused(said: dict[str, float]) -> None:
    """An observation that is not a number of 0 or more is an error."""
    with pytest.raises(ValueError, match=next(iter(said))):
        RateLimiter(1).observe(**said)


# ---- warm-up ----


async def test_a_rate_warms_up(autojump_clock: MockClock) -> None:
    """The rate grows evenly from nothing: half of the warm-up is lost, with no burst before it."""
    rate = RateLimiter(10, burst=5, warm_up=20)
    passed = list[float]()
    for _ in range(301):
        await rate.acquire()
        passed.append(trio.current_time())
    assert passed[0] == 0
    assert passed[25] == pytest.approx(10)
    assert passed[100] == pytest.approx(20)
    assert passed[300] == pytest.approx(40)


async def test_a_warm_up_begins_with_each_run() -> None:
    """A warm-up begins with each run, so a second run starts slowly as well."""
    rate = RateLimiter(10, warm_up=20)

    async def main() -> float:
        for _ in range(26):
            await rate.acquire()
        return trio.current_time()

    def run() -> float:
        return trio.run(main, clock=MockClock(autojump_threshold=0))

    assert await trio.to_thread.run_sync(run) == pytest.approx(10)
    assert await trio.to_thread.run_sync(run) == pytest.approx(10)


# ---- a quota that survives a restart ----


def daily(path: Path) -> RateLimiter:
    return RateLimiter.per(1000, seconds=86_400, kept_in=path)


async def test_a_quota_survives_a_restart(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process finds the quota used up, apart from a hundredth and what has come back."""
    path = tmp_path / "quota"
    monkeypatch.setattr("time.time", lambda: 1e9)
    first = daily(path)
    await first.acquire(800)
    assert 189 <= daily(path).available <= 200
    monkeypatch.setattr("time.time", lambda: 1e9 + 43_200)
    assert 689 <= daily(path).available <= 700
    monkeypatch.setattr("time.time", lambda: 1e9 + 864_000)
    assert daily(path).available == 1000
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert daily(path).available <= 200


async def test_a_kept_quota_is_never_ahead_of_its_file(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever the process is killed, the next one has no more left, and only a little less."""
    path = tmp_path / "quota"
    monkeypatch.setattr("time.time", lambda: 1e9 + trio.current_time())
    rate = daily(path)
    for number in range(60):
        rate.acquire_nowait(number % 40)
        if number % 7 == 0:
            rate.refund(15)
        mock_clock.jump(3600)
        assert rate.available - 30.001 <= daily(path).available <= rate.available + 1e-6


def test_a_kept_quota_goes_on_in_the_next_run(tmp_path: Path) -> None:
    """The next run does not get a full burst; an infinite rate has nothing to keep."""
    rate = daily(tmp_path / "quota")

    async def use(amount: float) -> float:
        await rate.acquire(amount)
        return rate.available

    assert trio.run(use, 900) == pytest.approx(100, abs=0.1)
    assert 30 <= trio.run(use, 50) <= 50.1
    RateLimiter(math.inf, kept_in=tmp_path / "quota")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"kind": "another"}', '{"kind": 3', "\xff"])
def test_a_foreign_file_is_refused(tmp_path: Path, content: str) -> None:
    """The error names the file, and nothing is overwritten."""
    path = tmp_path / "quota"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"quota' holds no quota"):
        daily(path)
    assert path.read_text() == content


async def test_a_quota_that_cannot_be_written_lets_nobody_pass(tmp_path: Path) -> None:
    """If the quota cannot be written, nobody passes, and nothing is used up."""
    rate = daily(tmp_path / "gone" / "quota")
    with pytest.raises(FileNotFoundError):
        await rate.acquire(5)
    (tmp_path / "gone").mkdir()
    assert rate.available == 1000
    await rate.acquire(5)
    assert rate.available == pytest.approx(995, abs=0.1)


# ---- properties ----

AMOUNTS = st.floats(0.1, 10)
CALLS = st.lists(
    st.tuples(
        st.floats(0, 5),
        AMOUNTS,
        st.sampled_from(["stay", "leave", "refund", "observe", "reset", "limit"]),
        st.floats(0, 8),
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(st.floats(0.1, 100), st.integers(10, 30), st.floats(0, 10), CALLS)
@example(1.0, 10, 0.0, [(0.0, 8.0, "stay", 0.0), (0.0, 3.0, "limit", 0.0)])
def test_no_window_sees_more_than_rate_and_burst(
    per_second: float,
    burst: int,
    warm_up: float,
    calls: Sequence[tuple[float, float, str, float]],
) -> None:
    """The bound holds whatever is cancelled, refunded or observed; all pass in order."""

    async def main() -> None:
        rate = RateLimiter.per(per_second * 10, seconds=10, burst=burst, warm_up=warm_up)
        booked, order, stayed = list[tuple[float, float]](), list[int](), list[int]()

        async def caller(number: int, amount: float, act: str, value: float) -> None:
            with trio.move_on_after(value / per_second if act == "leave" else math.inf):
                await rate.acquire(amount)
                order.append(number)
                booked.append((trio.current_time(), amount))
                if act == "refund":
                    back = min(value, amount)
                    rate.refund(back)
                    booked.append((trio.current_time(), -back))

        async with trio.open_nursery() as nursery:
            for number, (pause, amount, act, value) in enumerate(calls):
                await trio.sleep(pause / per_second)
                if act == "observe":
                    rate.observe(remaining=value)
                if act == "reset":
                    rate.observe(remaining=value, reset_after=pause / per_second)
                if act == "limit":
                    rate.observe(limit=(value + 1) * per_second)
                nursery.start_soon(caller, number, amount, act, value)
                await wait_all_tasks_blocked()
                stayed += [] if act == "leave" else [number]
        assert order == sorted(order)
        assert set(stayed) <= set(order)
        for first, (begin, _) in enumerate(booked):
            total = 0.0
            for now, amount in booked[first:]:
                total += amount
                assert total <= per_second * (now - begin) + burst + 1e-6 * burst

    trio.run(main, clock=MockClock(autojump_threshold=0))
