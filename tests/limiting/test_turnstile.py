"""`open_turnstile`: one writer, signals from anywhere, monitors, and a clean end."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_turnstile import (
    Decision,
    Event,
    Limiter,
    LimiterClosed,
    LimiterOpened,
    Reason,
    Signal,
    SignalChannel,
    Throttle,
    Turnstile,
    open_turnstile,
)

FREELY = Throttle(up=1, down=1, hold=0)


async def forever(_: SignalChannel) -> None:
    await trio.sleep_forever()


# ---- limiters and their names ----


async def test_its_limiters_are_to_be_had_by_name() -> None:
    """In a live view that cannot be written; closed ones are left out."""
    async with open_turnstile() as turnstile:
        limiters = turnstile.limiters
        assert not limiters
        api = turnstile.limiter("api", 10)
        db = turnstile.limiter("db", 40)
        assert dict(limiters) == {"api": api, "db": db}
        db.close()
        assert list(limiters) == ["api"]
        with pytest.raises(TypeError):
            limiters["db"] = db  # type: ignore[index]


async def test_the_options_of_a_limiter_are_passed_on() -> None:
    """``turnstile.limiter`` takes what `Limiter` takes."""
    rules = Throttle(min=3)
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 5, throttle=rules, max_waiting=0)
        assert (api.ceiling, api.minimum) == (5, 3)
        with pytest.raises(ValueError, match=r"throttle\.min must not be over the ceiling"):
            turnstile.limiter("bad", 2, throttle=rules)
        assert list(turnstile.limiters) == ["api"]


async def test_a_name_that_is_taken_gets_a_number() -> None:
    """The first that is free; the name of a closed limiter is free again."""
    async with open_turnstile() as turnstile:
        names = [turnstile.limiter(name, 5).name for name in ("api", "api", "api-2", "api")]
        assert names == ["api", "api-2", "api-2-2", "api-3"]
        assert list(turnstile.limiters) == names
        turnstile.limiters["api-2"].close()
        assert turnstile.limiter("api", 5).name == "api-2"


async def test_a_limiter_made_elsewhere_can_join() -> None:
    """With its holders and waiters, and by the name that is free here."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        turnstile.limiter("api", 5)
        api = Limiter("api", 1, throttle=FREELY)
        api.acquire_on_behalf_of_nowait("holder")
        nursery.start_soon(api.acquire_on_behalf_of, "waiter")
        await wait_all_tasks_blocked()
        assert turnstile.add(api) is api
        assert api.name == api.statistics().name == "api-2"
        api.total_tokens = 2
        await wait_all_tasks_blocked()
        turnstile.down("api-2")
        await wait_all_tasks_blocked()
        assert (api.total_tokens, api.borrowed_tokens) == (1, 2)


async def test_a_limiter_joins_one_turnstile_once() -> None:
    """A second home would be a second writer."""
    async with open_turnstile() as one, open_turnstile() as two:
        api = one.limiter("api", 5)
        for turnstile in (one, two):
            with pytest.raises(RuntimeError, match="limiter 'api' is in a turnstile already"):
                turnstile.add(api)
        assert not two.limiters


async def test_a_closed_limiter_cannot_join() -> None:
    """Nor one that was closed with another turnstile."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 5)
    async with open_turnstile() as turnstile:
        with pytest.raises(trio.ClosedResourceError, match="limiter 'api' is closed"):
            turnstile.add(api)
        assert not turnstile.limiters


async def test_adding_from_a_foreign_thread_changes_nothing() -> None:
    """It is refused, and the limiter can still join."""
    api = Limiter("api", 5)
    async with open_turnstile() as turnstile:
        turnstile.limiter("api", 5)
        with pytest.raises(RuntimeError):
            await trio.to_thread.run_sync(turnstile.add, api)
        assert api.name == "api"
        assert turnstile.add(api).name == "api-2"


async def test_its_repr_names_its_limiters() -> None:
    """Those that are open."""
    async with open_turnstile() as turnstile:
        assert repr(turnstile) == "<trio_turnstile.Turnstile of no limiters>"
        turnstile.limiter("api", 5)
        turnstile.limiter("db", 5)
        assert repr(turnstile) == "<trio_turnstile.Turnstile of api, db>"


# ---- signals ----


async def test_a_signal_goes_to_one_limiter_or_to_all() -> None:
    """By name, or without one."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10, throttle=FREELY)
        db = turnstile.limiter("db", 40, throttle=FREELY)
        turnstile.down()
        await wait_all_tasks_blocked()
        assert (api.total_tokens, db.total_tokens) == (9, 39)
        turnstile.down("db")
        turnstile.up("api")
        await wait_all_tasks_blocked()
        assert (api.total_tokens, db.total_tokens) == (10, 38)


async def test_a_signal_to_a_name_that_is_unknown_is_an_error() -> None:
    """It says which names there are."""
    async with open_turnstile() as turnstile:
        with pytest.raises(KeyError, match="no limiter is named 'ap'; there are: none"):
            turnstile.up("ap")
        turnstile.limiter("api", 10)
        turnstile.limiter("db", 10)
        with pytest.raises(KeyError, match="no limiter is named 'ap'; there are: api, db"):
            turnstile.down("ap")


async def test_a_signal_to_a_limiter_that_is_closed_meanwhile_is_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It was posted while the name was known; the turnstile logs that, and lives on."""
    async with open_turnstile() as turnstile:
        api, db = turnstile.limiter("api", 10), turnstile.limiter("db", 10)
        turnstile.down("api")
        api.close()
        turnstile.down()
        await wait_all_tasks_blocked()
        assert db.total_tokens == 8
    assert [record.message for record in caplog.records] == [
        "signal down dropped: no limiter is named 'api'; there are: db"
    ]


async def test_signals_can_be_sent_on_a_channel(caplog: pytest.LogCaptureFixture) -> None:
    """For one or for all; a bad name is logged, and the turnstile stays alive."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10, throttle=FREELY)
        db = turnstile.limiter("db", 10, throttle=FREELY)
        await turnstile.signals.send((None, Signal.DOWN))
        await turnstile.signals.send(("nowhere", Signal.UP))
        await turnstile.signals.send(("db", Signal.DOWN))
        await wait_all_tasks_blocked()
        assert (api.total_tokens, db.total_tokens) == (9, 8)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("trio_turnstile.turnstile", logging.WARNING)
    assert record.message == "signal up dropped: no limiter is named 'nowhere'; there are: api, db"


async def test_a_thread_may_send_on_the_channel() -> None:
    """By ``trio.from_thread``, as on any channel."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10)
        await trio.to_thread.run_sync(
            trio.from_thread.run, turnstile.signals.send, ("api", Signal.DOWN)
        )
        await wait_all_tasks_blocked()
        assert api.total_tokens == 8


async def test_the_channel_is_closed_with_the_turnstile() -> None:
    """A sender that comes too late is told, also one with a clone of its own."""
    async with open_turnstile() as turnstile:
        signals, clone = turnstile.signals, turnstile.signals.clone()
    with pytest.raises(trio.ClosedResourceError):
        signals.send_nowait((None, Signal.UP))
    with clone, pytest.raises(trio.BrokenResourceError):
        clone.send_nowait((None, Signal.UP))


async def test_limiters_do_not_hold_each_other(autojump_clock: MockClock) -> None:
    """Each has a hold of its own, and a pause of its own that ends on time."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10, throttle=Throttle(hold=10))
        db = turnstile.limiter("db", 10, throttle=Throttle(hold=10))
        api.pause(3)
        db.pause(5)
        await trio.sleep(4)
        assert (api.total_tokens, db.total_tokens) == (10, 0)
        await trio.sleep(2)
        assert db.total_tokens == 10
        api.down()
        await trio.sleep(5)
        db.down()
        await trio.sleep(5)
        turnstile.up()
        await trio.sleep(0.1)
        assert (api.total_tokens, db.total_tokens) == (9, 8)


async def test_a_limiter_may_be_closed_while_the_pauses_of_others_end(
    autojump_clock: MockClock,
) -> None:
    """By an observer, when several pauses end in the same instant."""

    def close_the_others(event: Event) -> None:
        if isinstance(event, Decision) and event.reason is Reason.RESUMED:
            for name, limiter in tuple(turnstile.limiters.items()):
                if name != event.limiter:
                    limiter.close()

    async with open_turnstile(observers=[close_the_others]) as turnstile:
        limiters = [turnstile.limiter("api", 10) for _ in range(3)]
        for limiter in limiters:
            limiter.pause(5)
        await trio.sleep(6)
        assert [limiter.statistics().closed for limiter in limiters] == [False, True, True]
        assert limiters[0].total_tokens == 10


# ---- signals from threads ----


@pytest.fixture
def busy_threads() -> Iterator[None]:
    """Let threads take turns far more often than they do by default."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("busy_threads")
async def test_no_signal_of_many_threads_is_lost() -> None:
    """Eight threads post ten thousand in all while tasks run: each gets its decision."""
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
        api = turnstile.limiter("api", 5, throttle=FREELY)
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
    """Threads pause and resume while tasks run; in the end everything goes on."""
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
async def test_threads_that_post_while_the_turnstile_is_left_are_told_it_is_closed() -> None:
    """`trio.ClosedResourceError` is the worst that they get."""
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
    assert set(ends) <= {"limiter 'api' is closed", "the turnstile was left"}


def test_a_thread_that_posts_just_when_the_run_ends_is_told_it_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It saw the turnstile open, and when it comes to post the whole run is over."""
    looked, go_on = threading.Event(), threading.Event()
    errors: list[BaseException] = []
    check_open = Turnstile._check_open

    def look_and_dawdle(turnstile: Turnstile) -> None:
        check_open(turnstile)
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
                patch.setattr(Turnstile, "_check_open", look_and_dawdle)
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


# ---- monitors ----


async def test_a_monitor_sends_signals_until_the_turnstile_is_left(
    autojump_clock: MockClock,
) -> None:
    """It is called with a channel, and cancelled at the end."""
    ended = False

    async def alarm(signals: SignalChannel) -> None:
        nonlocal ended
        try:
            while True:
                await trio.sleep(60)
                await signals.send((None, Signal.DOWN))
        finally:
            ended = True

    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10)
        turnstile.watch(alarm)
        await trio.sleep(150)
        assert api.total_tokens == 6
    assert ended


async def test_a_monitor_may_end_and_may_close_its_channel() -> None:
    """Each has a channel of its own, so that neither ends the others."""

    async def once(signals: SignalChannel) -> None:
        async with signals:
            await signals.send((None, Signal.DOWN))

    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10, throttle=FREELY)
        for _ in range(3):
            turnstile.watch(once)
        await wait_all_tasks_blocked()
        turnstile.watch(once)
        await wait_all_tasks_blocked()
        assert api.total_tokens == 6


async def test_leaving_while_a_monitor_sends_is_no_error() -> None:
    """A monitor that is blocked in a send is cancelled like any other."""

    async def noisy(signals: SignalChannel) -> None:
        while True:
            await signals.send((None, Signal.UP))

    async with open_turnstile() as turnstile:
        turnstile.watch(noisy)
        await trio.lowlevel.checkpoint()


async def test_leaving_before_a_monitor_has_begun_is_no_error() -> None:
    """It is begun, cancelled, and still has a channel to send on."""
    begun = False

    async def late(signals: SignalChannel) -> None:
        nonlocal begun
        begun = True
        signals.send_nowait((None, Signal.UP))
        await trio.lowlevel.checkpoint()

    async with open_turnstile() as turnstile:
        turnstile.watch(late)
    assert begun


async def test_leaving_while_a_monitor_watches_is_no_error() -> None:
    """Its end of the channel is still open then."""
    async with open_turnstile() as turnstile:
        turnstile.watch(forever)
        await wait_all_tasks_blocked()


async def test_a_last_signal_of_a_cancelled_monitor_is_no_error() -> None:
    """It comes too late to be acted on, or just in time."""

    async def parting(signals: SignalChannel) -> None:
        try:
            await trio.sleep_forever()
        finally:
            signals.send_nowait((None, Signal.UP))

    async with open_turnstile() as turnstile:
        turnstile.watch(parting)
        await wait_all_tasks_blocked()


async def test_a_monitor_that_raises_ends_the_turnstile(autojump_clock: MockClock) -> None:
    """The body is cancelled, and the error comes out in a group; limiters are closed."""
    cancelled = False

    async def broken(_: SignalChannel) -> None:
        await trio.sleep(1)
        raise OSError("no such sensor")

    with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="no such sensor")):
        async with open_turnstile() as turnstile:
            api = turnstile.limiter("api", 5)
            turnstile.watch(broken)
            try:
                await trio.sleep_forever()
            finally:
                cancelled = trio.current_time() >= 1
    assert cancelled
    assert api.statistics().closed


async def test_errors_of_body_and_monitor_come_out_together(autojump_clock: MockClock) -> None:
    """Neither hides the other."""

    async def broken(_: SignalChannel) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("no such sensor")

    with pytest.RaisesGroup(OSError, KeyError):
        async with open_turnstile() as turnstile:
            turnstile.watch(broken)
            await trio.sleep(1)
            raise KeyError


async def test_no_monitor_is_begun_once_the_turnstile_was_left() -> None:
    """Nor anything else that would need it."""
    async with open_turnstile() as turnstile:
        pass
    for late in (
        lambda: turnstile.watch(forever),
        lambda: turnstile.limiter("api", 5),
        lambda: turnstile.add(Limiter("api", 5)),
        turnstile.up,
        turnstile.down,
    ):
        with pytest.raises(trio.ClosedResourceError, match="the turnstile was left"):
            late()


# ---- the end ----


class Stopped(BaseException):
    """An exception that is no `Exception`."""


@pytest.mark.parametrize(
    "error",
    [
        KeyError("k"),
        Stopped(),
        KeyboardInterrupt(),
        StopIteration(),
        ExceptionGroup("of the body", [ValueError()]),
        BaseExceptionGroup("of the body", [Stopped()]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_the_body_raises_comes_out_as_it_is(error: BaseException) -> None:
    """The very object, in no group, with nothing chained to it."""
    with pytest.raises(type(error)) as caught:
        async with open_turnstile() as turnstile:
            turnstile.limiter("api", 5)
            raise error
    assert caught.value is error
    assert error.__cause__ is None
    assert error.__context__ is None


async def test_a_scope_round_the_turnstile_or_in_its_body_cancels_as_ever(
    autojump_clock: MockClock,
) -> None:
    """A scope round the turnstile, or round the body, is left as without it."""
    with trio.move_on_after(1) as outside:
        async with open_turnstile() as turnstile:
            turnstile.watch(forever)
            await trio.sleep_forever()
    assert outside.cancelled_caught
    async with open_turnstile():
        with trio.move_on_after(1) as inside:
            await trio.sleep_forever()
    assert inside.cancelled_caught


async def test_on_leaving_limiters_are_closed_and_holders_finish() -> None:
    """Waiters are told; the holder gives back its token long after."""

    async def wait(api: Limiter) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await api.acquire()

    async with trio.open_nursery() as nursery, open_turnstile() as turnstile:
        api = turnstile.limiter("api", 1)
        api.acquire_on_behalf_of_nowait("holder")
        nursery.start_soon(wait, api)
        await wait_all_tasks_blocked()
    assert not turnstile.limiters
    assert api.statistics().borrowers == ["holder"]
    api.release_on_behalf_of("holder")
    with pytest.raises(trio.ClosedResourceError, match="limiter 'api' is closed"):
        api.up()


async def test_what_was_posted_before_leaving_is_done() -> None:
    """The last signal is decided on, and told, before the limiter is closed."""
    events: list[Event] = []
    async with open_turnstile(observers=[events.append]) as turnstile:
        turnstile.limiter("api", 5).down()
    assert [type(event) for event in events] == [LimiterOpened, Decision, LimiterClosed]


async def test_turnstiles_may_be_nested_and_follow_one_another() -> None:
    """They share nothing, names least of all."""
    async with open_turnstile() as outer:
        first = outer.limiter("api", 5)
        for _ in range(2):
            async with open_turnstile() as inner:
                second = inner.limiter("api", 5)
                assert second.name == "api"
                inner.down()
                await wait_all_tasks_blocked()
                assert (first.total_tokens, second.total_tokens) == (5, 3)
            assert second.statistics().closed
        assert not first.statistics().closed
