"""`Turnstile`: signals from threads."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from testkit.limiters import STEP_BY_STEP
from trio_turnstile import (
    Decision,
    Event,
    Limiter,
    Reason,
    Signal,
    Turnstile,
    open_turnstile,
)
from trio_turnstile._limiting.dispatcher import Dispatcher


@pytest.fixture
def busy_threads() -> Iterator[None]:
    """Make threads switch far more often than by default."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("busy_threads")
async def test_no_signal_of_many_threads_is_lost() -> None:
    """Eight threads post 10,000 signals while tasks run; each gets its decision."""
    threads, each = 8, 1250
    start = threading.Barrier(threads)
    decisions: list[Decision] = []
    done = False

    def post(turnstile: Turnstile, api: Limiter) -> None:
        start.wait()
        orders: list[Callable[[], None]] = [api.up, api.down, turnstile.up, turnstile.down]
        for number in range(each):
            orders[number % 4]()

    async def use(api: Limiter) -> None:
        while not done:
            async with api:
                await trio.lowlevel.checkpoint()

    def observe(event: Event) -> None:
        if isinstance(event, Decision):
            decisions.append(event)

    async with trio.open_nursery() as users, open_turnstile(observers=[observe]) as turnstile:
        api = turnstile.limiter("api", 5, throttle=STEP_BY_STEP)
        for _ in range(20):
            users.start_soon(use, api)
        async with trio.open_nursery() as posters:
            for _ in range(threads):
                posters.start_soon(trio.to_thread.run_sync, post, turnstile, api)
        done = True
        while api.borrowed_tokens or api.statistics().tasks_waiting:
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()
        assert 1 <= api.total_tokens <= 5
    assert len(decisions) == threads * each
    assert sum(d.signal is Signal.UP for d in decisions) == threads * each // 2
    for before, after in pairwise(decisions):
        assert before.after == after.before


@pytest.mark.usefixtures("busy_threads")
async def test_no_pause_of_many_threads_is_lost() -> None:
    """Threads pause and resume while tasks run; in the end all tasks finish."""
    threads, each = 8, 100
    done = 0

    def post(api: Limiter) -> None:
        for _ in range(each):
            api.pause()
            api.resume()

    async def use(api: Limiter) -> None:
        nonlocal done
        for _ in range(50):
            async with api:
                await trio.lowlevel.checkpoint()
        done += 1

    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 5)
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(use, api)
            for _ in range(threads):
                nursery.start_soon(trio.to_thread.run_sync, post, api)
    assert done == 20
    assert sum(d.reason is Reason.PAUSED for d in api.decisions) >= 1
    assert api.decisions[-1].after == 5


@pytest.mark.usefixtures("busy_threads")
async def test_threads_that_post_while_the_turnstile_is_left_get_an_error() -> None:
    """Such threads get `trio.ClosedResourceError` and nothing worse."""
    threads, rounds = 8, threading.Semaphore(0)
    ends: list[str] = []

    def post(turnstile: Turnstile, api: Limiter) -> None:
        try:
            while rounds.acquire():
                for order in (api.up, turnstile.down, api.pause, api.resume):
                    order()
        except trio.ClosedResourceError as closed:
            ends.append(str(closed))

    async with trio.open_nursery() as posters:
        async with open_turnstile() as turnstile:
            api = turnstile.limiter("api", 5)
            for _ in range(threads):
                posters.start_soon(trio.to_thread.run_sync, post, turnstile, api)
            while not api.decisions:
                rounds.release()
                await trio.lowlevel.checkpoint()
            rounds.release(10 * threads)  # and leave while they are at it
        rounds.release(threads)
    assert len(ends) == threads
    assert set(ends) <= {"limiter 'api' is closed", "the turnstile is closed"}


def test_a_thread_that_posts_just_when_the_run_ends_gets_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread found the turnstile open, but the run is over when it posts."""
    looked, go_on = threading.Event(), threading.Event()
    errors: list[BaseException] = []
    check_open = Dispatcher.check_open

    def look_and_dawdle(dispatcher: Dispatcher) -> None:
        check_open(dispatcher)
        looked.set()
        go_on.wait()

    def post(turnstile: Turnstile) -> None:
        try:
            turnstile.up()
        except BaseException as error:
            errors.append(error)

    async def main() -> threading.Thread:
        async with open_turnstile() as turnstile:
            with monkeypatch.context() as patch:
                patch.setattr(Dispatcher, "check_open", look_and_dawdle)
                thread = threading.Thread(target=post, args=[turnstile])
                thread.start()
                await trio.to_thread.run_sync(looked.wait)
            return thread

    thread = trio.run(main)
    go_on.set()
    thread.join()
    assert [type(error) for error in errors] == [trio.ClosedResourceError]


async def test_a_flood_of_signals_does_not_keep_others_from_running() -> None:
    """An observer that answers each decision with a signal does not hang the run."""

    def answer(event: Event) -> None:
        if isinstance(event, Decision) and len(answered) < 1000:
            answered.append(event.time)
            api.up()

    answered: list[float] = []
    seen: list[int] = []
    async with open_turnstile(observers=[answer]) as turnstile:
        api = turnstile.limiter("api", 5)
        api.up()
        while len(answered) < 1000:
            await trio.lowlevel.checkpoint()
            seen.append(len(answered))
    assert len(set(seen)) > 10
