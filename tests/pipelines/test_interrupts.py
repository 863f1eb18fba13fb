"""Ctrl-C at any point of the way of an item through fused steps."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from testkit.interrupts import Started, struck_everywhere
from testkit.pipelines import unchanged
from testkit.soak import stride
from trio_turnstile import (
    DISCARD,
    Consumer,
    Many,
    Pipeline,
    PipelineRun,
    Processor,
    Producer,
    Retry,
    Skip,
)
from trio_turnstile.testing import assert_conserved

STRIDE = stride(41)
"""The number of instructions between two points that are tried: a prime, to try them all."""


MODULES = {"_pipelines/fused.py", "_pipelines/step_run.py", "_engine/slot.py"}


async def at_once(item: int) -> int:
    return item


async def doubled(item: int) -> int | Many[int]:
    return Many([item, item + 100]) if item % 3 == 0 else item


async def without_some(item: int) -> Any:
    return DISCARD if item % 4 == 1 else item


def fails_first() -> Callable[[int], Any]:
    failed = set[int]()

    async def work(item: int) -> int:
        if item % 2 and item not in failed:
            failed.add(item)
            raise ValueError(item)
        return item

    return work


async def fail_for_some(item: int) -> None:
    if item % 5 == 0:
        raise ValueError(item)


def again() -> Retry:
    return Retry(1, backoff=lambda _: 0)


def plain() -> Pipeline:
    return (
        Producer(range(8))
        | Processor(unchanged, limiter=3)
        | Processor(at_once)
        | Consumer(at_once)
    )


def with_errors() -> Pipeline:
    return (
        Producer(range(8))
        | Processor(fails_first(), limiter=3, on_error=[again()])
        | Processor(fails_first(), on_error=[again()])
        | Consumer(fail_for_some, on_error=[Skip()])
    )


def in_order() -> Pipeline:
    return (
        Producer(range(8)) | Processor(unchanged, limiter=3, ordered=True) | Processor(unchanged)
    ) | Consumer(at_once)


def with_many() -> Pipeline:
    return (
        Producer(range(8))
        | Processor(doubled, limiter=2)
        | Processor(without_some)
        | Processor(doubled)
        | Processor(unchanged, limiter=2)
        | Consumer(doubled)
    )


def by_key() -> Pipeline:
    return (
        Producer(range(8))
        | Processor(unchanged, limiter=3, key=lambda item: item % 2)
        | Processor(doubled)
        | Consumer(unchanged)
    )


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("make", [plain, with_errors, in_order, with_many, by_key])
def test_the_books_balance_wherever_ctrl_c_strikes(make: Callable[[], Pipeline]) -> None:
    """After Ctrl-C at any instruction, each item passed on is counted by the next step."""

    async def main(status: Started[PipelineRun]) -> None:
        await make().run(task_status=status)

    tried = 0
    for status in struck_everywhere(
        main, Started[PipelineRun], event="opcode", modules=MODULES, stride=STRIDE
    ):
        tried += 1
        for run in status.values:  # none, if Ctrl-C came before the run began
            check_end(run)
            if make not in (with_many, by_key):
                assert all(one.completed == other.received for one, other in pairwise(run.steps))
    assert tried > 10


def check_end(run: PipelineRun) -> None:
    assert_conserved(run)
    for step in run.steps:
        assert step.in_flight == 0
        assert len(step.cut_off) == step.cancelled


# ---- how the interrupt comes out ----


async def strike(number: int) -> int:
    """Press Ctrl-C while the third item is being worked on."""
    await trio.sleep(1)
    if number == 3:
        signal.raise_signal(signal.SIGINT)
    return number


async def hidden_strike(number: int) -> int:
    """Press Ctrl-C while all tasks wait, so that trio raises it in the main task."""
    if number == 3:
        trio.lowlevel.spawn_system_task(press)
    await trio.sleep(5)
    return number


async def press() -> None:
    await wait_all_tasks_blocked()
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("step", [strike, hidden_strike])
def test_ctrl_c_comes_out_bare(step: Any) -> None:
    """Ctrl-C is raised as `KeyboardInterrupt`, and the books are closed."""
    status = Started[PipelineRun]()
    pipeline = Producer(range(8)) | Processor(step, limiter=4) | Consumer(unchanged, limiter=1)
    with pytest.raises(KeyboardInterrupt):
        trio.run(partial(pipeline.run, task_status=status), clock=MockClock(autojump_threshold=0))
    (run,) = status.values
    check_end(run)
    assert sum(step.cancelled for step in run.steps) >= 1


@pytest.mark.parametrize("step", [strike, hidden_strike])
def test_ctrl_c_comes_out_of_the_block_bare(step: Any) -> None:
    """Without a consumer, too, Ctrl-C is raised as `KeyboardInterrupt`."""

    async def main() -> None:
        async with (Producer(range(8)) | Processor(step, limiter=4)).open() as results:
            async for _ in results:
                pass

    with pytest.raises(KeyboardInterrupt):
        trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_ctrl_c_in_the_source_comes_out_bare() -> None:
    """`KeyboardInterrupt` raised in the source is not wrapped."""

    def source() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await (Producer(source()) | Consumer(unchanged)).run()
