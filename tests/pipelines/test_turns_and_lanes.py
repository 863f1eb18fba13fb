"""Turns and lanes: the order of waiting tasks, without a pipeline."""

from __future__ import annotations

import random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_turnstile._pipelines.order import Lanes, Turns


@given(seed=st.integers(0, 1000), count=st.integers(0, 12))
def test_turns_come_in_order(seed: int, count: int) -> None:
    """Turns come by number, whoever arrives first, and whether or not a task waits."""
    chance = random.Random(seed)
    order: list[int] = []

    async def take(turns: Turns, number: int) -> None:
        await trio.sleep(chance.random())
        if chance.random() < 0.7:
            await turns.wait(number)
            order.append(number)
            await trio.sleep(chance.random())
        turns.done(number)

    async def main() -> None:
        turns = Turns()
        async with trio.open_nursery() as nursery:
            for number in range(1, count + 1):
                nursery.start_soon(take, turns, number)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert order == sorted(order)


async def test_a_turn_given_up_holds_nobody_up() -> None:
    """A turn whose task was cancelled is skipped once it is done."""
    turns = Turns()

    async def give_up() -> None:
        try:
            with trio.CancelScope() as scope:
                scope.cancel()
                await turns.wait(2)
        finally:
            turns.done(2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.wait, 3)
        await wait_all_tasks_blocked()
        await give_up()
        turns.done(1)


async def test_lanes_let_one_in_at_a_time() -> None:
    """A lane lets one task of a key in at a time; other keys do not wait."""
    lanes = Lanes()
    entered: list[int] = []

    async def enter(number: int) -> None:
        await lanes.enter("a")
        entered.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(enter, number)
            await wait_all_tasks_blocked()
        await lanes.enter("b")
        assert entered == [0]
        for _ in range(2):
            lanes.leave("a")
            await wait_all_tasks_blocked()
    assert entered == [0, 1, 2]
    lanes.leave("a")
    await lanes.enter("a")


@pytest.mark.parametrize("let_in", [False, True], ids=["waiting", "just let in"])
async def test_a_place_given_up_goes_to_the_next(let_in: bool) -> None:
    """A task cancelled in a lane gives its place to the next, even if it just got in."""
    lanes = Lanes()
    scope = trio.CancelScope()
    entered: list[str] = []

    async def give_up() -> None:
        with scope:
            await lanes.enter("a")
            entered.append("first")

    async def stay() -> None:
        await lanes.enter("a")
        entered.append("second")

    await lanes.enter("a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(give_up)
        await wait_all_tasks_blocked()
        nursery.start_soon(stay)
        await wait_all_tasks_blocked()
        if not let_in:
            scope.cancel()
            await wait_all_tasks_blocked()
            assert entered == []
        else:
            scope.cancel()
        lanes.leave("a")
    assert entered == ["second"]
    lanes.leave("a")
