"""``weight=`` and ``cost=`` on one step: an item gets its tokens before it pays."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from testkit.limiters import Halving
from trio_turnstile import (
    Batch,
    Budget,
    ConcurrentError,
    Consumer,
    DeadLetter,
    Limiter,
    Producer,
    RateLimiter,
    Retry,
    Scalable,
    Skip,
    Throttle,
    TooWide,
    open_turnstile,
    run_phases,
)
from trio_turnstile.testing import assert_conserved


@attrs.frozen(eq=False)
class Sized(Scalable):
    """An operation with a size, which does as it is told."""

    size: int
    call: Any

    async def work(self, channels: object) -> None:
        await self.call(self.size)


async def by_phases(items: Any, work: Any, *, weight: Any, cost: Any, **options: Any) -> Any:
    """Run items as operations."""
    return await run_phases(
        [Sized(item, work) for item in items],
        weight=lambda operation: weight(operation.size),
        cost=lambda operation: cost(operation.size),
        **options,
    )


async def by_step(items: Any, work: Any, **options: Any) -> Any:
    """Run items through a step."""
    report = await (Producer(items) | Consumer(work, **options)).run()
    return report.steps[0]


async def by_batches(items: Any, work: Any, *, weight: Any, **options: Any) -> Any:
    """Run items through a step that takes batches of one."""

    async def work_on(batch: list[int]) -> None:
        await work(batch[0])

    pipeline = Producer(items) | Consumer(
        work_on, batch=Batch(1), weight=lambda batch: weight(batch[0]), **options
    )
    return (await pipeline.run()).steps[0]


FORMS = pytest.mark.parametrize("run", [by_phases, by_step, by_batches])


def memory(tokens: int = 4) -> Limiter:
    return Limiter("memory", tokens, throttle=Throttle(min=0))


def size(item: int) -> int:
    return item


@FORMS
async def test_items_take_their_tokens_and_pay(run: Any, autojump_clock: MockClock) -> None:
    """Both limits hold: four tokens in use, and one unit a second after the burst."""
    limiter, begun = memory(), list[tuple[int, float]]()
    budget = Budget(units=RateLimiter(1, burst=4))

    async def work(item: int) -> None:
        begun.append((item, trio.current_time()))
        assert limiter.borrowed_tokens >= item
        await trio.sleep(0.5)
        budget.settle(units=item)

    report = await run(
        [4, 2, 2],
        work,
        limiter=limiter,
        weight=size,
        rate=budget,
        cost=lambda item: {"units": item},
    )
    assert report.completed == 3
    assert begun == [(4, 0), (2, 2), (2, 4)]
    assert limiter.borrowed_tokens == 0


@FORMS
async def test_an_item_whose_cost_is_unknown_gives_its_tokens_back(
    run: Any, autojump_clock: MockClock
) -> None:
    """The item fails, and its dead letter is sent while it holds none of them."""
    limiter, held = memory(), list[float]()

    def cost(item: int) -> float:
        if item == 3:
            raise LookupError
        return 1

    async def letter(error: ConcurrentError) -> None:
        assert isinstance(error.__cause__, LookupError)
        held.append(limiter.borrowed_tokens)
        await trio.sleep(1)

    async def work(item: int) -> None:
        await trio.lowlevel.checkpoint()

    report = await run(
        [3, 4],
        work,
        limiter=limiter,
        weight=size,
        rate=RateLimiter(100, burst=10),
        cost=cost,
        on_error=DeadLetter(letter),
    )
    assert (report.completed, report.diverted, held) == (1, 1, [0])
    assert_conserved(report)
    assert limiter.borrowed_tokens == 0


@FORMS
async def test_a_retry_that_is_too_wide_pays_nothing(run: Any, autojump_clock: MockClock) -> None:
    """The limit was lowered meanwhile, so the attempt is not made, and its payment is given back.

    It may pay again once the limit is raised.
    """
    limiter = memory()
    units = RateLimiter(0.001, burst=9)
    attempts = list[float]()

    async def work(item: int) -> None:
        attempts.append(trio.current_time())
        if len(attempts) == 1:
            limiter.total_tokens = 2
            nursery.start_soon(raise_limit)
            raise OSError

    async def raise_limit() -> None:
        await trio.sleep(4.5)
        limiter.total_tokens = 4

    async with trio.open_nursery() as nursery:
        report = await run(
            [3],
            work,
            limiter=limiter,
            weight=size,
            rate=Budget(units=units),
            cost=lambda item: {"units": item},
            on_error=Retry(9, on=(OSError, TooWide), backoff=lambda n: 1),
        )
    assert report.completed == 1
    assert attempts == [0, 5]
    # Two attempts were made; those that were given up in between are not paid for.
    units.acquire_nowait(3)
    with pytest.raises(trio.WouldBlock):
        units.acquire_nowait(1)


async def test_keys_and_costs(autojump_clock: MockClock) -> None:
    """Items that share a limiter by key pay too, but not while they wait for their key."""
    begun = list[tuple[str, float]]()

    async def work(item: str) -> None:
        begun.append((item, trio.current_time()))
        await trio.sleep(1)

    async with open_turnstile() as turnstile:
        hosts = turnstile.shared("hosts", 4, each=1)
        report = await (
            Producer(["a1", "a2", "b1"])
            | Consumer(
                work,
                limiter=hosts.by(lambda item: item[0]),
                rate=Budget(units=RateLimiter(0.001, burst=3)),
                cost=lambda item: {"units": 1},
                on_error=Skip(),
            )
        ).run()
    assert begun == [("a1", 0), ("b1", 0), ("a2", 1)]
    assert_conserved(report)


async def test_a_policy_learns_nothing_of_an_item_that_cannot_pay(
    autojump_clock: MockClock,
) -> None:
    """The tokens that the item gives back were never used for a call."""
    policy = Halving()
    limiter = Limiter("memory", 4, policy=policy)

    async def work(item: int) -> None:
        await trio.sleep(1)

    await (
        Producer([20, 1])
        | Consumer(
            work,
            limiter=limiter,
            weight=2,
            rate=RateLimiter(1, burst=10),
            cost=size,
            on_error=Skip(),
        )
    ).run()
    assert policy.outcomes == ["ignored", "success"]


@pytest.mark.parametrize("shared", [False, True])
async def test_a_policy_does_not_see_the_wait_for_a_rate(
    shared: bool, autojump_clock: MockClock
) -> None:
    """Each call takes a second, however long the item held its tokens before."""
    policies = [Halving(), Halving()]

    async def work(item: int) -> None:
        await trio.sleep(1)

    async with open_turnstile() as turnstile:
        if shared:
            hosts = turnstile.shared("hosts", 8, policy=policies[0], adapt=lambda _: policies[1])
            options: dict[str, Any] = {"limiter": hosts.by(size)}
        else:
            options = {"limiter": turnstile.limiter("api", 8, policy=policies[0]), "weight": 2}
        await (Producer([1, 1, 1]) | Consumer(work, rate=RateLimiter(0.1), **options)).run()
    assert [sample.latency for sample in policies[0].samples] == [1, 1, 1]
    assert [sample.latency for sample in policies[1].samples] == [1, 1, 1] * shared


async def test_an_item_that_has_no_tokens_yet_has_paid_nothing(autojump_clock: MockClock) -> None:
    """An item that is cancelled while it waits for tokens leaves the rate as it was."""
    limiter, rate = Limiter("api", 2), RateLimiter(1, burst=10)

    async def work(item: int) -> None:
        await trio.sleep(1)

    async with limiter, trio.open_nursery() as nursery:
        step = Consumer(work, limiter=limiter, weight=2, rate=rate, cost=lambda _: 5)
        nursery.start_soon((Producer(range(3)) | step).run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert rate.available == 10
