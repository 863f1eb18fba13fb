"""`Sampler`: what an adaptive policy learns from limiters, phases and pipelines."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import MockClock

from testkit.limiters import Halving
from trio_turnstile import (
    Batch,
    BatchError,
    Channels,
    Consumer,
    Limiter,
    Overloaded,
    Producer,
    Reason,
    Retry,
    Scalable,
    Skip,
    open_turnstile,
    run_phases,
)
from trio_turnstile.limits import KneeLimit, Sample


async def test_each_call_is_a_sample(autojump_clock: MockClock) -> None:
    """A sample has the times and the number in flight when the call started, itself included."""
    policy = Halving()
    api = Limiter("api", 10, policy=policy)

    async def call(seconds: float) -> None:
        async with api:
            await trio.sleep(seconds)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, 3)
        await trio.sleep(1)
        nursery.start_soon(call, 1)
    assert policy.starts == [(0, 1), (1, 2)]
    assert policy.samples == [Sample(1, 2, 2), Sample(0, 3, 1)]
    assert policy.samples[1].latency == 3


async def call_in_turn(api: Limiter, times: int, seconds: float) -> None:
    for _ in range(times):
        async with api:
            await trio.sleep(seconds)


async def test_above_a_thousand_calls_a_second_some_are_sampled(autojump_clock: MockClock) -> None:
    """About 1,000 calls a second are sampled; at a lower rate, every call."""
    policy = Halving()
    api = Limiter("api", 1, policy=policy)
    await call_in_turn(api, 20_000, 0.0001)
    assert 1_000 <= len(policy.samples) <= 3_000
    assert sum(sample.weight for sample in policy.samples) == pytest.approx(20_000, rel=0.05)
    await call_in_turn(api, 50, 0.1)
    assert [sample.weight for sample in policy.samples[-30:]] == [1] * 30
    assert len(policy.starts) == len(policy.samples)


async def test_most_calls_of_a_burst_are_sampled(autojump_clock: MockClock) -> None:
    """Calls that all begin at once do not make later samples rare."""
    policy = Halving()
    api = Limiter("api", 500, policy=policy)
    async with trio.open_nursery() as nursery:
        for _ in range(500):
            nursery.start_soon(call_in_turn, api, 3, 10)
    assert len(policy.samples) >= 300
    assert sum(sample.weight for sample in policy.samples) == pytest.approx(1_500, rel=0.1)


async def test_tokens_taken_by_hand_are_samples_too(autojump_clock: MockClock) -> None:
    """Acquire and release by hand make samples, with and without waiting."""
    policy = Halving()
    api = Limiter("api", 1, policy=policy)
    await api.acquire()
    api.release()
    api.acquire_nowait()
    api.release()
    assert policy.outcomes == ["success", "success"]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Overloaded(), "overloaded"),
        (trio.TooSlowError(), "overloaded"),
        (TimeoutError(), "overloaded"),
        (ExceptionGroup("two", [Overloaded(), TimeoutError()]), "overloaded"),
        (ValueError(), "ignored"),
        (KeyboardInterrupt(), "ignored"),
    ],
)
async def test_fast_errors_are_no_fast_successes(error: BaseException, outcome: str) -> None:
    """A policy learns only overload from errors; others say nothing about load."""
    policy = Halving()
    api = Limiter("api", 1, policy=policy)
    with pytest.raises(type(error)):
        async with api:
            raise error
    assert policy.outcomes == [outcome]


async def test_overload_is_what_the_user_says() -> None:
    """The predicate of the user decides which errors mean overload."""
    policy = Halving()
    api = Limiter("api", 1, policy=policy, overload=lambda e: "429" in str(e))
    for text in ("429 Too Many Requests", "404 Not Found"):
        with pytest.raises(OSError, match=text):
            async with api:
                raise OSError(text)
    assert policy.outcomes == ["overloaded", "ignored"]


async def test_cancelled_calls_teach_nothing(autojump_clock: MockClock) -> None:
    """A policy ignores cancelled calls; a cancelled waiter never was a call."""
    policy = Halving()
    api = Limiter("api", 1, policy=policy)
    with trio.move_on_after(1):
        async with api:
            with trio.move_on_after(0.5):
                await api.acquire_on_behalf_of("another")
            await trio.sleep_forever()
    assert policy.outcomes == ["ignored"]


async def test_what_the_policy_proposes_is_done_at_once(autojump_clock: MockClock) -> None:
    """The throttle task acts without waiting for its next tick, and says why."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 100, policy=Halving())
        with pytest.raises(Overloaded):
            async with api:
                await trio.sleep(0.05)
                raise Overloaded
        await trio.testing.wait_all_tasks_blocked()
        assert api.total_tokens == 50
        assert api.decisions[-1].reason is Reason.POLICY
        assert api.decisions[-1].evidence == {"cap": 100, "proposed": 50.0}
        assert trio.current_time() == 0.05


async def test_shadow_mode_decides_and_does_nothing(autojump_clock: MockClock) -> None:
    """What the policy would do is recorded once, and signals still move the limit."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 100, policy=Halving(), enforce=False)
        with pytest.raises(Overloaded):
            async with api:
                raise Overloaded
        await trio.sleep(1)
        assert api.total_tokens == 100
        (decision,) = api.decisions
        assert (decision.before, decision.after) == (100, 50)
        assert decision.reason is Reason.SHADOW
        assert not decision.applied
        api.down()
        await trio.testing.wait_all_tasks_blocked()
        assert api.total_tokens == 98


async def test_in_shadow_mode_no_knee_is_found(autojump_clock: MockClock) -> None:
    """`KneeLimit` learns from its probes, which are not applied here: it says so, and stays."""
    policy = KneeLimit(20)
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        api = turnstile.limiter("api", 50, policy=policy, enforce=False)
        for _ in range(50):
            nursery.start_soon(call_in_turn, api, 300, 0.1)
        await trio.sleep(29)
        assert policy.limit == 20
        assert policy.why()["reason"] == "not in force"
        assert api.total_tokens == 50


async def test_retry_after_withholds_the_token_of_the_call(autojump_clock: MockClock) -> None:
    """The refused token is out of use for that long, with a policy or without."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10)
        with pytest.raises(Overloaded, match="retry after 7 seconds"):
            async with api:
                raise Overloaded(retry_after=7)
        assert api.total_tokens == 9
        await trio.sleep(6.9)
        assert api.total_tokens == 9
        await trio.sleep(0.2)
        assert api.total_tokens == 10


async def test_retry_after_alone_moves_no_static_limiter() -> None:
    """Without a turnstile, nothing could end the pause that ``retry_after`` asks for."""
    api = Limiter("api", 10)
    with pytest.raises(Overloaded):
        async with api:
            raise Overloaded(retry_after=7)
    assert api.total_tokens == 10


class Fails(Scalable):
    """An operation that fails with each of some errors in turn, and then completes."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def work(self, channels: Channels) -> None:
        await trio.sleep(1)
        if self.errors:
            raise self.errors.pop(0)


async def test_each_attempt_of_an_operation_is_a_sample(autojump_clock: MockClock) -> None:
    """Each attempt is a sample; its error says whether it was overload."""
    policy = Halving()
    await run_phases(
        [Fails(Overloaded(), OSError())],
        limiter=Limiter("api", 5, policy=policy),
        on_error=[Retry(2, backoff=lambda n: 9), Skip()],
    )
    assert policy.outcomes == ["overloaded", "ignored", "success"]
    assert [sample.latency for sample in policy.samples] == [1, 1, 1]


async def test_cancelled_operations_teach_nothing(autojump_clock: MockClock) -> None:
    """A cancelled operation makes no sample; nor does the worker pool's wait for a free token."""
    policy = Halving()
    limiter = Limiter("api", 2, policy=policy)
    with trio.move_on_after(0.5):
        await run_phases((Fails() for _ in range(9)), limiter=limiter)
    assert policy.outcomes == ["ignored", "ignored"]


async def test_each_attempt_of_a_step_is_a_sample(autojump_clock: MockClock) -> None:
    """Each attempt of a step is a sample, whether it fails or not."""
    policy = Halving()

    async def fetch(number: int) -> None:
        await trio.sleep(1)
        if number == 2:
            raise Overloaded

    limiter = Limiter("api", 1, policy=policy)
    await (Producer(range(4)) | Consumer(fetch, limiter=limiter, on_error=[Skip()])).run()
    assert policy.outcomes == ["success", "success", "overloaded", "success"]


async def test_a_batch_is_one_call(autojump_clock: MockClock) -> None:
    """A batch as a whole is a success, an overload or ignored; it is ignored if cancelled."""
    policy = Halving()
    limiter = Limiter("db", 1, policy=policy)

    async def store(rows: list[int]) -> None:
        await trio.sleep(1)
        if 3 in rows:
            raise Overloaded
        if 6 in rows:
            raise BatchError({0: OSError()})
        if 8 in rows:
            await trio.sleep_forever()

    consumer = Consumer(store, limiter=limiter, batch=Batch(2), on_error=[Skip()])
    with trio.move_on_after(10):
        await (Producer(range(1, 10)) | consumer).run()
    assert policy.outcomes == ["success", "overloaded", "ignored", "ignored"]


async def test_without_a_policy_nothing_is_sampled(autojump_clock: MockClock) -> None:
    """Without a policy nothing is sampled, and the counts of the run are the same."""
    report = await run_phases([Fails(), Fails()], limiter=Limiter("api", 5))
    assert report.completed == 2
    runs = partial(run_phases, [Fails(Overloaded())], limiter=Limiter("api", 5))
    assert (await runs()).failed == 1
