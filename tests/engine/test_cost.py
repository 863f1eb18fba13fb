"""``rate=`` and ``cost=``: items that take different amounts of a rate or a budget."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_turnstile import (
    Aborted,
    Allowance,
    Batch,
    BatchError,
    Budget,
    BudgetSpent,
    ConcurrentError,
    Consumer,
    DeadLetter,
    Limiter,
    Processor,
    Producer,
    RateLimiter,
    Retry,
    Scalable,
    Skip,
    run_phases,
)
from trio_turnstile.testing import assert_conserved


class Call(Scalable):
    """An operation that costs a given number of tokens."""

    def __init__(self, cost: Any, work: Callable[[Any], Awaitable[object]]) -> None:
        self.cost = cost
        self._work = work

    async def work(self, channels: object) -> None:
        await self._work(self.cost)

    async def cleanup(self, channels: object) -> None:
        """Fail, because an operation that was not begun must not be cleaned up."""
        assert not isinstance(self.cost, str)


async def by_phases(items: Any, work: Any, *, cost: Any, **options: Any) -> Any:
    """Run items as operations."""
    return await run_phases(
        [Call(item, work) for item in items],
        limiter=10,
        cost=None if cost is None else lambda call: cost(call.cost),
        **options,
    )


async def by_step(items: Any, work: Any, **options: Any) -> Any:
    """Run items through the first of two steps."""

    async def ends(item: object) -> None:
        await trio.lowlevel.checkpoint()

    pipeline = Producer(items) | Processor(work, limiter=10, **options) | Consumer(ends)
    report = await pipeline.run()
    return report.steps[0]


async def in_order(items: Any, work: Any, **options: Any) -> Any:
    """Run items through a step that keeps their order."""
    return await by_step(items, work, ordered=True, **options)


async def by_key(items: Any, work: Any, **options: Any) -> Any:
    """Run items through a step with one key for all of them."""
    return await by_step(items, work, key=lambda item: 1, **options)


FORMS = pytest.mark.parametrize("run", [by_phases, by_step, in_order, by_key])


@FORMS
async def test_items_wait_for_what_they_cost(run: Any, autojump_clock: MockClock) -> None:
    """The cost says how many times the rate is taken, and retries count."""
    begun, failed = list[tuple[float, float]](), set[float]()

    async def work(item: float) -> None:
        begun.append((item, trio.current_time()))
        if item == 3 and item not in failed:
            failed.add(item)
            raise OSError

    rate = RateLimiter(1, burst=5)
    await run(
        [4, 3, 1], work, rate=rate, cost=lambda item: item, on_error=Retry(1, backoff=lambda n: 0)
    )
    assert sum(item for item, _ in begun) == 11
    assert begun[:2] == [(4, 0), (3, 2)]
    assert trio.current_time() == 6


@FORMS
async def test_items_take_of_all_rates_and_settle(run: Any, autojump_clock: MockClock) -> None:
    """`Budget.settle` in a call corrects the estimate of that call, and no other's."""
    budget = Budget(calls=RateLimiter(10, burst=10), tokens=RateLimiter(1, burst=100))
    ended = list[float]()

    async def work(item: float) -> None:
        await trio.sleep(1)
        budget.settle(tokens=item / 2)
        ended.append(trio.current_time())

    def cost(item: float) -> Mapping[str, float]:
        return {"calls": 1, "tokens": item}

    await run([100, 40, 8], work, rate=budget, cost=cost)
    assert ended == [1, 2, 3 if run is by_key else 2]
    tokens = budget.rates["tokens"]
    assert isinstance(tokens, RateLimiter)
    assert tokens.available == pytest.approx(100 - 74 + trio.current_time(), abs=0.1)
    with pytest.raises(RuntimeError, match="has no call in hand here"):
        budget.settle(tokens=1)


@pytest.mark.parametrize("item", ["x", 11])
@FORMS
async def test_an_item_that_cannot_be_paid_fails(
    run: Any, item: object, autojump_clock: MockClock
) -> None:
    """The item is not handled or retried, a dead letter says why, and the others go on."""
    letters, worked = list[Any](), list[object]()

    async def work(item: object) -> None:
        worked.append(item)

    async def keep(letter: object) -> None:
        letters.append(letter)

    on_error = [Retry(3, on=OSError), DeadLetter(keep)]
    report = await run(
        [1, item, 2],
        work,
        rate=RateLimiter(1, burst=10),
        cost=lambda item: item / 1,
        on_error=on_error,
    )
    assert worked == [1, 2]
    assert (report.completed, report.diverted, report.retried) == (2, 1, 0)
    (letter,) = letters
    expected = "unsupported operand" if item == "x" else "burst, which is 10, not 11"
    assert expected in str(letter)


async def test_a_batch_costs_what_its_members_do(autojump_clock: MockClock) -> None:
    """If the batch costs too much or a cost is unknown, its members fail; each retry pays again."""
    tried = list[tuple[list[float], float]]()

    async def work(items: list[Any]) -> None:
        tried.append((items, trio.current_time()))
        if 3 in items and len(items) > 1:
            raise BatchError({items.index(3): OSError()})

    for rate, cost in (
        (RateLimiter(1, burst=8), lambda item: item),
        (Budget(points=RateLimiter(1, burst=8)), lambda item: {"points": item}),
    ):
        tried.clear()
        start = trio.current_time()
        report = await (
            Producer[Any]([5, 3, 9, 1, 1, 2, "x", 1])
            | Consumer(
                work,
                batch=Batch(2),
                limiter=1,
                rate=rate,
                cost=lambda item, cost=cost: cost(item + 0),  # type: ignore[misc]
                on_error=[Retry(1, on=OSError, backoff=lambda n: 0), Skip()],
            )
        ).run()
        assert [(items, now - start) for items, now in tried] == [
            ([5, 3], 0),
            ([3], 3),
            ([1, 2], 6),
        ]
        assert (report.steps[0].completed, report.steps[0].failed) == (4, 4)
        assert_conserved(report)


@FORMS
async def test_an_allowance_that_is_spent_stops_the_run(
    run: Any, autojump_clock: MockClock
) -> None:
    """Items in flight finish; the item that could not be paid and the rest are not begun."""
    ended = list[float]()
    budget = Budget(dollars=Allowance(10))

    async def work(item: float) -> None:
        await trio.sleep(item)
        budget.settle(dollars=item)
        ended.append(item)

    with pytest.raises(Aborted) as info:
        await run(
            [4, 2, 3, 2, 2, 2],
            work,
            rate=budget,
            cost=lambda item: {"dollars": item},
            on_error=Skip(),
        )
    (error,) = info.value.exceptions
    assert isinstance(error, ConcurrentError)
    assert isinstance(error.__cause__, BudgetSpent)
    assert error.phase == "budget"
    assert sorted(ended) == [2, 3, 4]


async def test_a_retry_pays_as_the_first_attempt_did(autojump_clock: MockClock) -> None:
    """A retry pays even if its cost is no longer known, and passes at once if there is enough."""
    rate, asked = RateLimiter(1, burst=10), list[float]()

    def cost(item: float) -> float:
        asked.append(item)
        if len(asked) > 1:
            raise ValueError("no cost any more")
        return item

    async def work(item: float) -> None:
        if rate.available > 5:
            raise OSError

    await (
        Producer([2]) | Consumer(work, rate=rate, cost=cost, on_error=Retry(5, backoff=lambda n: 0))
    ).run()
    assert (len(asked), rate.available, trio.current_time()) == (3, 4, 0)


async def test_a_retry_that_cannot_be_paid_stops_the_run(autojump_clock: MockClock) -> None:
    """The failed call has spent its estimate, and the item counts as cancelled."""

    async def work(item: float) -> None:
        raise OSError

    pipeline = Producer([6]) | Consumer(
        work,
        rate=Budget(dollars=Allowance(10)),
        cost=lambda item: {"dollars": item},
        on_error=Retry(5),
    )
    with pytest.raises(Aborted) as info:
        await pipeline.run()
    assert info.value.report.steps[0].cancelled == 1


async def test_an_item_that_waits_for_its_token_gives_back_all(autojump_clock: MockClock) -> None:
    """An item that is cancelled before its call is made has spent nothing."""
    tokens = RateLimiter(5, burst=10)
    tokens.acquire_nowait(10)
    limiter = Limiter("calls", 1)

    async def run() -> None:
        pipeline = Producer([1]) | Consumer(
            step, limiter=limiter, rate=Budget(tokens=tokens), cost=lambda n: {"tokens": 5}
        )
        await pipeline.run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.sleep(0.5)
        async with limiter:  # before the item is paid
            await trio.sleep(1)
            assert tokens.available == pytest.approx(2.5)
            nursery.cancel_scope.cancel()
    assert tokens.available == pytest.approx(7.5)


async def test_a_budget_inside_of_another(autojump_clock: MockClock) -> None:
    """A step may run a pipeline with a budget of its own, and settle either budget."""
    outer, inner = (Budget(tokens=RateLimiter(0.001, burst=10)) for _ in range(2))

    async def small(item: float) -> None:
        inner.settle(tokens=1)
        outer.settle(tokens=2)
        await trio.lowlevel.checkpoint()

    async def large(item: float) -> None:
        await (Producer([1]) | Consumer(small, rate=inner, cost=lambda n: {"tokens": 5})).run()

    await (Producer([1]) | Consumer(large, rate=outer, cost=lambda n: {"tokens": 5})).run()
    rates = [budget.rates["tokens"] for budget in (outer, inner)]
    assert [each.available for each in rates if isinstance(each, RateLimiter)] == [8, 9]


async def step(item: object) -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": Budget(a=RateLimiter(1))}, "a budget needs the cost of an item"),
        ({"cost": len}, "cost is what an item takes of a rate: give the rate as well"),
        ({"cost": 3, "rate": RateLimiter(1)}, "cost must be a function of an item, such as len"),
        ({"rate": 3}, "rate must be a RateLimiter"),
    ],
)
def test_rate_and_cost_have_to_fit(options: dict[str, Any], message: str) -> None:
    """If rate and cost do not fit together, the error says what is missing."""
    with pytest.raises(TypeError, match=message):
        Consumer(step, **options)


@pytest.mark.parametrize("cost", [3, {"points": 1}])
async def test_a_cost_has_the_names_of_the_budget(cost: object) -> None:
    """An item whose cost has other names fails, with an error that says what to return."""
    with pytest.raises(Aborted) as info:
        await (
            Producer([1]) | Consumer(step, rate=Budget(a=RateLimiter(1)), cost=lambda item: cost)  # type: ignore[arg-type,return-value]
        ).run()
    assert "by name, such as" in str(info.value.exceptions) or "has no rate" in str(
        info.value.exceptions
    )
