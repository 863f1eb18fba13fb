"""What becomes of an item of the source, and of everything that is made from it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from testkit.pipelines import start, takes, unchanged
from trio_turnstile import (
    DISCARD,
    Abort,
    Aborted,
    Batch,
    BatchError,
    ConcurrentError,
    Consumer,
    DeadLetter,
    Discard,
    ErrorPolicy,
    Many,
    Processor,
    Producer,
    Retry,
    Settled,
    Skip,
    open_turnstile,
)
from trio_turnstile.testing import assert_conserved


class Told(list[Settled[Any]]):
    """A listener that records what was settled."""

    def outcomes(self) -> dict[Any, str]:
        """Assert that no item was reported twice, and return the outcome of each."""
        assert len({id(each.item) for each in self}) == len(self)
        return {each.item: each.outcome for each in self}


async def doubled(item: int) -> Many[int]:
    await trio.lowlevel.checkpoint()
    return Many([item, item])


def parity(item: int) -> int:
    return item % 2


async def fails(item: Any) -> None:
    await trio.lowlevel.checkpoint()
    raise ValueError(item)


async def keep(letter: ConcurrentError) -> None:
    await trio.lowlevel.checkpoint()


async def test_an_item_is_settled_when_the_last_of_its_parts_has_ended(
    autojump_clock: MockClock,
) -> None:
    """Parts of an item end at different times; it is settled once, after the last of them."""
    told: list[tuple[float, Any]] = []

    def tell(settled: Settled[int]) -> None:
        told.append((trio.current_time(), settled.item))

    async def page(number: int) -> Many[int]:
        await trio.lowlevel.checkpoint()
        return Many(range(number))

    async def store(number: int) -> None:
        await trio.sleep(number)

    producer = Producer([4, 1, 0, 2], on_settled=tell)
    await (producer | Processor(page) | Consumer(store, limiter=10)).run()
    assert sorted(told) == [(0, 0), (0, 1), (1, 2), (3, 4)]


@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        (Processor(unchanged), "completed"),
        (Processor(fails, on_error=Skip()), "failed"),
        (Processor(fails, on_error=DeadLetter(keep)), "diverted"),
        (Processor(fails, on_error=[Retry(2), Skip()]), "failed"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"limiter": 2}, {"ordered": True}, {"key": str}])
async def test_the_outcome_is_how_the_item_ended(
    autojump_clock: MockClock, step: Processor[Any, Any], outcome: str, options: dict[str, Any]
) -> None:
    """The outcome names a failure in a middle step, and the error that ended the item."""
    told = Told()
    first: Processor[int, int] = Processor(unchanged, **options)
    report = await (
        Producer([1, 2, 3], on_settled=told.append) | first | step | Consumer(takes(1))
    ).run()
    assert_conserved(report)
    assert told.outcomes() == dict.fromkeys((1, 2, 3), outcome)
    for settled in told:
        if outcome == "completed":
            assert settled.error is None
        else:
            assert isinstance(settled.error, ConcurrentError)
            assert settled.error.item == settled.item


async def test_the_worst_of_all_parts_counts() -> None:
    """One part of an item is discarded, one goes through, and one fails: the item has failed."""

    async def judge(item: int) -> int | Discard:
        await trio.lowlevel.checkpoint()
        if item == 2:
            raise ValueError(item)
        return DISCARD if item == 1 else item

    async def split(item: str) -> Many[int]:
        await trio.lowlevel.checkpoint()
        return Many(map(int, item))

    told = Told()
    await (
        Producer(["0", "01", "11", "012", ""], on_settled=told.append)
        | Processor(split)
        | Processor(judge, on_error=Skip())
        | Consumer(takes(0))
    ).run()
    assert told.outcomes() == {
        "0": "completed",
        "01": "completed",
        "11": "completed",
        "012": "failed",
        "": "completed",
    }


async def test_members_of_a_batch_are_settled_one_by_one(autojump_clock: MockClock) -> None:
    """Failed members are retried alone, and settled as failed only if they fail for good."""
    attempts: Counter[int] = Counter()

    async def store(members: list[int]) -> None:
        await trio.sleep(1)
        attempts.update(members)
        bad = {
            index: ValueError(member)
            for index, member in enumerate(members)
            if member % 3 == 0 and attempts[member] <= member
        }
        if bad:
            raise BatchError(bad)

    told = Told()
    await (
        Producer(range(1, 9), on_settled=told.append)
        | Consumer(store, batch=Batch(4), on_error=[Retry(3), Skip()])
    ).run()
    assert told.outcomes() == {
        number: "failed" if number == 6 else "completed" for number in range(1, 9)
    }


async def test_what_a_batch_makes_counts_for_all_of_its_members() -> None:
    """A batch makes several things; if one of them fails, all members of the batch have failed."""

    async def join(members: list[int]) -> Many[int]:
        await trio.lowlevel.checkpoint()
        return Many([sum(members), 0])

    async def store(total: int) -> None:
        await trio.lowlevel.checkpoint()
        if total == 7:
            raise ValueError(total)

    told = Told()
    await (
        Producer([1, 2, 3, 4, 5], on_settled=told.append)
        | Processor(join, batch=Batch(2))
        | Consumer(store, on_error=Skip())
    ).run()
    assert told.outcomes() == {
        1: "completed",
        2: "completed",
        3: "failed",
        4: "failed",
        5: "completed",
    }


async def test_functions_of_a_batch_and_keys_see_the_items() -> None:
    """Keys, weights and the ends of batches get the items themselves, although these are traced."""
    seen: list[list[int]] = []

    async def store(members: list[int]) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(members)

    told = Told()
    batch = Batch(weight=lambda item: item, max_weight=100, key=parity, until=lambda n: n > 4)
    await (
        Producer(range(8), on_settled=told.append)
        | Processor(unchanged, key=parity)
        | Consumer(store, batch=batch)
    ).run()
    assert sorted(seen) == [[0, 2, 4, 6], [1, 3, 5], [7]]
    assert set(told.outcomes().values()) == {"completed"}


async def test_what_is_in_hand_at_the_end_of_a_run_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    """When a run is cancelled, exactly the items that it has received are settled."""
    told = Told()
    pipeline = Producer(range(100), on_settled=told.append) | Consumer(
        takes(2), limiter=3, window=3
    )
    with trio.move_on_after(3):
        async with pipeline.start() as run:
            await trio.sleep_forever()
    (step,) = run.steps
    assert_conserved(run)
    assert told.outcomes() == {0: "completed", 1: "completed", 2: "completed"} | dict.fromkeys(
        step.cut_off, "cancelled"
    )
    assert set(step.cut_off) == {3, 4, 5}


async def test_an_abort_settles_the_item_that_failed(autojump_clock: MockClock) -> None:
    """The failed item is settled as failed, and the items in hand as cancelled."""

    async def work(item: int) -> None:
        await trio.sleep(item)
        if item == 2:
            raise ValueError(item)

    told = Told()
    pipeline = Producer([1, 2, 3], on_settled=told.append) | Consumer(
        work, limiter=3, on_error=Abort()
    )
    with pytest.raises(Aborted) as caught:
        await pipeline.run()
    assert told.outcomes() == {1: "completed", 2: "failed", 3: "cancelled"}
    (error,) = caught.value.exceptions
    assert isinstance(error, ConcurrentError)
    assert error.item == 2


async def test_results_are_settled_when_they_are_taken(autojump_clock: MockClock) -> None:
    """Without a consumer, an item is settled when the iteration gets what was made from it."""
    told = Told()
    pipeline = Producer([1, 2, 3], on_settled=told.append) | Processor(doubled, limiter=1)
    async with pipeline.open() as results:
        assert await anext(results) == 1
        assert told == []
        assert await anext(results) == 1
        await trio.sleep(1)
        assert told.outcomes() == {1: "completed"}
    assert told.outcomes() == {1: "completed", 2: "cancelled", 3: "cancelled"}


async def test_a_producer_without_steps_settles(autojump_clock: MockClock) -> None:
    """A producer without steps settles the items that were taken."""
    told = Told()
    async with Producer([1, 2], on_settled=told.append).open() as results:
        assert [item async for item in results] == [1, 2]
    assert told.outcomes() == {1: "completed", 2: "completed"}


async def test_merged_producers_tell_each_of_their_own() -> None:
    """A producer without a listener may be merged with one that has a listener."""
    first, second = Told(), Told()
    await (
        Producer.merge(
            Producer([1, 2], on_settled=first.append),
            Producer([3]),
            Producer([4], on_settled=second.append),
        )
        | Processor(doubled)
        | Consumer(takes(0), batch=Batch(3))
    ).run()
    assert first.outcomes() == {1: "completed", 2: "completed"}
    assert second.outcomes() == {4: "completed"}


async def test_what_nobody_asks_about_goes_through_beside_what_is_asked_about() -> None:
    """Items with and without a listener go together through steps that pass, fail or drop them."""

    async def judge(item: int) -> int | Discard:
        await trio.lowlevel.checkpoint()
        if item % 3 == 0:
            raise ValueError(item)
        return DISCARD if item % 3 == 1 else item

    told = Told()
    report = await (
        Producer.merge(Producer(range(1, 7), on_settled=told.append), Producer(range(11, 17)))
        | Processor(unchanged, limiter=2)
        | Processor(judge, on_error=[Retry(1, backoff=lambda failures: 0), Skip()])
        | Consumer(takes(0))
    ).run()
    assert_conserved(report)
    judged = report["judge"]
    assert (judged.failed, judged.discarded, judged.completed) == (4, 4, 4)
    assert told.outcomes() == {
        number: "completed" if number % 3 else "failed" for number in range(1, 7)
    }


async def test_other_kinds_of_sources_tell_too() -> None:
    """Async generators, channels in order and opened sources settle their items, too."""

    async def numbers() -> AsyncIterator[int]:
        for number in range(3):
            await trio.lowlevel.checkpoint()
            yield number

    send, receive = trio.open_memory_channel[int](3)
    with send:
        for number in range(3):
            send.send_nowait(number)
    for source in (numbers, receive):
        told = Told()
        await (
            Producer(source, on_settled=told.append) | Consumer(takes(0), ordered=True, limiter=2)
        ).run()
        assert told.outcomes() == dict.fromkeys(range(3), "completed")


async def test_a_listener_that_raises_ends_the_run_soon(autojump_clock: MockClock) -> None:
    """The error is the reason and names the item; items in hand finish."""

    def tell(settled: Settled[int]) -> None:
        if settled.item == 2:
            raise LookupError("no")

    pipeline = Producer(range(100), on_settled=tell) | Consumer(takes(1), limiter=1)
    with pytest.raises(Aborted) as caught:
        await pipeline.run()
    (error,) = caught.value.exceptions
    assert isinstance(error, ConcurrentError)
    assert (error.item, error.phase) == (2, "on_settled")
    assert isinstance(error.__cause__, LookupError)
    assert caught.value.report.steps[0].received < 6


def test_a_listener_is_a_function() -> None:
    """Anything else is refused when the producer is made."""
    with pytest.raises(TypeError, match="on_settled must be a function, not 3"):
        Producer([1], on_settled=3)  # type: ignore[arg-type]


async def test_nobody_finds_traced_items(autojump_clock: MockClock) -> None:
    """Errors, letters, policies, and the lists of cancelled items have the items themselves."""
    letters: list[ConcurrentError] = []

    async def keep_letter(letter: ConcurrentError) -> None:
        await trio.lowlevel.checkpoint()
        letters.append(letter)

    def no_key(item: int) -> str:
        raise KeyError(item)

    async def hangs(item: int) -> None:
        await trio.sleep_forever()

    told = Told()
    keyed = Producer([1], on_settled=told.append) | Processor(
        unchanged, key=no_key, on_error=DeadLetter(keep_letter)
    )
    await (keyed | Consumer(takes(0))).run()
    batched = Producer([2, 3], on_settled=told.append) | Consumer(
        fails, batch=Batch(2), on_error=DeadLetter(keep_letter)
    )
    await batched.run()
    assert [letter.item for letter in letters] == [1, 2, 3]
    assert told.outcomes() == {1: "diverted", 2: "diverted", 3: "diverted"}
    async with trio.open_nursery() as nursery:
        run = await start(nursery, Producer([4], on_settled=told.append) | Consumer(hangs))
        await trio.sleep(1)
        run.cancel()
    assert run.steps[0].cut_off == (4,)


async def test_errors_beside_the_steps_name_the_items(autojump_clock: MockClock) -> None:
    """Errors of a closed limiter, or of a clean-up in a cancelled step, name the items."""

    async def work(item: int) -> None:
        try:
            await trio.sleep(9)
        finally:
            raise ValueError(item)

    told = Told()
    async with open_turnstile() as turnstile:
        limiter = turnstile.limiter("api", 1)
        pipeline = Producer([1, 2], on_settled=told.append) | Consumer(work, limiter=limiter)
        with pytest.raises(Aborted) as caught:
            async with pipeline.start():
                await trio.sleep(1)
                limiter.close()
    errors = caught.value.report.errors
    assert {error.item for error in errors} <= {1, 2}
    assert set(told.outcomes()) == {1, 2}


# ---- any pipeline ----


FATES = ("completed", "diverted", "failed")


class Planned:
    """A pipeline with a plan: it is known beforehand what each step makes of each part."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        draw = random.Random(seed)
        self.depth = draw.randrange(1, 4)
        self.options: list[dict[str, Any]] = [
            draw.choice([{}, {"limiter": 2}, {"ordered": True}, {"key": len}, {"window": 3}])
            for _ in range(self.depth)
        ]
        self.items = [(number,) for number in range(draw.randrange(12))]

    def plan(self, step: int, part: tuple[int, ...]) -> str | Sequence[tuple[int, ...]]:
        draw = random.Random(f"{self.seed} {step} {part}")
        fate = draw.choice(["failed", "diverted", "discarded", "on", "on", "on", "many", "many"])
        if fate == "on":
            return [part]
        return [(*part, n) for n in range(draw.randrange(4))] if fate == "many" else fate

    def outcome(self, part: tuple[int, ...], step: int = 0) -> str:
        """Return the worst outcome of the part."""
        if step == self.depth:
            return "completed"
        planned = self.plan(step, part)
        if isinstance(planned, str):
            return "completed" if planned == "discarded" else planned
        worst = [self.outcome(each, step + 1) for each in planned]
        return max(worst, key=FATES.index, default="completed")

    def step(self, step: int) -> Processor[Any, Any]:
        async def work(part: tuple[int, ...]) -> Any:
            draw = random.Random(f"{self.seed} {part}")
            await trio.sleep(draw.choice([0, 0, 0.1, 1]))
            planned = self.plan(step, part)
            if planned in ("failed", "diverted"):
                raise ValueError(planned)
            if planned == "discarded":
                return DISCARD
            assert not isinstance(planned, str)
            return planned[0] if planned == [part] else Many(planned)

        def is_diverted(error: BaseException) -> bool:
            return "diverted" in str(error)

        policies: list[ErrorPolicy] = [DeadLetter(keep, on=is_diverted), Skip()]
        return Processor(work, on_error=policies, **self.options[step])


@given(seed=st.integers(0, 10**6), with_batch=st.booleans())
def test_any_pipeline_tells_of_each_item_once_and_truly(seed: int, with_batch: bool) -> None:
    """Whatever becomes of the parts, each item is settled once, with the worst outcome of them."""
    planned = Planned(seed)
    told = Told()
    producer: Producer[Any] = Producer(planned.items, on_settled=told.append)
    for step in range(planned.depth):
        producer = producer | planned.step(step)
    options: dict[str, Any] = {"batch": Batch(3, within=1)} if with_batch else {}

    async def main() -> None:
        assert_conserved(await (producer | Consumer(takes(0), **options)).run())

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert told.outcomes() == {item: planned.outcome(item) for item in planned.items}


async def test_an_item_that_succeeds_at_last_is_completed(autojump_clock: MockClock) -> None:
    """The errors of the attempts before the successful one do not count."""
    attempts: Counter[int] = Counter()

    async def works_later(item: int) -> int:
        await trio.lowlevel.checkpoint()
        attempts[item] += 1
        if attempts[item] < 3:
            raise ValueError(item)
        return item

    told = Told()
    await (
        Producer([1, 2], on_settled=told.append)
        | Processor(works_later, on_error=Retry(5), limiter=1)
        | Consumer(takes(0), limiter=1)
    ).run()
    assert told.outcomes() == {1: "completed", 2: "completed"}
    assert [settled.error for settled in told] == [None, None]
