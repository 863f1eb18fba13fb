"""Items keep the order in which the source gave them, whichever worker runs first."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_turnstile import Consumer, Processor, Producer
from trio_turnstile.testing import assert_conserved


@pytest.mark.parametrize(
    "options", [{"ordered": True}, {"key": lambda item: 0}], ids=["ordered", "key"]
)
@pytest.mark.parametrize("buffer", [0, 2, 100])
@pytest.mark.parametrize("merged", [False, True])
def test_items_of_a_channel_come_out_in_order(
    options: dict[str, Any], buffer: int, merged: bool
) -> None:
    """Order holds even for items given to several waiting workers at one instant."""

    async def once() -> list[int]:
        out: list[int] = []
        send, receive = trio.open_memory_channel[int](buffer)
        producer = Producer.merge(Producer(receive)) if merged else Producer(receive)

        async def step(item: int) -> int:
            await trio.lowlevel.checkpoint()
            return item

        async def store(item: int) -> None:
            out.append(item)

        pipeline = producer | Processor(step, limiter=4, **options) | Consumer(store)
        async with trio.open_nursery() as nursery:
            run = await nursery.start(pipeline.run)
            with send:
                for begin in range(0, 24, 6):
                    await wait_all_tasks_blocked()
                    for item in range(begin, begin + 6):
                        try:
                            send.send_nowait(item)
                        except trio.WouldBlock:
                            await send.send(item)
        assert_conserved(run)
        return out

    for _ in range(15):  # trio shuffles the tasks of one instant
        assert trio.run(once, clock=MockClock(autojump_threshold=0)) == list(range(24))


@pytest.mark.parametrize(
    "options", [{"ordered": True}, {"key": lambda item: 0}], ids=["ordered", "key"]
)
async def test_what_was_not_read_in_order_is_left_in_the_channel(
    autojump_clock: MockClock, options: dict[str, Any]
) -> None:
    """A drained run takes no item that no worker is waiting for."""
    send, receive = trio.open_memory_channel[int](10)
    for item in range(10):
        send.send_nowait(item)

    async def step(item: int) -> None:
        await trio.sleep(1)

    async with (Producer(receive) | Consumer(step, limiter=1, window=1, **options)).start() as run:
        await trio.sleep(2.5)
        run.drain()
    (account,) = run.steps
    assert (account.completed, account.cancelled) == (3, 0)
    assert receive.receive_nowait() == 3


async def test_a_step_takes_no_item_ahead_of_its_token(autojump_clock: MockClock) -> None:
    """A step takes no item early, even if a fused step goes on without the token for long."""
    taken: list[float] = []
    running = 0

    def source() -> Any:
        for number in range(8):
            taken.append(trio.current_time())
            yield number

    async def first(item: int) -> int:
        nonlocal running
        running += 1
        assert running == 1
        await trio.sleep(1)
        running -= 1
        return item

    async def second(item: int) -> None:
        await trio.sleep(0.5 if item % 2 else 3.25)

    await (Producer(source) | Processor(first, limiter=1) | Consumer(second)).run()
    assert taken == [float(number) for number in range(8)]
