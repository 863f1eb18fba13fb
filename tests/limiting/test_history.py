"""`History`: averages of tokens in use, on a virtual clock and in bounded memory."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_turnstile import (
    Event,
    History,
    Limiter,
    Load,
    Snapshot,
    Turnstile,
    log_decisions,
    open_turnstile,
)

WINDOWS = (10, 20, 40, 60, 120, 180, 300, 600, 1200, 2400, 3600, 7200)


def filled(running: list[int], every: float = 2.0) -> History:
    history = History(every)
    fill(history, "api", running)
    return history


def fill(history: History, limiter: str, running: list[int]) -> None:
    track = history.begin(limiter)
    for tick, tokens in enumerate(running, 1):
        track.add(tick, 10, tokens, 0)


def test_the_windows_are_ten_seconds_to_two_hours() -> None:
    """The windows are 10, 20, 40 s; 1, 2, 3, 5, 10, 20, 40 min; 1, 2 h."""
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
    """The samples of one limiter do not count for another."""
    history = filled([3] * 5)
    fill(history, "db", [7] * 5)
    assert (history.averages("api")[10], history.averages("db")[10]) == (3.0, 7.0)


@settings(deadline=None)
@given(
    running=st.lists(st.integers(0, 100), max_size=60),
    every=st.sampled_from([0.5, 1.0, 2.0, 2.5, 5.0]),
)
def test_averages_against_a_plain_model(running: list[int], every: float) -> None:
    """Each average is the mean of the samples in the window."""
    for window, average in filled(running, every).averages("api").items():
        samples = int(window / every)
        if len(running) < samples:
            assert average is None
        else:
            assert average == sum(running[-samples:]) / samples


@pytest.mark.parametrize("every", [3.0, 7.5, 15.0, 60.0])
def test_no_average_is_given_before_its_window_was_seen(every: float) -> None:
    """A window has no average before its time, even if it is no multiple of the period."""
    for count in range(1, 30):
        for window, average in filled([1] * count, every).averages("api").items():
            if count * every < window:
                assert average is None


@settings(deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(1, 3),
            st.sampled_from([1, 10, math.inf]),
            st.integers(0, 2),
            st.integers(0, 1),
        ),
        max_size=60,
    ),
    seconds=st.sampled_from([0.0, 600.0, 3600.0, 7200.0, math.inf]),
)
def test_samples_against_a_plain_model(
    rows: list[tuple[int, float, int, int]], seconds: float
) -> None:
    """Samples come out as they went in, oldest first, around gaps too, and at most 12 are kept."""
    history = History(600.0)
    track = history.begin("api")
    model: list[Snapshot] = []
    tick = 0
    for step, limit, running, waiting in rows:
        tick += step
        track.add(tick, limit, running, waiting)
        model.append(Snapshot("api", tick * 600.0, limit, running, waiting))
    newest = model[-1].time if model else 0
    expected = [s for s in model[-12:] if newest - s.time < seconds or s is model[-1]]
    assert history.samples("api", seconds) == expected
    assert history.latest("api") == (model[-1] if model else None)
    for window, average in history.averages("api").items():
        count = math.ceil(window / 600.0)
        last = model[-count:]
        if len(last) == count and last[-1].time - last[0].time == (count - 1) * 600.0:
            assert average == sum(s.running for s in last) / count


def test_a_limit_without_end_comes_out_as_it_is() -> None:
    """A limit comes out as an int or as infinity."""
    history = History(2.0)
    track = history.begin("api")
    track.add(1, math.inf, 0, 0)
    track.add(2, 7, 0, 0)
    assert [sample.limit for sample in history.samples("api")] == [math.inf, 7]
    assert type(history.samples("api")[1].limit) is int


def test_nothing_is_known_of_a_limiter_that_never_was() -> None:
    """An unknown limiter has no samples, and a bad number of seconds is an error that names it."""
    history = filled([1])
    assert history.samples("db") == []
    with pytest.raises(ValueError, match="seconds must be 0 or more seconds, not -1"):
        history.samples("api", -1)


def grown_by(fill: Callable[[], None]) -> int:
    """Return by how many bytes the memory in use grew."""
    tracemalloc.start()
    try:
        fill()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_memory_is_bounded_by_two_hours_of_samples() -> None:
    """Ten hours of samples that all differ take 90 kB, and the averages stay correct."""
    history = History(2.0)
    track = history.begin("api")

    def ten_hours() -> None:
        for tick in range(5 * 3600):
            track.add(tick, 10 + tick % 3, 299 + 2 * (tick % 2), tick % 5)

    assert grown_by(ten_hours) < 90_000
    assert history.averages("api")[7200] == 300.0
    assert len(history.samples("api")) == 3600


def test_an_idle_limiter_takes_next_to_no_memory() -> None:
    """A sample like the one before is not stored, because thousands of limiters are idle."""
    track = History(2.0).begin("api")

    def two_hours() -> None:
        for tick in range(3600):
            track.add(tick, 10, 0, 0)

    assert grown_by(two_hours) < 1_000


def test_a_gap_is_no_part_of_a_window() -> None:
    """Averages come back as their windows fill; a tenth of the samples may be missing."""
    history = History(2.0)
    track = history.begin("api")
    for tick in range(100):
        track.add(tick, 10, 5, 0)
    for tick in range(105, 110):
        track.add(tick, 10, 1, 0)
    averages = history.averages("api")
    assert (averages[10], averages[20], averages[40], averages[60]) == (1.0, None, None, None)
    assert averages[120] == (55 * 5 + 5 * 1) / 60
    assert [sample.time for sample in history.samples("api", 22)] == [198, *range(210, 220, 2)]


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
    """An average is right with one token for the first hour and three for the second."""
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
    """The history can be read for a final report; closed limiters get no more samples."""
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


async def test_a_new_limiter_has_no_past(autojump_clock: MockClock) -> None:
    """A new limiter with the name of a closed one does not inherit its samples."""
    async with open_turnstile() as turnstile:
        former = turnstile.limiter("api", 10)
        former.acquire_on_behalf_of_nowait("borrower")
        await trio.sleep(61)
        former.close()
        assert turnstile.history.averages("api")[60] == 1.0
        turnstile.limiter("api", 10)
        assert turnstile.history.latest("api") is None
        await trio.sleep(10)
        assert turnstile.history.averages("api")[10] == 0.0
        assert turnstile.history.averages("api")[20] is None
        assert len(turnstile.history.samples("api")) == 5


async def test_a_closed_limiter_is_forgotten_after_two_hours(autojump_clock: MockClock) -> None:
    """Nothing is kept for ever; a limiter that was never sampled leaves nothing at all."""
    async with open_turnstile(sample_every=10.0) as turnstile:
        turnstile.limiter("brief", 1).close()
        for name in ("one", "two"):
            limiter = turnstile.limiter(name, 1)
            await trio.sleep(14)
            limiter.close()
        history = turnstile.history
        assert history.latest("brief") is None
        await trio.sleep(7177)
        assert history.samples("one")
        await trio.sleep(10)
        assert not history.samples("one")
        assert history.samples("two")
        await trio.sleep(10)
        assert not history.samples("two")


async def test_many_limiters_that_are_closed_leave_no_memory(autojump_clock: MockClock) -> None:
    """Neither tracks nor loggers remain: two hours later the memory in use is as before."""

    async def generation(turnstile: Turnstile, number: int) -> None:
        for user in range(200):
            limiter = turnstile.limiter(f"user-{number}-{user}", 5)
            limiter.down()
            await trio.sleep(1)
            limiter.close()
        await trio.sleep(7300)

    async with open_turnstile(observers=[log_decisions], sample_every=2) as turnstile:
        await generation(turnstile, 0)
        tracemalloc.start()
        try:
            await generation(turnstile, 1)
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert grown < 50_000


async def test_time_in_which_the_process_was_stopped_has_no_samples(
    autojump_clock: MockClock,
) -> None:
    """The next sample stands at its proper time, and no average covers the gap."""
    seen: list[Event] = []
    async with open_turnstile(observers=[seen.append]) as turnstile:
        api = turnstile.limiter("api", 10)
        start = trio.current_time()
        await trio.sleep(11)
        api.acquire_on_behalf_of_nowait("borrower")
        autojump_clock.jump(7200)
        await trio.sleep(2)
        times = [s.time - start for s in seen if isinstance(s, Snapshot)]
        assert times == [2, 4, 6, 8, 10, 7210, 7212]
        assert [s.time - start for s in turnstile.history.samples("api", 9000)] == times
        assert set(turnstile.history.averages("api").values()) == {None}
        await trio.sleep(6)
        assert turnstile.history.averages("api")[10] == 1.0
        assert turnstile.history.averages("api")[20] is None


async def test_the_load_is_told_without_copying_the_borrowers() -> None:
    """The memory and the meaning are the same for one borrower and for thousands."""
    limiter = Limiter("api", 5_000)
    for borrower in range(5_000):
        limiter.acquire_on_behalf_of_nowait(borrower)
    tracemalloc.start()
    try:
        load = limiter.load()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert load == Load(5_000, 5_000, 0)
    assert peak < 5_000


async def test_the_load_counts_those_who_wait() -> None:
    """The count is right even if some of those who wait give up."""
    limiter = Limiter("api", 1)
    limiter.acquire_on_behalf_of_nowait("first")
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(limiter.acquire_on_behalf_of, number)
        await wait_all_tasks_blocked()
        assert limiter.load() == Load(1, 1, 3)
        limiter.release_on_behalf_of("first")
        await wait_all_tasks_blocked()
        assert limiter.load() == Load(1, 1, 2)
        nursery.cancel_scope.cancel()
    assert limiter.load() == Load(1, 1, 0)


async def test_other_tasks_get_their_turn_while_many_samples_are_told(
    autojump_clock: MockClock,
) -> None:
    """A limiter closed in the meantime gets no sample, and neither does one that takes its name."""
    told: list[str] = []

    def observe(event: Event) -> None:
        if isinstance(event, Snapshot):
            told.append(event.limiter)

    async with open_turnstile(observers=[observe]) as turnstile:
        limiters = [turnstile.limiter(f"api{number}", 1) for number in range(600)]
        await trio.sleep(2)
        while not told:
            await trio.lowlevel.checkpoint()
        assert len(told) < 600
        limiters[-1].close()
        limiters[-2].close()
        turnstile.limiter("api598", 1)
        await trio.sleep(0.5)
    assert told == [f"api{number}" for number in range(598)]
