"""`Turnstile.watch`: watchers run until the turnstile is left."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from testkit.limiters import STEP_BY_STEP
from trio_turnstile import (
    Limiter,
    Signal,
    Throttle,
    Turnstile,
    alarm,
    cpu_alarm,
    open_turnstile,
)


async def forever(_: Turnstile) -> None:
    await trio.sleep_forever()


async def test_a_watcher_sends_signals_until_the_turnstile_is_left(
    autojump_clock: MockClock,
) -> None:
    """The watcher is called with the turnstile, and is cancelled at the end."""
    ended = False

    async def watcher(turnstile: Turnstile) -> None:
        nonlocal ended
        try:
            while True:
                await trio.sleep(60)
                turnstile.down()
        finally:
            ended = True

    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10)
        turnstile.watch(watcher)
        await trio.sleep(150)
        assert api.total_tokens == 6
    assert ended


async def test_a_watcher_may_signal_one_limiter_in_any_way() -> None:
    """A watcher may call ``up``, ``down`` or ``signal``, with a name or without."""

    async def watcher(turnstile: Turnstile) -> None:
        turnstile.down("api")
        turnstile.down()
        turnstile.up("db")
        turnstile.signal(Signal.DOWN, "api")

    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10, throttle=STEP_BY_STEP)
        db = turnstile.limiter("db", 10, throttle=STEP_BY_STEP)
        turnstile.watch(watcher)
        await wait_all_tasks_blocked()
        assert (api.total_tokens, db.total_tokens) == (7, 10)


async def test_a_watcher_may_end_before_the_others() -> None:
    """The others go on, and more watchers can be started."""

    async def once(turnstile: Turnstile) -> None:
        turnstile.down()

    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10, throttle=STEP_BY_STEP)
        for _ in range(3):
            turnstile.watch(once)
        await wait_all_tasks_blocked()
        turnstile.watch(once)
        await wait_all_tasks_blocked()
        assert api.total_tokens == 6


async def test_leaving_while_a_watcher_floods_the_turnstile_is_no_error() -> None:
    """A watcher that never stops sending is cancelled like any other."""

    async def noisy(turnstile: Turnstile) -> None:
        while True:
            turnstile.up()
            await trio.lowlevel.checkpoint()

    async with open_turnstile() as turnstile:
        turnstile.watch(noisy)
        await trio.lowlevel.checkpoint()


async def test_leaving_before_a_watcher_has_begun_is_no_error() -> None:
    """The watcher begins, is cancelled at its first checkpoint, and may signal until then."""
    begun = False

    async def late(turnstile: Turnstile) -> None:
        nonlocal begun
        begun = True
        turnstile.up()
        await trio.lowlevel.checkpoint()

    async with open_turnstile() as turnstile:
        turnstile.watch(late)
    assert begun


async def test_the_last_signal_of_a_cancelled_watcher_is_acted_on() -> None:
    """A signal to a named limiter counts too, since limiters are closed after the watchers end."""

    async def parting(turnstile: Turnstile) -> None:
        try:
            await trio.sleep_forever()
        finally:
            turnstile.down("api")

    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10)
        turnstile.watch(parting)
        await wait_all_tasks_blocked()
    assert [decision.after for decision in api.decisions] == [8]
    assert api.statistics().closed


async def test_a_watcher_that_raises_ends_the_turnstile(autojump_clock: MockClock) -> None:
    """The body is cancelled, the error comes out in a group, and limiters are closed."""
    cancelled = False

    async def broken(_: Turnstile) -> None:
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


async def test_errors_of_body_and_watcher_come_out_together(autojump_clock: MockClock) -> None:
    """Errors of body and watcher come out in one group, so neither hides the other."""

    async def broken(_: Turnstile) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("no such sensor")

    with pytest.RaisesGroup(OSError, KeyError):
        async with open_turnstile() as turnstile:
            turnstile.watch(broken)
            await trio.sleep(1)
            raise KeyError


async def test_a_turnstile_that_was_left_refuses_everything() -> None:
    """Watchers, limiters and signals get `trio.ClosedResourceError`."""
    async with open_turnstile() as turnstile:
        pass
    for late in (
        lambda: turnstile.watch(forever),
        lambda: turnstile.limiter("api", 5),
        lambda: turnstile.add(Limiter("api", 5)),
        lambda: turnstile.signal(Signal.UP),
        turnstile.up,
        turnstile.down,
    ):
        with pytest.raises(trio.ClosedResourceError, match="the turnstile is closed"):
            late()


@pytest.mark.parametrize(
    ("watcher", "message"),
    [
        (cpu_alarm, "not <function cpu_alarm .*: too many positional .*; if it makes a watcher"),
        (alarm, "not <function alarm .*: missing a required .*; if it makes a watcher, call"),
        (5, "a watcher is an async function of the turnstile, not 5"),
        (type, "(?i)trio (was )?expect(ed|ing) an async function"),
    ],
)
async def test_what_is_no_watcher_is_named_where_it_is_given(watcher: object, message: str) -> None:
    """An alarm that is passed without being called is an example."""
    async with open_turnstile() as turnstile:
        with pytest.raises(TypeError, match=message):
            turnstile.watch(watcher)  # type: ignore[arg-type]


async def test_a_watcher_may_be_a_method_or_a_partial() -> None:
    """A watcher is anything that can be called with the turnstile."""

    class Sensor:
        async def __call__(self, turnstile: Turnstile) -> None:
            turnstile.down()

        async def watch(self, turnstile: Turnstile, *, name: str | None = None) -> None:
            turnstile.down(name)

    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10, throttle=Throttle(down=1, hold=0))
        turnstile.watch(Sensor())
        turnstile.watch(Sensor().watch)
        turnstile.watch(partial(Sensor().watch, name="api"))
        await wait_all_tasks_blocked()
        assert api.total_tokens == 7
