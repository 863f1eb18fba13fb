"""The inbox of a stage, in situations that a pipeline would meet only by chance."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from trio_turnstile._engine.counts import Counts, Fate
from trio_turnstile._engine.window import Window
from trio_turnstile._pipelines.inbox import Inbox


def narrow() -> tuple[Counts, Inbox[str]]:
    counts = Counts()
    return counts, Inbox(counts, Window(counts, 1, lambda: 1))


async def test_an_item_whose_sender_was_cancelled_is_not_taken_in() -> None:
    """The item stays out even if room is made at the same instant, before the sender has run."""
    counts, inbox = narrow()
    assert inbox.put_nowait("first")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.put, "second")
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        counts.settle(Fate.COMPLETED)
        inbox.let_in()
    assert (counts.received, len(inbox.waiting)) == (1, 0)


async def test_an_item_that_was_taken_in_is_not_cancelled() -> None:
    """If its sender is cancelled at the same instant, it returns as if nothing had happened."""
    counts, inbox = narrow()
    returned = False

    async def put() -> None:
        nonlocal returned
        await inbox.put("second")
        returned = True

    assert inbox.put_nowait("first")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(put)
        await wait_all_tasks_blocked()
        counts.settle(Fate.COMPLETED)
        inbox.let_in()
        nursery.cancel_scope.cancel()
    assert returned
    assert (counts.received, inbox.abandon()) == (2, ["first", "second"])


async def test_senders_are_let_in_in_turn() -> None:
    """Each free place lets in the first sender in line, and no latecomer overtakes it."""
    counts, inbox = narrow()
    assert inbox.put_nowait("first")
    async with trio.open_nursery() as nursery:
        for item in ("second", "third"):
            nursery.start_soon(inbox.put, item)
            await wait_all_tasks_blocked()
        counts.settle(Fate.COMPLETED)
        assert not inbox.put_nowait("fourth")
        inbox.let_in()
        assert inbox.abandon() == ["first", "second"]
        counts.settle(Fate.COMPLETED)
        inbox.let_in()
    assert inbox.abandon() == ["third"]


async def test_room_that_was_made_by_a_wider_window_is_found() -> None:
    """The next sender lets in those who have waited before it puts its own item in."""
    counts, size = Counts(), [1.0]
    inbox = Inbox[str](counts, Window(counts, None, lambda: size[0], certain=0))
    assert inbox.put_nowait("first")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.put, "second")
        await wait_all_tasks_blocked()
        size[0] = 3
        await inbox.put("third")
    assert inbox.abandon() == ["first", "second", "third"]
