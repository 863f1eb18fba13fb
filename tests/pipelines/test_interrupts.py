"""Ctrl-C at any point of the way of an item through the steps of a segment."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count, pairwise
from typing import Any

import attrs
import pytest
import trio

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

STRIDE = 41
"""How many instructions lie between two points that are tried: a prime, to meet them all."""


MODULES = {"_pipelines/fused.py", "_pipelines/step_run.py", "_engine/slot.py"}


@attrs.frozen
class Status:
    """Gets the flow when it starts."""

    flows: list[PipelineRun]

    def started(self, flow: Any = None) -> None:
        self.flows.append(flow)


async def wait(item: int) -> int:
    await trio.lowlevel.checkpoint()
    return item


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
    return Producer(range(8)) | Processor(wait, limiter=3) | Processor(at_once) | Consumer(at_once)


def with_errors() -> Pipeline:
    return (
        Producer(range(8))
        | Processor(fails_first(), limiter=3, on_error=[again()])
        | Processor(fails_first(), on_error=[again()])
        | Consumer(fail_for_some, on_error=[Skip()])
    )


def in_order() -> Pipeline:
    return (
        Producer(range(8)) | Processor(wait, limiter=3, ordered=True) | Processor(wait)
    ) | Consumer(at_once)


def with_many() -> Pipeline:
    return (
        Producer(range(8))
        | Processor(doubled, limiter=2)
        | Processor(without_some)
        | Processor(doubled)
        | Processor(wait, limiter=2)
        | Consumer(doubled)
    )


def by_key() -> Pipeline:
    return (
        Producer(range(8))
        | Processor(wait, limiter=3, key=lambda item: item % 2)
        | Processor(doubled)
        | Consumer(wait)
    )


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("make", [plain, with_errors, in_order, with_many, by_key])
def test_the_books_balance_wherever_ctrl_c_strikes(
    make: Callable[[], Pipeline], interrupted: Callable[..., bool]
) -> None:
    """Each item is in the books of one step at least, and where one passed on is the next's."""
    for instruction in count(1, STRIDE):
        flows: list[PipelineRun] = []
        main = partial(make().run, task_status=Status(flows))
        if not interrupted(main, instruction, event="opcode", modules=MODULES):
            break
        if not flows:  # struck while it was being made
            continue
        (flow,) = flows
        assert_conserved(flow)
        for report in flow.steps:
            assert report.in_flight == 0
            assert len(report.cut_off) == report.cancelled
        if make not in (with_many, by_key):
            assert all(one.completed == other.received for one, other in pairwise(flow.steps))
    assert instruction > 10 * STRIDE
