"""`Turnstile`: signals to one limiter or to all."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from testkit.limiters import STEP_BY_STEP
from trio_turnstile import (
    Decision,
    Event,
    Reason,
    Signal,
    Throttle,
    open_turnstile,
)


async def test_a_signal_goes_to_one_limiter_or_to_all() -> None:
    """A signal goes to one limiter by its name, or to all without a name."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10, throttle=STEP_BY_STEP)
        db = turnstile.limiter("db", 40, throttle=STEP_BY_STEP)
        turnstile.down()
        await wait_all_tasks_blocked()
        assert (api.total_tokens, db.total_tokens) == (9, 39)
        turnstile.down("db")
        turnstile.up("api")
        await wait_all_tasks_blocked()
        assert (api.total_tokens, db.total_tokens) == (10, 38)


async def test_a_signal_to_a_name_that_is_unknown_is_an_error() -> None:
    """The error for an unknown name lists the names that exist."""
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
    """The limiter was open when it was posted; the turnstile logs that and goes on."""
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


@pytest.mark.parametrize("signal", ["down", None, ("api", Signal.DOWN)])
async def test_what_is_no_signal_is_refused(signal: object) -> None:
    """The error names the value and says what to pass."""
    async with open_turnstile() as turnstile:
        with pytest.raises(TypeError) as caught:
            turnstile.signal(signal)  # type: ignore[arg-type]
    assert str(caught.value) == f"signal must be Signal.UP or Signal.DOWN, not {signal!r}"


async def test_limiters_do_not_hold_each_other(autojump_clock: MockClock) -> None:
    """Each limiter has a hold and a pause of its own."""
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
    """An observer closes it when several pauses end at the same time."""

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
