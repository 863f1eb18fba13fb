"""Limiters that are given as bare numbers belong to the turnstile of their run."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from testkit.limiters import STEP_BY_STEP
from trio_turnstile import (
    Consumer,
    Event,
    LimiterClosed,
    LimiterOpened,
    Processor,
    Producer,
    Reason,
    Release,
    Scalable,
    SetLimit,
    Signal,
    open_turnstile,
    start_phases,
)


class Operation(Scalable):
    async def work(self, channels: object) -> None:
        await trio.sleep(3600)


async def fetch(number: int) -> int:
    await trio.sleep(3600)
    return number


async def store(number: int) -> None:
    await trio.lowlevel.checkpoint()


async def test_the_limiter_of_a_step_can_be_moved_while_the_run_goes_on() -> None:
    """The limiter has the name of the step, and observers see it. At the end it is gone."""
    heard: list[Event] = []
    async with open_turnstile() as turnstile:
        db = turnstile.limiter("db", 1)
        turnstile.observe(heard.append)
        pipeline = Producer(range(9)) | Processor(fetch, limiter=2) | Consumer(store, limiter=db)
        async with pipeline.start() as run:
            await wait_all_tasks_blocked()
            assert list(turnstile.limiters) == ["db", "fetch"]
            assert turnstile.limiters["fetch"].borrowed_tokens == 2
            await turnstile.ask("fetch", SetLimit(5), by="ann")
            await wait_all_tasks_blocked()
            assert turnstile.limiters["fetch"].borrowed_tokens == 5
            assert run.steps[0].in_flight >= 5
            run.cancel()
        assert list(turnstile.limiters) == ["db"]
        ends = [event for event in heard if isinstance(event, LimiterOpened | LimiterClosed)]
        assert [(type(end), end.limiter) for end in ends] == [
            (LimiterOpened, "fetch"),
            (LimiterClosed, "fetch"),
        ]


async def test_the_next_run_begins_with_the_number() -> None:
    """Whatever signals did to the limit in the run before does not matter."""
    async with open_turnstile() as turnstile:
        db = turnstile.limiter("db", 1)
        pipeline = Producer(range(9)) | Processor(fetch, limiter=4) | Consumer(store, limiter=db)
        for _ in range(2):
            async with pipeline.start() as run:
                limiter = turnstile.limiters["fetch"]
                assert (limiter.total_tokens, limiter.ceiling) == (4, 4)
                limiter.total_tokens = 7
                limiter.pause()
                assert (await turnstile.ask("fetch", Signal.DOWN)).reason is Reason.HOLDING
                run.cancel()


async def test_an_override_is_there_again_in_the_next_run() -> None:
    """The override stays until somebody releases it, although the limiter itself comes and goes."""
    async with open_turnstile() as turnstile:
        db = turnstile.limiter("db", 1)
        pipeline = Producer(range(9)) | Processor(fetch, limiter=4) | Consumer(store, limiter=db)
        async with pipeline.start() as run:
            await turnstile.ask("fetch", SetLimit(2), by="ann")
            run.cancel()
        async with pipeline.start() as run:
            assert turnstile.limiters["fetch"].total_tokens == 2
            await turnstile.ask("fetch", Release())
            run.cancel()
        async with pipeline.start() as run:
            assert turnstile.limiters["fetch"].total_tokens == 4
            run.cancel()


async def test_two_runs_of_a_pipeline_share_its_limiter() -> None:
    """The limiter of two runs of one pipeline exists until both runs have ended."""
    async with open_turnstile() as turnstile:
        db = turnstile.limiter("db", 1)
        pipeline = Producer(range(9)) | Processor(fetch, limiter=4) | Consumer(store, limiter=db)
        async with pipeline.start() as one:
            async with pipeline.start() as two:
                assert list(turnstile.limiters) == ["db", "fetch"]
                two.cancel()
            assert list(turnstile.limiters) == ["db", "fetch"]
            one.cancel()
        assert list(turnstile.limiters) == ["db"]


async def test_a_limiter_is_in_one_turnstile_at_a_time() -> None:
    """The limiter stays in the turnstile of the first run, and the next run uses it there."""
    fetching = Processor(fetch, limiter=4)
    async with open_turnstile() as one, open_turnstile() as other:
        first = Producer(range(9)) | fetching | Consumer(store, limiter=one.limiter("db", 1))
        second = Producer(range(9)) | fetching | Consumer(store, limiter=other.limiter("db", 1))
        async with first.start() as run, second.start() as another:
            assert (list(one.limiters), list(other.limiters)) == (["db", "fetch"], ["db"])
            assert list(one.runs) == ["pipeline", "pipeline-2"]
            run.cancel()
            another.cancel()


async def test_steps_of_one_name_have_limiters_of_two_names() -> None:
    """The limiters of steps with one name have the names in the report of the run."""
    async with open_turnstile() as turnstile:
        db = turnstile.limiter("db", 1)
        fetching = Producer(range(9)) | Processor(fetch, limiter=4) | Processor(fetch, limiter=3)
        async with (fetching | Consumer(store, limiter=db)).start() as run:
            assert list(turnstile.limiters) == ["db", "fetch", "fetch-2"]
            assert [step.name for step in run.steps] == ["fetch", "fetch-2", "store"]
            run.cancel()


async def test_those_of_phases_are_called_after_the_phases() -> None:
    """One phase may have a number while the other has a limiter of a turnstile."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 1)
        operations = [Operation()]
        async with start_phases(operations, limiter=2, prepare_limiter=api) as run:
            assert list(turnstile.limiters) == ["api", "work"]
            assert turnstile.limiters["work"] is run.limiter
            run.cancel()
        async with start_phases(operations, limiter=api, prepare_limiter=2) as run:
            assert list(turnstile.limiters) == ["api", "prepare"]
            run.cancel()
        async with start_phases(operations, limiter=2, prepare_limiter=2) as run:
            assert list(turnstile.limiters) == ["api"]
            run.cancel()


async def test_a_limiter_that_somebody_closes_stays_closed() -> None:
    """The run and later ones find it closed; the turnstile has nothing more to do with it."""
    async with open_turnstile() as turnstile:
        db = turnstile.limiter("db", 1)
        pipeline = Producer(range(9)) | Processor(fetch, limiter=2) | Consumer(store, limiter=db)
        for _ in range(2):
            with pytest.RaisesGroup(Exception):
                async with pipeline.start():
                    for name in set(turnstile.limiters) - {"db"}:
                        turnstile.limiters[name].close()
                    await trio.sleep(3600)
        assert list(turnstile.limiters) == ["db"]


async def test_a_run_that_outlives_the_turnstile_has_its_limiter_back() -> None:
    """The limiter is not closed with those of the turnstile, and the pipeline can run again."""
    items, receive = trio.open_memory_channel[int](0)
    fetching = Processor(fetch, limiter=2)
    async with trio.open_nursery() as nursery:
        async with open_turnstile() as turnstile:
            db = turnstile.limiter("db", 1, throttle=STEP_BY_STEP)
            run = await nursery.start(
                (Producer(receive) | fetching | Consumer(store, limiter=db)).run
            )
            assert list(turnstile.limiters) == ["db", "fetch"]
        assert not turnstile.limiters
        items.close()
    assert run.state == "ended"
    async with (Producer(range(9)) | fetching | Consumer(store)).start() as again:
        await wait_all_tasks_blocked()
        assert again.state == "running"
        again.cancel()


async def test_a_signal_to_all_leaves_one_token() -> None:
    """Nobody meant to stop the step, since nobody named it, and nobody would raise it again."""
    async with open_turnstile() as turnstile:
        db = turnstile.limiter("db", 1)
        pipeline = Producer(range(9)) | Processor(fetch, limiter=2) | Consumer(store, limiter=db)
        async with pipeline.start() as run:
            turnstile.down()
            await wait_all_tasks_blocked()
            assert turnstile.limiters["fetch"].total_tokens == 1
            run.cancel()
