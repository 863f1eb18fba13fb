"""Progress: honest figures, a live line on terminals, and plain lines elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from trio_turnstile.cli._live_line import LiveLine
from trio_turnstile.cli._open_progress import open_progress
from trio_turnstile.cli._progress import (
    Pace,
    PlainLines,
    ProgressSnapshot,
    describe,
    format_rate,
)
from trio_turnstile.cli._writer import Writer

SNAPSHOT = ProgressSnapshot(
    limit=4, running=3, completed=20, failed=1, skipped=0, total=None, state=""
)


@pytest.mark.parametrize(
    ("changes", "rate", "line"),
    [
        ({}, 2.0, "limit 4, running 3, done 20 of ?, failed 1, 2/s, ETA ?"),
        ({"total": 100}, 2.0, "limit 4, running 3, done 20 of 100, failed 1, 2/s, ETA 0:40"),
        ({"total": 100}, 0.0, "limit 4, running 3, done 20 of 100, failed 1, 0/s, ETA ?"),
        (
            {"state": "draining"},
            1.0,
            "draining, limit 4, running 3, done 20 of ?, failed 1, 1/s",
        ),
        (
            {"total": 100, "limit": 0},
            1.0,
            "limit 0, running 3, done 20 of 100, failed 1, 1/s, ETA ?",
        ),
    ],
)
def test_the_line_tells_no_more_than_is_known(
    changes: dict[str, Any], rate: float, line: str
) -> None:
    """The time left is a question mark without a total or a rate."""
    assert describe(attrs.evolve(SNAPSHOT, **changes), rate) == line


@pytest.mark.parametrize(
    ("rate", "shown"),
    [(0, "0/s"), (1234.5, "1.23e+03/s"), (12.34, "12.3/s"), (0.5, "30/min"), (1 / 3600, "1/h")],
)
def test_a_rate_has_a_unit_that_suits_it(rate: float, shown: str) -> None:
    """Slow rates are per minute or per hour."""
    assert format_rate(rate) == shown


@given(st.floats(0.01, 100), st.integers(1, 300))
def test_a_steady_pace_is_seen_as_it_is(rate: float, number: int) -> None:
    """The measured rate equals any steady rate."""
    pace = Pace(0)
    for ended in range(number):
        pace.rate(ended / rate, ended)
    assert pace.rate(number / rate, number) == pytest.approx(rate)


def test_a_new_pace_replaces_the_old_one() -> None:
    """A minute after a change, the rate is that of the last minute."""
    pace = Pace(0)
    for second in range(1000):
        pace.rate(second, second * 10)
    for second in range(1000, 1062):
        rate = pace.rate(second, 10_000 + (second - 1000))
    assert rate == pytest.approx(1, abs=0.2)


def test_a_moved_limit_has_a_pace_of_its_own() -> None:
    """What went on under another limit tells nothing about the time that is left."""
    pace = Pace(0)
    for second in range(100):
        pace.rate(second, second * 10, 8)
    assert pace.rate(100, 1000, 2) == 0
    assert pace.rate(110, 1025, 2) == pytest.approx(2.5)


def test_bursts_are_levelled_out() -> None:
    """The rate is an average over the last minute."""
    pace = Pace(0)
    pace.rate(1, 100)
    assert pace.rate(50, 130) == pytest.approx(130 / 50)


def test_slow_work_has_a_pace_all_the_same() -> None:
    """If few operations end per minute, the rate is that of the last 20."""
    pace = Pace(0)
    for ended in range(100):
        pace.rate(600 * ended, ended)
    assert pace.rate(600 * 99 + 300, 99) == pytest.approx(1 / 600, rel=0.1)


async def test_lines_come_ever_more_seldom(
    autojump_clock: trio.testing.MockClock, capfd: pytest.CaptureFixture[str]
) -> None:
    """Lines come after 10 s, 20 s more, 40 s more, and finally every five minutes."""
    times = []

    def snapshot() -> ProgressSnapshot:
        times.append(trio.current_time())
        return SNAPSHOT

    start = trio.current_time()
    lines = PlainLines(Writer(2), quiet=False)
    with trio.move_on_after(1500):
        await lines.run(snapshot)
    lines.flush()
    assert [time - start for time in times] == [10, 30, 70, 150, 310, 610, 910, 1210]
    assert "turnstile: limit 4, running 3, done 20 of ?" in capfd.readouterr().err


async def test_a_quiet_run_has_no_lines_but_notes(
    autojump_clock: trio.testing.MockClock, capfd: pytest.CaptureFixture[str]
) -> None:
    """A quiet run shows notes and no progress."""
    progress = open_progress(quiet=True)
    with trio.move_on_after(1000):
        await progress.run(lambda: SNAPSHOT)
    progress.hide()
    progress.note("hear, hear")
    progress.show(mid_line=True)
    progress.flush()
    assert capfd.readouterr().err == "turnstile: hear, hear\n"


def test_a_note_that_nobody_can_read_is_no_error(replaced: Any) -> None:
    """A closed standard error does not stop the run."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with replaced((2, write_end)):
        lines = PlainLines(Writer(2), quiet=False)
        lines.note("x")
        lines.flush()


# ---- the live line ----


class Terminal:
    """A terminal in the place of standard error, and the text written to it."""

    def __init__(self, ours: int, file: IO[str]) -> None:
        self._ours = ours
        self.file = file
        self.console = Console(
            file=self.file, force_terminal=True, width=80, height=20, _environ={"TERM": "xterm"}
        )
        self._seen = b""

    def wait_for(self, text: str) -> str:
        """Wait until the text is seen, and return all text up to its end that is new."""
        while text.encode() not in self._seen:
            self._seen += os.read(self._ours, 1000)
        before, found, self._seen = self._seen.partition(text.encode())
        return (before + found).decode()

    def hang_up(self) -> None:
        os.close(self._ours)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    ours, theirs = os.openpty()
    with suppress(OSError), os.fdopen(theirs, "w", encoding="utf-8") as file:
        yield Terminal(ours, file)


ERASED = "\r\x1b[2K"


async def test_the_live_line_is_drawn_anew_and_leaves_nothing(
    terminal: Terminal, autojump_clock: trio.testing.MockClock
) -> None:
    """The line follows the snapshots and is erased at the end."""
    snapshot = SNAPSHOT
    progress = LiveLine(terminal.console)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(progress.run, lambda: snapshot)
        await trio.sleep(1)
        terminal.wait_for("done 20 of ?")
        snapshot = attrs.evolve(snapshot, completed=21)
        await trio.sleep(1)
        assert ERASED in terminal.wait_for("done 21 of ?")
        nursery.cancel_scope.cancel()
    terminal.file.write("end")
    terminal.file.flush()
    assert terminal.wait_for("end").endswith("\x1b[1A\x1b[2Kend")


async def test_notes_stand_above_the_live_line(
    terminal: Terminal, autojump_clock: trio.testing.MockClock
) -> None:
    """Notes stay on the terminal, with the live line below them."""
    progress = LiveLine(terminal.console)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(progress.run, lambda: SNAPSHOT)
        await trio.sleep(1)
        terminal.wait_for("ETA")
        progress.note("limit 4 -> 2 [bold]")
        assert terminal.wait_for("limit 4 -> 2 [bold]").endswith(
            f"{ERASED}turnstile: limit 4 -> 2 [bold]"
        )
        terminal.wait_for("running 3")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("mid_line", "between"), [(False, ""), (True, "\r\n")])
async def test_the_live_line_gives_way_to_output(
    mid_line: bool, between: str, terminal: Terminal, autojump_clock: trio.testing.MockClock
) -> None:
    """The line is hidden during output and does not erase an unfinished line of it."""
    progress = LiveLine(terminal.console)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(progress.run, lambda: SNAPSHOT)
        await trio.sleep(1)
        progress.hide()
        terminal.file.write("output")
        terminal.file.flush()
        terminal.wait_for("\x1b[2Koutput")
        await trio.sleep(1)
        terminal.file.write("...")
        terminal.file.flush()
        assert terminal.wait_for("...") == "..."
        progress.show(mid_line=mid_line)
        seen = terminal.wait_for("running 3")
        assert seen.startswith(between)
        assert "\n" not in seen.removeprefix(between)
        nursery.cancel_scope.cancel()
    progress.show(mid_line=False)
    terminal.file.write("end")
    terminal.file.flush()
    assert "running" not in terminal.wait_for("end").rpartition("\x1b[1A")[2]


async def test_a_terminal_that_goes_away_is_no_error(
    terminal: Terminal, autojump_clock: trio.testing.MockClock
) -> None:
    """A closed terminal does not stop the run."""
    progress = LiveLine(terminal.console)
    terminal.hang_up()
    await progress.run(lambda: SNAPSHOT)
    progress.note("x")
    progress.hide()
    progress.show(mid_line=True)
