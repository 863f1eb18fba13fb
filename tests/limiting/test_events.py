"""Events: what they contain, and how observers get them; a bad observer does no harm."""

from __future__ import annotations

import logging
import pickle

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_turnstile import (
    Decision,
    Event,
    LimiterClosed,
    LimiterOpened,
    Reason,
    Signal,
    Snapshot,
    Throttle,
    log_decisions,
    open_turnstile,
)

CHANGE = Decision("api", 1.0, Signal.DOWN, 10, 8, Reason.SIGNAL, {"cap": 8})
REFUSAL = Decision("api", 2.0, Signal.UP, 8, 8, Reason.HOLDING, {"hold_left": 3.0})
OTHERS = (
    Snapshot("api", 2.0, 10, 3, 0),
    LimiterOpened("api", 0.0, 10),
    LimiterClosed("api", 9.0),
)


def test_only_refusals_are_refusals() -> None:
    """Refusals come from a rule, an override or shadow mode, or if nothing would change."""
    refusals = {reason for reason in Reason if reason.refusal}
    assert refusals == {
        Reason.HOLDING,
        Reason.AT_CEILING,
        Reason.AT_MINIMUM,
        Reason.OVERRIDDEN,
        Reason.UNCHANGED,
        Reason.SHADOW,
    }


def test_a_decision_says_whether_it_was_applied() -> None:
    """A refused change was not applied."""
    assert CHANGE.applied
    assert not REFUSAL.applied


@pytest.mark.parametrize("event", [CHANGE, *OTHERS], ids=lambda e: type(e).__name__)
def test_events_are_frozen_values(event: Event) -> None:
    """An event can be compared, hashed and pickled, but not changed."""
    copy = pickle.loads(pickle.dumps(event))
    assert copy == event
    assert hash(copy) == hash(event)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.limiter = "other"  # type: ignore[misc]


async def test_observers_get_every_event_in_order(autojump_clock: MockClock) -> None:
    """Every observer gets opening, samples, decisions and closing, with trio's time."""
    one: list[Event] = []
    two: list[Event] = []
    async with open_turnstile(observers=[one.append, two.append], sample_every=1) as turnstile:
        api = turnstile.limiter("api", 10)
        await trio.sleep(0.5)
        api.down()
        await trio.sleep(1)
    start = one[0].time
    assert one == [
        LimiterOpened("api", start, 10),
        Decision("api", start + 0.5, Signal.DOWN, 10, 8, Reason.SIGNAL, {"cap": 8}),
        Snapshot("api", start + 1, 8, 0, 0),
        LimiterClosed("api", start + 1.5),
    ]
    assert two == one


@pytest.mark.parametrize(
    ("observers", "message"),
    [
        (print, r"observers must be a list of functions: \[<built-in function print>\]"),
        ([1], "an observer must be a function of one event, not 1"),
    ],
)
async def test_what_is_no_observer_is_named_where_it_is_given(
    observers: object, message: str
) -> None:
    """A bad observer is named where it is passed, not when the first event comes."""
    with pytest.raises(TypeError, match=message):
        async with open_turnstile(observers=observers):  # type: ignore[arg-type]
            pass


async def test_an_observer_that_raises_is_logged_and_not_called_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The event is acted on regardless, and other observers get it."""
    calls: list[Event] = []
    heard: list[Event] = []

    def bad(event: Event) -> None:
        calls.append(event)
        raise ValueError("a bug in an observer")

    async with open_turnstile(observers=[bad, heard.append]) as turnstile:
        api = turnstile.limiter("api", 10)
        api.down()
        await wait_all_tasks_blocked()
        assert api.total_tokens == 8
    assert calls == heard[:1]
    assert [type(event) for event in heard] == [LimiterOpened, Decision, LimiterClosed]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("trio_turnstile.observers", logging.ERROR)
    assert "bad" in record.message
    assert "it will not be called again" in record.message
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)


async def test_the_same_observer_given_twice_is_dropped_each_time_it_raises(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each of the two entries raises once and is removed."""
    calls: list[Event] = []

    def bad(event: Event) -> None:
        calls.append(event)
        raise ValueError("a bug in an observer")

    async with open_turnstile(observers=[bad, bad]) as turnstile:
        turnstile.limiter("one", 1)
        turnstile.limiter("two", 1)
    assert len(calls) == len(caplog.records) == 2


async def test_an_observer_may_close_a_limiter_while_all_are_signalled() -> None:
    """The other limiters still get the signal, and the closed ones are left out."""

    def close_all(event: Event) -> None:
        if isinstance(event, Decision):
            for limiter in tuple(turnstile.limiters.values()):
                limiter.close()

    async with open_turnstile(observers=[close_all]) as turnstile:
        one, two = turnstile.limiter("one", 5), turnstile.limiter("two", 5)
        turnstile.down()
        await wait_all_tasks_blocked()
        assert not turnstile.limiters
    assert len(one.decisions) == 1
    assert len(two.decisions) == 0


async def test_an_observer_that_raises_inside_an_event_of_its_own_making_is_dropped_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The observer causes an event, raises on that event, and then on the first one."""

    def bad(event: Event) -> None:
        if isinstance(event, Decision):
            turnstile.limiters["two"].close()
        if not isinstance(event, LimiterOpened):
            raise ValueError("a bug in an observer")

    async with open_turnstile(observers=[bad]) as turnstile:
        one = turnstile.limiter("one", 5)
        turnstile.limiter("two", 5)
        one.down()
        await wait_all_tasks_blocked()
        assert one.total_tokens == 3
    assert caplog.records


def test_decisions_are_logged_at_info_and_refusals_at_debug(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each decision goes to the one logger of all limiters, and the log record carries it."""
    caplog.set_level(logging.DEBUG)
    log_decisions(CHANGE)
    log_decisions(REFUSAL)
    assert [(r.name, r.levelname, r.message) for r in caplog.records] == [
        ("trio_turnstile.limiter", "INFO", "api: 10 -> 8 (signal)"),
        ("trio_turnstile.limiter", "DEBUG", "api: 8 -> 8 (holding)"),
    ]
    assert [vars(r)["decision"] for r in caplog.records] == [CHANGE, REFUSAL]


@pytest.mark.parametrize("event", OTHERS, ids=lambda e: type(e).__name__)
def test_other_events_are_not_logged(event: Event, caplog: pytest.LogCaptureFixture) -> None:
    """`log_decisions` logs decisions only."""
    caplog.set_level(logging.DEBUG)
    log_decisions(event)
    assert not caplog.records


async def test_log_decisions_is_an_observer(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Passed to `open_turnstile`, it logs the decisions of each limiter."""
    caplog.set_level(logging.DEBUG)
    async with open_turnstile(observers=[log_decisions]) as turnstile:
        api = turnstile.limiter("api", 10, throttle=Throttle(hold=5))
        api.down()
        api.down()
        await wait_all_tasks_blocked()
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("INFO", "api: 10 -> 8 (signal)"),
        ("DEBUG", "api: 8 -> 8 (holding)"),
    ]
