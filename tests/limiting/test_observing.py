"""`Turnstile.observe`: observers that come and go while it runs."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_turnstile import (
    Decision,
    Event,
    LimiterClosed,
    LimiterOpened,
    Observation,
    Snapshot,
    open_turnstile,
)


async def test_an_observer_hears_what_comes_after_it(autojump_clock: MockClock) -> None:
    """An observer hears nothing from before, and nothing after it is closed, even twice."""
    heard: list[Event] = []
    async with open_turnstile(sample_every=1) as turnstile:
        api = turnstile.limiter("api", 10)
        observation = turnstile.observe(heard.append)
        await trio.sleep(0.5)
        api.down()
        await trio.sleep(1)
        observation.close()
        observation.close()
        await trio.sleep(1)
    assert [type(event) for event in heard] == [Decision, Snapshot]


async def test_a_block_can_bound_an_observation() -> None:
    """An observation used as a block ends with it, and the observer hears nothing more."""
    heard: list[Event] = []
    async with open_turnstile() as turnstile:
        with turnstile.observe(heard.append) as observation:
            turnstile.limiter("api", 10)
            assert "closed" not in repr(observation)
        assert "closed" in repr(observation)
        turnstile.limiter("db", 10)
    assert [event.limiter for event in heard if isinstance(event, LimiterOpened)] == ["api"]


async def test_closing_one_of_two_alike_leaves_the_other() -> None:
    """Each observation stands alone, even if its observer is equal to another."""
    heard: list[Event] = []
    async with open_turnstile() as turnstile:
        with turnstile.observe(heard.append):
            turnstile.observe(heard.append).close()
            turnstile.limiter("api", 10)
    assert len(heard) == 1


async def test_an_observer_that_another_one_closes_is_called_no_more() -> None:
    """A closed observer does not even get the event during which another one closed it."""
    heard: list[Event] = []
    async with open_turnstile() as turnstile:
        observations: list[Observation] = []
        turnstile.observe(lambda _: observations[0].close())
        observations.append(turnstile.observe(heard.append))
        turnstile.limiter("api", 10)
    assert heard == []


async def test_an_observer_that_came_late_and_raises_is_logged_and_not_called_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A late observer that raises is treated like one that was there from the beginning."""
    heard: list[Event] = []

    def bad(event: Event) -> None:
        heard.append(event)
        raise ValueError("a bug in an observer")

    async with open_turnstile() as turnstile:
        turnstile.observe(bad)
        turnstile.limiter("api", 10)
        turnstile.limiter("db", 10)
        await wait_all_tasks_blocked()
    assert len(heard) == 1
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("trio_turnstile.observers", logging.ERROR)
    assert "bad" in record.message


async def test_what_is_no_observer_is_an_error_at_once() -> None:
    """An observer of a turnstile that was left is an error at once, too."""
    async with open_turnstile() as turnstile:
        with pytest.raises(TypeError, match="an observer must be a function of one event, not 1"):
            turnstile.observe(1)  # type: ignore[arg-type]
        heard: list[Event] = []
        turnstile.observe(heard.append)
        turnstile.limiter("api", 10)
    assert isinstance(heard[-1], LimiterClosed)
    with pytest.raises(trio.ClosedResourceError, match="the turnstile is closed"):
        turnstile.observe(heard.append)


async def test_a_turnstile_has_a_name_an_id_and_the_time_of_its_opening() -> None:
    """The time is given on both clocks, so that a time on one can be converted to the other."""
    async with open_turnstile(name="crawler") as one, open_turnstile() as other:
        assert (one.name, other.name) == ("crawler", "turnstile")
        assert one.id != other.id
        assert len(one.id) == 32
        opened = one.opened
        assert opened.time <= trio.current_time()
        assert opened.wall_time_of(opened.time + 5) == opened.wall_time + 5
    with pytest.raises(TypeError, match="name must be a str"):
        async with open_turnstile(name=3):  # type: ignore[arg-type]
            pass
