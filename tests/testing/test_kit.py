"""The kit for users' own tests: probes, single steps, and `assert_conserved`."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from testkit.pipelines import into
from trio_turnstile import (
    DISCARD,
    Aborted,
    Batch,
    Consumer,
    Many,
    Processor,
    Producer,
    Retry,
    Skip,
)
from trio_turnstile.testing import (
    ProbeSink,
    ProbeSource,
    assert_conserved,
    no_backoff,
    run_one,
)


async def double(number: int) -> int:
    await trio.lowlevel.checkpoint()
    return 2 * number


async def test_a_probe_source_shows_what_is_asked_for() -> None:
    """A probe source gives what the test gives it, and shows when more is wanted."""
    source, sink = ProbeSource[int](), ProbeSink[int]()
    async with trio.open_nursery() as nursery:
        run = await nursery.start((Producer(source) | Consumer(sink, limiter=1)).run)
        await source.wait_asked()
        assert source.asked == 1
        source.give(1)
        await wait_all_tasks_blocked()
        assert (sink.offered, source.asked) == (1, 2)  # one item is read ahead, and no more
        source.give(2)
        await wait_all_tasks_blocked()
        assert (sink.offered, source.asked) == (1, 2)
        assert await sink.receive() == 1
        assert await sink.receive() == 2
        await source.wait_asked()
        assert source.asked == 3
        source.end()
    assert run.steps[0].completed == 2


async def test_a_probe_source_is_waited_for_until_it_is_asked() -> None:
    """`wait_asked` returns when the source is asked, and not before."""
    source, stored = ProbeSource[int](), ProbeSink[int]()
    heard: list[int] = []

    async def wait() -> None:
        await source.wait_asked()
        heard.append(source.asked)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert heard == []
        await nursery.start((Producer(source) | Consumer(stored)).run)
        await wait_all_tasks_blocked()
        assert heard == [1]
        source.end()


async def test_a_probe_source_may_give_in_advance_and_fail() -> None:
    """A probe source keeps what it is given in advance, and raises errors in turn."""
    source = ProbeSource[int]()
    source.give(1)
    source.fail(OSError("broken"))
    stored: list[int] = []

    with pytest.raises(Aborted) as caught:
        await (Producer(source) | Consumer(into(stored))).run()
    assert isinstance(caught.value.exceptions[0].__cause__, OSError)
    assert stored == [1]


async def test_a_probe_sink_takes_when_told(autojump_clock: MockClock) -> None:
    """A probe sink takes or refuses when told, and forgets cancelled items."""
    sink = ProbeSink[int]()
    async with trio.open_nursery() as nursery:
        run = await nursery.start(
            (
                Producer([1, 2, 3])
                | Consumer(
                    sink, limiter=1, timeout=5, on_error=[Skip(on=(OSError, trio.TooSlowError))]
                )
            ).run
        )
        assert await sink.refuse(OSError("no")) == 1
        await trio.sleep(6)
        assert await sink.receive() == 3
        assert sink.offered == 0
    assert_conserved(run)
    assert (run.steps[0].completed, run.steps[0].failed) == (1, 2)


async def test_run_one_returns_what_comes_out(autojump_clock: MockClock) -> None:
    """`run_one` runs one item through a step, or several joined ones."""

    async def spread(number: int) -> Many[int]:
        await trio.lowlevel.checkpoint()
        return Many(range(number))

    async def drop(number: int) -> Any:
        await trio.lowlevel.checkpoint()
        return DISCARD

    assert await run_one(Processor(double), 2) == [4]
    assert await run_one(Processor(double) | Processor(spread), 2) == [0, 1, 2, 3]
    assert await run_one(Processor(drop), 2) == []


async def test_run_one_waits_for_no_batch(autojump_clock: MockClock) -> None:
    """`run_one` gives a batching consumer its item at once, in a batch of one."""
    batches: list[list[int]] = []

    async def store(numbers: list[int]) -> None:
        await trio.lowlevel.checkpoint()
        batches.append(numbers)

    step = Processor(double) | Consumer(store, batch=Batch(100, within=60))
    assert await run_one(step, 5) == []
    assert batches == [[10]]
    assert trio.current_time() == 0


async def test_run_one_raises_what_the_item_raised() -> None:
    """`run_one` raises the error of its item, unless the policies handle it."""

    async def fail(number: int) -> int:
        raise OSError

    for step in (Processor(fail), Consumer(fail)):
        with pytest.raises(Aborted):
            await run_one(step, 1)
    assert await run_one(Processor(fail, on_error=[Skip()]), 1) == []
    with no_backoff():
        assert await run_one(Processor(fail, on_error=[Retry(3), Skip()]), 1) == []


async def test_assert_conserved_shows_the_figures() -> None:
    """`assert_conserved` fails if the books do not balance, and shows the figures."""
    report = await (Producer([1]) | Processor(double) | Consumer(double)).run()
    assert_conserved(report)
    wrong = attrs.evolve(report.steps[1], received=2)
    for account in (wrong, attrs.evolve(report, steps=(report.steps[0], wrong))):
        with pytest.raises(AssertionError, match=r"received 2, but completed 1 .* = 1"):
            assert_conserved(account)
