"""Things of one item that the next must not see: context variables, references, locals."""

from __future__ import annotations

import contextvars
import gc
import weakref
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_turnstile import (
    Batch,
    Consumer,
    Processor,
    Producer,
    Retry,
    Scalable,
    Skip,
    run_phases,
)
from trio_turnstile.testing import no_backoff

REQUEST = contextvars.ContextVar[Any]("request", default="none")


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("options", [{"limiter": 1}, {}, {"key": str}, {"ordered": True}], ids=str)
async def test_no_item_sees_a_context_variable_of_another(
    waits: bool, options: dict[str, Any]
) -> None:
    """Each item sees the context of the run, and its own later steps see what it sets."""
    REQUEST.set("of the run")
    seen: list[Any] = []

    async def first(item: int) -> int:
        seen.append(REQUEST.get())
        REQUEST.set(item)
        if waits:
            await trio.lowlevel.checkpoint()
        return item

    async def second(item: int) -> None:
        assert REQUEST.get() == item  # fused: they run in the same task

    await (Producer(range(20)) | Processor(first, **options) | Consumer(second)).run()
    assert seen == ["of the run"] * 20


async def test_no_operation_sees_a_context_variable_of_another() -> None:
    """The phases of one operation share one context."""
    seen: list[Any] = []

    class Job(Scalable):
        async def prepare(self, channels: Any) -> None:
            seen.append(REQUEST.get())
            REQUEST.set(self)

        async def cleanup(self, channels: Any) -> None:
            assert REQUEST.get() is self

    await run_phases([Job() for _ in range(20)], limiter=2)
    assert seen == ["none"] * 20


async def test_a_value_that_cannot_be_compared_in_a_context_is_no_matter() -> None:
    """Arrays and similar values raise an error when two contexts are compared."""

    class Array:
        def __eq__(self, other: object) -> bool:
            raise ValueError("ambiguous")

        __hash__ = None  # type: ignore[assignment]

    async def step(item: int) -> None:
        assert REQUEST.get() == "none" if isinstance(REQUEST.get(), str) else False
        REQUEST.set(Array())

    report = await (Producer(range(5)) | Consumer(step, limiter=1)).run()
    assert report.steps[0].completed == 5


class Big(Scalable):
    """An item, or an operation, that the test can see being freed."""


@pytest.mark.parametrize(
    "options",
    [{"limiter": 3}, {}, {"key": id}, {"ordered": True}, {"batch": Batch(1)}],
    ids=["limiter", "none", "key", "ordered", "batch"],
)
@pytest.mark.parametrize("steps", [1, 2, 3])
async def test_an_idle_run_keeps_no_item_alive(
    autojump_clock: MockClock, options: dict[str, Any], steps: int
) -> None:
    """Items are gone once they are through, whatever the steps are."""
    seen = []
    send, receive = trio.open_memory_channel[Big](0)

    async def step(item: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return item

    consumer: Any = Consumer
    pipeline: Any = Producer(receive)
    for index in range(steps - 1):
        pipeline |= Processor(step, limiter=2 if index else None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon((pipeline | consumer(step, **options)).run)
        for _ in range(5):
            item = Big()
            seen.append(weakref.ref(item))
            await send.send(item)
            del item
            await trio.sleep(1)
        await wait_all_tasks_blocked()
        gc.collect()
        assert [ref() for ref in seen] == [None] * 5
        send.close()


async def test_an_idle_run_keeps_no_operation_alive(autojump_clock: MockClock) -> None:
    """A run of phases keeps no operation alive while it waits for the next one."""
    seen = []
    send, receive = trio.open_memory_channel[Scalable](0)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _run() -> None:
            await run_phases(receive, limiter=3)

        for _ in range(5):
            item = Big()
            seen.append(weakref.ref(item))
            await send.send(item)
            del item
            await trio.sleep(1)
        gc.collect()
        assert [ref() for ref in seen] == [None] * 5
        send.close()


class Held:
    """An object that counts how many of its kind are alive."""

    alive = 0
    peak = 0

    def __init__(self) -> None:
        Held.alive += 1
        Held.peak = max(Held.peak, Held.alive)

    def __del__(self) -> None:
        Held.alive -= 1


async def passes(item: Any) -> Any:
    await trio.lowlevel.checkpoint()
    return item


async def fails(item: Any) -> None:
    held = Held()  # noqa: F841
    await trio.lowlevel.checkpoint()
    raise OSError("boom")


@pytest.mark.parametrize("fused", [False, True])
async def test_an_error_that_was_retried_is_in_no_cycle(fused: bool) -> None:
    """What the frames of the error held is freed at once, without the garbage collector."""
    gc.collect()
    before = Held.alive
    gc.disable()
    try:
        with no_backoff():
            first: Any = Processor(passes, limiter=1)
            pipeline: Any = Producer(range(50)) | first if fused else Producer(range(50))
            policies = [Retry(2), Skip()]
            options: dict[str, Any] = {} if fused else {"limiter": 2}
            await (pipeline | Consumer(fails, on_error=policies, **options)).run(max_errors=0)
        assert Held.alive == before
    finally:
        gc.enable()


async def test_kept_errors_do_not_keep_all_that_their_frames_held() -> None:
    """The first tracebacks are whole; of the later ones only the place of the error is kept."""
    gc.collect()
    Held.peak = before = Held.alive
    report = await (Producer(range(500)) | Consumer(fails, limiter=2, on_error=Skip())).run()
    assert Held.peak - before < 50
    assert report.errors[0].__cause__ is not None
    assert report.errors[0].__cause__.__traceback__ is not None
    assert report.errors[-1].__cause__ is not None
    assert report.errors[-1].__cause__.__traceback__ is None
    assert any("test_between_items.py" in note for note in report.errors[-1].notes)
