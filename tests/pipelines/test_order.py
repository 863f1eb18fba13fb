"""The order of all items, or of the items of one key, without holding up the rest."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from testkit.pipelines import into
from trio_turnstile import (
    DISCARD,
    Aborted,
    Consumer,
    DeadLetter,
    Limiter,
    Many,
    Processor,
    Producer,
    Retry,
    Skip,
    Throttle,
)
from trio_turnstile.testing import assert_conserved


class Work:
    """A step that takes given seconds for each item, and records when each one begins."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = seconds
        self.began: dict[int, float] = {}

    async def __call__(self, number: int) -> Any:
        self.began[number] = trio.current_time()
        await trio.sleep(self.seconds[number % len(self.seconds)])
        return number


async def came_out(producer: Producer[int]) -> list[tuple[int, float]]:
    """Return the items that came out, and when."""
    async with producer.open() as results:
        came = [(number, trio.current_time()) async for number in results]
    assert_conserved(results.report())
    return came


async def test_ordered_comes_out_in_order_and_stalls_nobody(autojump_clock: MockClock) -> None:
    """Items behind a slow one are worked on meanwhile, and come out right after it."""
    work = Work(10, 1, 1, 1, 1, 1)
    came = await came_out(Producer(range(6)) | Processor(work, limiter=2, ordered=True))
    assert came == [(number, 10) for number in range(6)]
    assert max(work.began.values()) == 4


async def test_ordered_runs_ahead_as_far_as_the_window(autojump_clock: MockClock) -> None:
    """No more items run ahead of a slow one than the window holds."""
    work = Work(10, 1, 1, 1, 1, 1)
    await came_out(Producer(range(6)) | Processor(work, limiter=2, window=3, ordered=True))
    assert [number for number, at in work.began.items() if at < 10] == [0, 1, 2]


async def test_order_survives_what_becomes_of_items(autojump_clock: MockClock) -> None:
    """Order holds when items are discarded, fail, become letters, are spread or are retried."""
    letters, _dead = trio.open_memory_channel[Any](9)
    tried: set[int] = set()

    async def work(number: int) -> Any:
        await trio.sleep((number * 7) % 5)
        if number % 5 == 1:
            return DISCARD
        if number % 5 == 2 and number not in tried:
            tried.add(number)
            raise OSError("again")
        if number % 5 == 3:
            raise ValueError
        if number % 10 == 4:
            raise KeyError
        return Many([number, number]) if number % 5 == 0 else number

    policies = [
        Retry(1, on=OSError, backoff=lambda n: 3),
        Skip(on=ValueError),
        DeadLetter(letters, on=KeyError),
    ]
    came = await came_out(
        Producer(range(40)) | Processor(work, limiter=7, ordered=True, on_error=policies)
    )
    numbers = [number for number, _ in came]
    assert numbers == sorted(numbers)
    assert set(numbers) == {n for n in range(40) if n % 5 in (0, 2) or n % 10 == 9}


async def test_order_holds_through_fused_and_further_steps(autojump_clock: MockClock) -> None:
    """Later steps keep the order if they are fused or ordered too."""
    stored: list[int] = []

    async def store(number: int) -> None:
        await trio.sleep(number % 3)
        stored.append(number)

    pipeline = (
        Producer(range(30))
        | Processor(Work(3, 1, 2), limiter=5, ordered=True, name="a")
        | Processor(Work(0, 1), name="b")
        | Processor(Work(2, 1, 4), limiter=3, ordered=True, name="c")
        | Consumer(store)
    )
    assert_conserved(await pipeline.run())
    assert stored == list(range(30))


async def test_order_holds_while_the_limit_moves(autojump_clock: MockClock) -> None:
    """Order holds while the limit goes down, to 0 and up again."""
    limiter = Limiter("api", 5, throttle=Throttle(min=0))

    async def turn() -> None:
        for tokens in (1, 0, 9, 2, 0, 5):
            await trio.sleep(3.3)
            limiter.total_tokens = tokens

    async with trio.open_nursery() as nursery:
        nursery.start_soon(turn)
        came = await came_out(
            Producer(range(50)) | Processor(Work(3, 1, 2), limiter=limiter, ordered=True)
        )
    assert [number for number, _ in came] == list(range(50))


async def test_items_of_a_key_go_one_after_the_other(autojump_clock: MockClock) -> None:
    """Items of one key run one at a time and in order; other keys run beside them."""
    work = Work(4, 1, 1)  # the key is the number modulo 3: those of key 0 are slow
    came = await came_out(
        Producer(range(9)) | Processor(work, limiter=3, key=lambda number: number % 3)
    )
    assert work.began == {0: 0, 1: 0, 2: 0, 3: 4, 4: 1, 5: 1, 6: 8, 7: 2, 8: 2}
    for key in range(3):
        mine = [number for number, _ in came if number % 3 == key]
        assert mine == sorted(mine)


async def test_waiting_for_a_key_takes_no_token(autojump_clock: MockClock) -> None:
    """Items that wait for their key hold no tokens."""
    work = Work(5)
    report = await (
        Producer([*range(0, 20, 2), 1]) | Consumer(work, limiter=2, key=lambda number: number % 2)
    ).run()
    assert work.began[1] == 0
    assert_conserved(report)


async def test_a_key_is_kept_through_back_off(autojump_clock: MockClock) -> None:
    """The next item of a key waits until the one before has ended, retries included."""
    log: list[tuple[int, float]] = []

    async def work(number: int) -> None:
        log.append((number, trio.current_time()))
        if number < 2 and len(log) <= 2:
            raise OSError

    policies = [Retry(1, backoff=lambda n: 10)]
    await (
        Producer(range(4))
        | Consumer(work, limiter=1, key=lambda number: number % 2, on_error=policies)
    ).run()
    assert [entry for entry in log if entry[0] % 2 == 0] == [(0, 0), (0, 10), (2, 10)]
    assert [entry for entry in log if entry[0] % 2 == 1] == [(1, 0), (1, 10), (3, 10)]


async def test_a_key_is_free_once_its_item_is_passed_on(autojump_clock: MockClock) -> None:
    """Items of a key leave in order, even if the next step is slow to take them."""
    stored: list[int] = []

    report = await (
        Producer(range(20))
        | Processor(Work(1, 3, 2), limiter=9, key=lambda number: number % 2)
        | Consumer(into(stored, seconds=1), limiter=1, window=1)
    ).run()
    assert_conserved(report)
    for key in range(2):
        mine = [number for number in stored if number % 2 == key]
        assert mine == sorted(mine)


async def test_cancelled_items_of_a_key_are_accounted_for(autojump_clock: MockClock) -> None:
    """Items that wait for their key are cancelled and listed as well."""
    async with trio.open_nursery() as nursery:
        run = await nursery.start(
            (Producer(range(9)) | Consumer(Work(5), limiter=2, key=lambda number: 0)).run
        )
        await trio.sleep(7)
        run.cancel()
    assert_conserved(run)
    assert (run.steps[0].completed, run.steps[0].cancelled) == (1, 8)
    assert set(run.steps[0].cut_off) == set(range(1, 9))


def picky(number: int) -> Hashable:
    if number == 1:
        raise ValueError("no key")
    return [] if number == 2 else number  # type: ignore[return-value]


async def test_a_key_that_fails_is_an_error_of_its_item(autojump_clock: MockClock) -> None:
    """If the key function raises, the policies decide, and the step is not called."""
    letters, dead = trio.open_memory_channel[Any](9)
    work = Work(0)
    policies = [Skip(on=ValueError), Retry(1), DeadLetter(letters, on=TypeError)]
    report = await (
        Producer(range(4)) | Consumer(work, limiter=1, key=picky, on_error=policies)
    ).run()
    assert_conserved(report)
    (step,) = report.steps
    assert (step.completed, step.failed, step.diverted, step.retried) == (2, 1, 1, 0)
    assert sorted(work.began) == [0, 3]
    assert dead.receive_nowait().item == 2
    with pytest.raises(Aborted) as caught:
        await (Producer(range(4)) | Consumer(work, key=picky)).run()
    assert {error.phase for error in caught.value.exceptions} == {"Work"}
    assert_conserved(caught.value.report)


async def test_an_item_that_waits_for_its_key_keeps_no_token_unused(
    autojump_clock: MockClock,
) -> None:
    """A worker whose next item waits for its key leaves its token to the item after that."""
    begun: dict[str, float] = {}

    async def work(item: str) -> None:
        begun[item] = trio.current_time()
        await trio.sleep(10 if item == "b1" else 1)

    items = ["a1", "b1", "b2", "c1"]
    await (Producer(items) | Consumer(work, limiter=2, key=lambda item: item[0])).run()
    assert begun == {"a1": 0, "b1": 0, "c1": 1, "b2": 10}
