"""`History`: averages of tokens in use, on a virtual clock and in bounded memory."""

from __future__ import annotations

import tracemalloc

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from trio_turnstile import Event, History, Snapshot, open_turnstile

WINDOWS = (10, 20, 40, 60, 120, 180, 300, 600, 1200, 2400, 3600, 7200)


def filled(running: list[int], every: float = 2.0) -> History:
    history = History(every)
    for number, tokens in enumerate(running, 1):
        history.add(Snapshot("api", number * every, 10, tokens, 0))
    return history


def test_the_windows_are_ten_seconds_to_two_hours() -> None:
    """10, 20, 40 s; 1, 2, 3, 5, 10, 20, 40 min; 1, 2 h."""
    assert tuple(filled([1]).averages("api")) == WINDOWS


def test_a_limiter_that_was_never_sampled_has_no_averages() -> None:
    """An unknown name is no error: its first sample may come later."""
    assert filled([]).averages("api") == dict.fromkeys(WINDOWS)
    assert filled([]).latest("api") is None


def test_a_window_not_yet_filled_has_no_average() -> None:
    """Four samples are 8 s, five samples are 10 s."""
    assert filled([1] * 4).averages("api")[10] is None
    assert filled([1] * 5).averages("api")[10] == 1.0
    assert filled([1] * 5).averages("api")[20] is None


def test_an_average_is_of_the_latest_samples_and_keeps_its_fraction() -> None:
    """Samples older than the window do not count."""
    history = filled([9] * 5 + [0, 0, 1, 1, 0])
    assert history.averages("api")[10] == 0.4
    assert history.averages("api")[20] == 4.7


def test_limiters_are_kept_apart() -> None:
    """Samples of one limiter do not count for another."""
    history = filled([3] * 5)
    for number in range(5):
        history.add(Snapshot("db", number, 10, 7, 0))
    assert (history.averages("api")[10], history.averages("db")[10]) == (3.0, 7.0)


def test_the_latest_sample_is_kept_whole() -> None:
    """With limit and queue."""
    history = filled([1, 2])
    newest = Snapshot("api", 99.0, 5, 4, 3)
    history.add(newest)
    assert history.latest("api") == newest


@settings(deadline=None)
@given(
    running=st.lists(st.integers(0, 100), max_size=60),
    every=st.sampled_from([0.5, 1.0, 2.0, 2.5, 5.0]),
)
def test_averages_against_a_plain_model(running: list[int], every: float) -> None:
    """Each is the mean of the samples in the window."""
    for window, average in filled(running, every).averages("api").items():
        samples = int(window / every)
        if len(running) < samples:
            assert average is None
        else:
            assert average == sum(running[-samples:]) / samples


@pytest.mark.parametrize("every", [3.0, 7.5, 15.0, 60.0])
def test_no_average_is_given_before_its_window_was_seen(every: float) -> None:
    """Also if the window is no multiple of the sampling period."""
    for count in range(1, 30):
        for window, average in filled([1] * count, every).averages("api").items():
            if count * every < window:
                assert average is None


def test_memory_is_bounded_by_two_hours_of_samples() -> None:
    """Ten more hours take no more memory, and the averages stay correct."""
    two_hours = 3600
    history = filled([5] * two_hours)
    tracemalloc.start()
    try:
        for number in range(5 * two_hours):
            history.add(Snapshot("api", number, 10, 300, 0))
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A sum is an int of its own, 28 or 32 bytes: those of two hours, and no more.
    assert grown < 1.5 * two_hours * 32
    assert history.averages("api")[7200] == 300.0


async def test_a_turnstile_samples_its_limiters(autojump_clock: MockClock) -> None:
    """Every ``sample_every`` seconds on trio's clock; observers get the samples too."""
    events: list[Event] = []
    async with open_turnstile(observers=[events.append], sample_every=2.5) as turnstile:
        api = turnstile.limiter("api", 2)
        start = trio.current_time()
        for borrower in range(2):
            api.acquire_on_behalf_of_nowait(borrower)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(api.acquire_on_behalf_of, 2)
            await trio.sleep(5.1)
            api.release_on_behalf_of(0)
        await trio.sleep(5)
        history = turnstile.history
        assert history.latest("api") == Snapshot("api", start + 10, 2, 2, 0)
        assert history.averages("api")[10] == 2.0
        assert history.averages("api")[20] is None
    samples = [event for event in events if isinstance(event, Snapshot)]
    assert [(s.time - start, s.running, s.waiting) for s in samples] == [
        (2.5, 2, 1),
        (5.0, 2, 1),
        (7.5, 2, 0),
        (10.0, 2, 0),
    ]


async def test_averages_over_two_hours_on_the_clock(autojump_clock: MockClock) -> None:
    """One token for the first hour, three for the second."""
    async with open_turnstile(sample_every=10.0) as turnstile:
        api = turnstile.limiter("api", 5)
        api.acquire_on_behalf_of_nowait("first")
        await trio.sleep(3605)
        api.acquire_on_behalf_of_nowait("second")
        api.acquire_on_behalf_of_nowait("third")
        await trio.sleep(3600)
        averages = turnstile.history.averages("api")
    assert averages[3600] == 3.0
    assert averages[7200] == 2.0


async def test_the_history_outlives_the_limiter_and_the_turnstile(
    autojump_clock: MockClock,
) -> None:
    """It can be read for a final report; closed limiters get no more samples."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 5)
        await trio.sleep(11)
        api.close()
        await trio.sleep(20)
    assert turnstile.history.averages("api")[10] == 0.0
    assert turnstile.history.averages("api")[20] is None


async def test_an_endless_period_samples_never(autojump_clock: MockClock) -> None:
    """``sample_every=math.inf`` turns the history off."""
    async with open_turnstile(sample_every=float("inf")) as turnstile:
        turnstile.limiter("api", 5)
        await trio.sleep(7200)
        assert turnstile.history.latest("api") is None
