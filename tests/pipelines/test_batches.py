"""Consumers that take their items in batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from testkit.pipelines import books, unchanged
from trio_turnstile import (
    Aborted,
    Batch,
    BatchError,
    ConcurrentError,
    Consumer,
    DeadLetter,
    Limiter,
    Processor,
    Producer,
    Retry,
    RetryBudget,
    Skip,
    Throttle,
)
from trio_turnstile.testing import assert_conserved


class Store:
    """A step that records its batches and their times; some items fail several times."""

    def __init__(self, seconds: float = 0, failures: dict[Any, int] | None = None) -> None:
        self.seconds = seconds
        self.failures = Counter(failures or {})
        self.batches: list[list[Any]] = []
        self.times: list[float] = []

    async def __call__(self, items: list[Any]) -> None:
        self.batches.append(items)
        self.times.append(trio.current_time())
        await trio.sleep(self.seconds)
        errors: dict[int, Exception] = {}
        for index, item in enumerate(items):
            if self.failures[item] > 0:
                self.failures[item] -= 1
                errors[index] = OSError(item)
        if errors:
            raise BatchError(errors)


async def every_second(items: int) -> AsyncIterator[int]:
    for number in range(items):
        yield number
        await trio.sleep(1)


@pytest.mark.parametrize("steps", [0, 1, 2])
async def test_batches_by_size(steps: int) -> None:
    """A batch ends at its size; the last one is flushed at the end."""

    store = Store()
    producer = Producer(range(10))
    for _ in range(steps):
        producer = producer | Processor(unchanged, ordered=True)
    report = await (producer | Consumer(store, limiter=1, batch=Batch(4))).run()
    assert store.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert books(report).batches == {"size": 2, "flush": 1}
    assert (books(report).received, books(report).completed) == (10, 10)


async def test_batches_by_weight() -> None:
    """A batch ends before it gets too heavy; an item that is too heavy goes alone."""
    store = Store()
    words = ["aa", "b", "cc", "dddddd", "e", "fff", "g"]
    report = await (
        Producer(words) | Consumer(store, limiter=1, batch=Batch(weight=len, max_weight=4))
    ).run()
    assert store.batches == [["aa", "b"], ["cc"], ["dddddd"], ["e", "fff"], ["g"]]
    assert books(report).batches == {"weight": 4, "flush": 1}


async def test_batches_by_the_age_of_the_oldest(autojump_clock: MockClock) -> None:
    """A batch ends when its oldest item reaches the age; later items do not delay it."""
    store = Store()
    report = await (
        Producer(every_second(10)) | Consumer(store, batch=Batch(100, within=2.5))
    ).run()
    assert store.batches == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert store.times == [2.5, 5.5, 8.5, 10]
    assert books(report).batches == {"age": 3, "flush": 1}


async def test_batches_apart_by_key(autojump_clock: MockClock) -> None:
    """Items of different keys go to different batches, and each batch has its own age."""
    store = Store()
    report = await (
        Producer(every_second(8))
        | Consumer(store, batch=Batch(3, within=6.5, key=lambda number: number % 4 == 1))
    ).run()
    assert store.batches == [[0, 2, 3], [4, 6, 7], [1, 5]]
    assert store.times == [3, 7, 7.5]
    assert books(report).batches == {"size": 2, "age": 1}


async def test_old_batches_wait_for_a_token_closed(autojump_clock: MockClock) -> None:
    """A batch that is due takes no more items while it waits for a token."""
    store = Store(seconds=5)
    report = await (
        Producer(every_second(9)) | Consumer(store, limiter=1, batch=Batch(100, within=1.5))
    ).run()
    assert store.batches == [[0, 1], [2, 3], [4, 5], [6, 7], [8]]
    assert store.times == [1.5, 6.5, 11.5, 16.5, 21.5]
    assert books(report).batches == {"age": 4, "flush": 1}


async def test_tokens_are_for_batches(autojump_clock: MockClock) -> None:
    """A batch takes one token, whatever its size."""
    store = Store(seconds=1)
    await (Producer(range(40)) | Consumer(store, limiter=2, batch=Batch(5))).run()
    assert trio.current_time() == 4


@pytest.mark.parametrize(
    "batch",
    [
        Batch(weight=len, max_weight=500),
        Batch(10, key=lambda word: word),
        Batch(weight=len, max_weight=500, key=lambda word: word[-1]),
    ],
    ids=["weight", "key", "both"],
)
@pytest.mark.parametrize("window", [None, 20])
@pytest.mark.parametrize("steps", [0, 1])
async def test_a_full_window_never_waits_for_a_full_batch(
    autojump_clock: MockClock, batch: Batch, window: int | None, steps: int
) -> None:
    """When the window is full of items being gathered, incomplete batches are handled."""

    producer = Producer(str(number) for number in range(300))
    for _ in range(steps):
        producer = producer | Processor(unchanged)
    store = Store(seconds=1)
    with trio.fail_after(1000):
        report = await (producer | Consumer(store, limiter=1, window=window, batch=batch)).run()
    assert books(report).completed == sum(map(len, store.batches)) == 300


@pytest.mark.parametrize("steps", [0, 1])
async def test_a_window_that_shrinks_never_waits_for_a_full_batch(
    autojump_clock: MockClock, steps: int
) -> None:
    """A window that shrinks below what is being gathered causes no deadlock."""

    limiter = Limiter("db", 4, throttle=Throttle(min=0))
    producer = Producer(every_second(60))
    for _ in range(steps):
        producer = producer | Processor(unchanged)
    store = Store(seconds=1)
    async with trio.open_nursery() as nursery:
        await nursery.start(
            (producer | Consumer(store, limiter=limiter, batch=Batch(10, key=lambda n: n))).run
        )
        await trio.sleep(35.5)
        limiter.total_tokens = 1
        with trio.fail_after(1000):
            while len(store.batches) < 60:
                await trio.sleep(1)


async def test_the_window_counts_items_gathered_too(autojump_clock: MockClock) -> None:
    """Items in an incomplete batch count in the window, and hold the source back."""
    async with trio.open_nursery() as nursery:
        run = await nursery.start(
            (
                Producer(range(100))
                | Consumer(Store(seconds=10), limiter=1, window=7, batch=Batch(3, within=1))
            ).run
        )
        await trio.sleep(5)
        assert run.steps[0].in_flight == 7
        run.cancel()
    assert_conserved(run)
    assert run.steps[0].cancelled == 7
    assert set(run.steps[0].cut_off) == set(range(7))


async def test_drain_flushes(autojump_clock: MockClock) -> None:
    """`drain` flushes incomplete batches at once."""
    store = Store()
    async with trio.open_nursery() as nursery:
        run = await nursery.start(
            (Producer(every_second(99)) | Consumer(store, batch=Batch(50, within=60))).run
        )
        await trio.sleep(3.5)
        run.drain()
    assert store.batches == [[0, 1, 2, 3]]
    assert trio.current_time() == 3.5
    assert books(run.report()).batches == {"flush": 1}


# ---- errors ----


async def test_batch_error_fails_members_alone(autojump_clock: MockClock) -> None:
    """Items that a `BatchError` names fail; the other items of the batch complete."""
    store = Store(failures={2: 1, 5: 1})
    report = await (
        Producer(range(8)) | Consumer(store, limiter=1, batch=Batch(4), on_error=[Skip()])
    ).run()
    assert (books(report).completed, books(report).failed) == (6, 2)
    assert [error.item for error in report.errors] == [2, 5]
    assert [repr(error.__cause__) for error in report.errors] == ["OSError(2)", "OSError(5)"]
    assert {error.phase for error in report.errors} == {"Store"}


async def test_a_retry_is_of_the_failed_members_only(autojump_clock: MockClock) -> None:
    """A retry is given only the items that failed."""
    store = Store(failures={1: 1, 2: 2, 3: 9})
    policies = [Retry(2, backoff=lambda failures: 10 * failures), Skip()]
    report = await (
        Producer(range(5)) | Consumer(store, limiter=1, batch=Batch(5), on_error=policies)
    ).run()
    assert store.batches == [[0, 1, 2, 3, 4], [1, 2, 3], [2, 3]]
    assert store.times == [0, 10, 30]
    assert (books(report).completed, books(report).failed, books(report).retried) == (4, 1, 5)
    assert [(error.item, error.attempt) for error in report.errors] == [(3, 3)]


async def test_a_batch_that_backs_off_holds_no_token(autojump_clock: MockClock) -> None:
    """Other batches go on while one backs off."""
    store = Store(seconds=1, failures={0: 1})
    report = await (
        Producer(range(6))
        | Consumer(
            store, limiter=1, batch=Batch(2), on_error=[Retry(1, backoff=lambda failures: 10)]
        )
    ).run()
    assert store.batches == [[0, 1], [2, 3], [4, 5], [0]]
    assert (trio.current_time(), books(report).completed) == (12, 6)


async def test_other_errors_fail_the_whole_batch() -> None:
    """Any other exception fails all items of the batch."""

    async def store(numbers: list[int]) -> None:
        raise OSError("no disk")

    report = await (
        Producer(range(3)) | Consumer(store, batch=Batch(2), on_error=[Skip(on=OSError)])
    ).run()
    assert books(report).failed == 3
    assert sorted(str(error.item) for error in report.errors) == ["0", "1", "2"]


async def test_timeouts_fail_the_whole_batch(autojump_clock: MockClock) -> None:
    """A timeout fails all items of the batch."""
    report = await (
        Producer(range(4))
        | Consumer(
            Store(seconds=5), batch=Batch(2), timeout=1, on_error=[Skip(on=trio.TooSlowError)]
        )
    ).run()
    assert (books(report).failed, trio.current_time()) == (4, 1)


async def test_a_batch_error_of_nobody_is_a_success() -> None:
    """A `BatchError` that names no item fails none."""

    async def store(numbers: list[int]) -> None:
        raise BatchError({})

    report = await (Producer(range(3)) | Consumer(store, batch=Batch(2))).run()
    assert books(report).completed == 3


async def test_an_index_that_is_not_there_fails_the_batch() -> None:
    """A `BatchError` with an index out of range fails all items, with a note."""

    async def store(numbers: list[int]) -> None:
        raise BatchError({0: OSError(), 2: OSError()})

    report = await (Producer(range(2)) | Consumer(store, batch=Batch(2), on_error=[Skip()])).run()
    assert books(report).failed == 2
    for error in report.errors:
        assert error.__cause__ is not None
        assert error.__cause__.__notes__ == ["the batch had 2 members: no such index"]


async def test_one_concurrent_error_for_several_members() -> None:
    """A `ConcurrentError` that a batch raises becomes one error for each item."""
    mine = ConcurrentError("mine", identifiers=["s7"])

    async def store(numbers: list[int]) -> None:
        raise mine

    report = await (Producer(range(3)) | Consumer(store, batch=Batch(3), on_error=[Skip()])).run()
    assert [error.item for error in report.errors] == [0, 1, 2]
    assert report.errors[0] is mine
    assert [error.identifiers for error in report.errors] == [("s7",)] * 3


async def test_members_keep_their_own_items() -> None:
    """A member keeps its item, whatever item an error raised for the whole batch names."""
    mine = ConcurrentError("mine", item="part 3")

    async def store(numbers: list[int]) -> None:
        raise mine

    report = await (Producer(range(2)) | Consumer(store, batch=Batch(2), on_error=Skip())).run()
    assert [error.item for error in report.errors] == [0, 1]
    assert all("mine" in str(error) for error in report.errors)


async def test_members_become_dead_letters() -> None:
    """Each failed item of a batch becomes a dead letter of its own."""
    letters, dead = trio.open_memory_channel[ConcurrentError](9)
    report = await (
        Producer(range(6))
        | Consumer(Store(failures={1: 1, 3: 1}), batch=Batch(3), on_error=[DeadLetter(letters)])
    ).run()
    assert (books(report).completed, books(report).diverted) == (4, 2)
    assert sorted(str(dead.receive_nowait().item) for _ in range(2)) == ["1", "3"]


async def test_silence_aborts_with_all_members_that_failed() -> None:
    """If no policy decides, the run is aborted with an error for each failed item."""
    with pytest.raises(Aborted) as caught:
        await (Producer(range(4)) | Consumer(Store(failures={0: 1, 2: 1}), batch=Batch(4))).run()
    assert sorted(str(error.item) for error in caught.value.exceptions) == ["0", "2"]
    assert (books(caught.value.report).completed, books(caught.value.report).failed) == (2, 2)


@pytest.mark.parametrize("seconds", [0, 0.1])
async def test_retries_of_batches_are_paid_from_the_budget(
    autojump_clock: MockClock, seconds: float
) -> None:
    """A retry of a batch costs one retry of the budget, with or without back-off."""
    store = Store(failures={0: 99})
    policies = [
        Retry(5, backoff=lambda n: seconds, budget=RetryBudget(retries=1, per_second=0.1)),
        Skip(),
    ]
    await (Producer([0]) | Consumer(store, batch=Batch(1), on_error=policies)).run()
    assert trio.current_time() == pytest.approx(40 + seconds)


def fails_on_3(number: int) -> int:
    if number == 3:
        raise ValueError("no key")
    return number % 2


@pytest.mark.parametrize(
    "options",
    [{"key": fails_on_3}, {"weight": fails_on_3, "max_weight": 3}, {"key": lambda number: []}],
    ids=["key", "weight", "unhashable"],
)
async def test_a_key_or_weight_that_fails_is_an_error_of_its_item(options: Any) -> None:
    """If the key or weight function raises, the item fails, and the policies decide."""
    bad = 1 if "unhashable" in str(options) else 3
    numbers = [bad] if isinstance(options.get("key", fails_on_3)(1), list) else range(6)
    store = Store()
    report = await (
        Producer(numbers)
        | Consumer(store, limiter=1, batch=Batch(2, **options), on_error=[Retry(1), Skip()])
    ).run()
    assert books(report).failed == 1
    assert books(report).completed == len(list(numbers)) - 1
    (error,) = report.errors
    assert (error.item, error.phase, error.attempt) == (bad, "Store", 1)
    with pytest.raises(Aborted) as caught:
        await (Producer(numbers) | Consumer(store, batch=Batch(2, **options))).run()
    assert [error.item for error in caught.value.exceptions] == [bad]
    assert_conserved(caught.value.report)


async def test_cancelled_batches_are_accounted_for_by_member(autojump_clock: MockClock) -> None:
    """Cancelled items are listed one by one, wherever in a batch they were."""
    store = Store(seconds=2, failures={0: 1})
    producer: Callable[[], Producer[int]] = lambda: Producer(range(100))  # noqa: E731
    async with trio.open_nursery() as nursery:
        run = await nursery.start(
            (
                producer()
                | Consumer(
                    store,
                    limiter=2,
                    window=9,
                    batch=Batch(2),
                    on_error=[Retry(1, backoff=lambda n: 50)],
                )
            ).run
        )
        await trio.sleep(3)
        run.cancel()
    step = run.steps[0]
    assert_conserved(run)
    assert (step.completed, step.cancelled) == (3, 9)
    assert sorted(step.cut_off) == [0, *range(4, 12)]
