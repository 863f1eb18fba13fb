"""What the terminal view shows of documents, on screens of all sizes."""

from __future__ import annotations

from typing import Any

import pytest
from rich.cells import cell_len

from testkit import documents
from testkit.documents import decision, error, limiter, override, run, state, step
from trio_turnstile.cli._top_board import Board
from trio_turnstile.cli._top_view import Choice, Screen, bottleneck, choices, draw, sparkline


def board_of(*limiters: Any, runs: Any = (), ticks: int = 1, pid: str = "71") -> Board:
    board = Board(pid, "turnstile run")
    for each in runs:
        board.take("run", each)
    for tick in range(ticks):
        board.take("state", state(float(tick), limiters=list(limiters), runs=list(runs)))
        board.tick(float(tick))
    return board


def shown(
    *boards: Board, width: int = 80, height: int | None = None, chosen: Choice | None = None
) -> list[str]:
    return [line.plain for line in draw(boards, chosen, Screen(width=width, height=height))]


def test_a_limiter_is_a_row_of_figures_with_its_past() -> None:
    """It has the limit, the maximum, running, waiting, and a bar for each tick."""
    board = board_of(limiter("work", 20, running=16, waiting=3, ceiling=32), ticks=3)
    (row,) = [line for line in shown(board) if line.startswith("  work")]
    assert row.split() == ["work", "20", "32", "16", "3", "▅▅▅"]


def test_a_paused_limiter_and_one_without_a_limit_say_so() -> None:
    """A word replaces the number."""
    lines = shown(board_of(limiter("a", 0, paused=True), limiter("b", None, ceiling=None)))
    assert [line.split()[:3] for line in lines[2:4]] == [["a", "pause", "32"], ["b", "inf", "inf"]]


def test_steps_have_their_counts_and_the_run_an_eta() -> None:
    """The ETA follows from the pace since the view was opened."""
    board = Board("71", "turnstile run")
    board.take("run", run("work", step()))
    for tick in range(11):
        counts = step(received=tick + 4, completed=tick, failed=1, in_flight=3)
        board.take("state", state(float(tick), runs=[run("work", counts, total=101)]))
        board.tick(float(tick))
    lines = shown(board)
    assert lines[3].split() == ["work", "14", "10", "1", "3"]
    assert "running, 0:10, 11 of 101, ETA 1:30" in lines[4]


def test_an_eta_that_is_not_known_is_a_question_mark() -> None:
    """Nothing has ended so far."""
    board = board_of(runs=[run("work", step(received=2, in_flight=2), total=9)], ticks=5)
    assert any("ETA ?" in line for line in shown(board))


def test_a_run_without_a_length_has_no_eta() -> None:
    """The total is unknown."""
    board = board_of(runs=[run("work", step(received=2))])
    assert not any("ETA" in line for line in shown(board))


def test_the_last_error_of_a_run_is_shown() -> None:
    """Its text is shown."""
    failing = run("work", step(received=2), errors=[error("first"), error("work: exit status 3")])
    assert any(
        "last error: work: exit status 3" in line for line in shown(board_of(runs=[failing]))
    )


def test_an_error_that_comes_later_is_the_last_one() -> None:
    """It is shown when it happens."""
    board = board_of(runs=[run("work", step(), errors=[error("first")])])
    board.take("error", error("later"))
    assert any("last error: later" in line for line in shown(board))


def test_a_run_of_the_same_name_begins_anew() -> None:
    """The pace and the errors of the earlier run are forgotten."""
    board = board_of(runs=[run("work", step(), total=9, errors=[error("old")])], ticks=3)
    board.take("run", run("work", step(), total=9, started=1.0))
    assert not any("old" in line for line in shown(board))


def test_the_last_decisions_are_shown_with_their_reasons() -> None:
    """There are as many as fit; the oldest are left out."""
    board = board_of(limiter())
    for number in range(50):
        board.take("decision", decision(f"{number}: because", time=float(number)))
    lines = shown(board, height=24, chosen=choices([board])[0])
    assert lines[-2].endswith("work: 49: because")
    assert not any("work: 1: because" in line for line in lines)


@pytest.mark.parametrize(("width", "height"), [(20, 4), (40, 10), (50, 16), (80, 24), (200, 60)])
def test_lines_fit_the_screen(width: int, height: int) -> None:
    """This holds for characters of any width, and for any number of lines."""
    boards = [
        board_of(
            *(limiter(f"limiter {number} 日本語 " + "x" * number) for number in range(30)),
            runs=[run("r" * 50, step(received=10**9), step("s" * 99), errors=[error("日" * 99)])],
            pid=pid,
        )
        for pid in ("71", "72")
    ]
    boards[0].take("decision", decision("a reason " * 50))
    for chosen in choices(boards)[::13]:
        lines = shown(*boards, width=width, height=height, chosen=chosen)
        assert len(lines) == height
        assert all(cell_len(line) <= width for line in lines)
        assert sum(line.startswith("> ") for line in lines) == 1


def test_there_are_no_sparklines_on_a_narrow_screen() -> None:
    """The figures need the space."""
    board = board_of(limiter(running=16), ticks=9)
    assert not any("▅" in line for line in shown(board, width=50))


def test_ascii_alone_is_shown_where_nothing_else_can_be() -> None:
    """This includes the bars; other characters become question marks."""
    board = board_of(limiter("größe", running=32), runs=[run("→", step())], ticks=3)
    lines = [line.plain for line in draw([board], None, Screen(width=80, plain=True))]
    assert all(line.isascii() for line in lines)
    assert any("gr??e" in line and "@@@" in line for line in lines)


def test_control_characters_of_names_do_nothing() -> None:
    """A name that would clear the screen is shown with an escape."""
    line = next(line for line in shown(board_of(limiter("\x1b[2J"))) if "2J" in line)
    assert "\\x1b[2J" in line


def test_the_keys_are_shown_also_where_it_is_narrow() -> None:
    """The key that quits is never cut off."""
    board = board_of(limiter())
    for width in (32, 50, 80):
        foot = shown(board, width=width, height=10, chosen=choices([board])[0])[-1]
        assert "q quit" in foot


def test_several_processes_are_below_each_other_and_their_decisions_are_mixed() -> None:
    """They are sorted by time."""
    first, second = board_of(limiter("a"), pid="1"), board_of(limiter("b"), pid="2")
    first.take("decision", decision("early", limiter="a", time=1.0))
    second.take("decision", decision("middle", limiter="b", time=2.0))
    first.take("decision", decision("late", limiter="a", time=3.0))
    lines = shown(first, second)
    assert [line.split()[2] for line in lines if line.startswith("turnstile")] == ["1", "2"]
    assert [line.split()[-1] for line in lines[-3:]] == ["early", "middle", "late"]


def test_a_process_that_has_ended_says_so() -> None:
    """Its last figures stay visible for a while."""
    board = board_of(limiter())
    board.take("bye", {})
    assert shown(board)[0] == "turnstile run 71  ended"
    assert not any(line.startswith("limited by") for line in shown(board))


def test_a_process_that_says_nothing_is_marked() -> None:
    """Its figures are old, because it is suspended or too busy."""
    board = board_of(limiter())
    board.tick(70.0)
    assert shown(board)[0] == "turnstile run 71  no news for 1:10"
    board.take("state", state(71.0))
    board.tick(72.0)
    assert "no news" not in shown(board)[0]


def test_a_limiter_that_is_closed_goes() -> None:
    """The others stay in their places."""
    board = board_of(limiter("a"), limiter("b"), limiter("c"))
    board.take("state", state(limiters=[limiter("a", running=1)], gone=["b"]))
    assert list(board.limiters) == ["a", "c"]


def test_without_a_process_there_is_a_word_of_it() -> None:
    """A process may be started while the view is open."""
    assert shown() == ["waiting for a process ..."]


# ---- what limits it ----


@pytest.mark.parametrize(
    ("limiters", "sentence"),
    [
        ([limiter(limit=8, running=8, waiting=3)], "work is at its limit of 8; 3 wait"),
        (
            [limiter(limit=8, running=9, override=override())],
            "work is at its limit of 8 (set by ana: night)",
        ),
        ([limiter(limit=0, paused=True, waiting=2)], "work is paused; 2 wait"),
        (
            [limiter("a", 2, running=2, waiting=1), limiter("b", 1, running=1, waiting=9)],
            "b is at its limit of 1; 9 wait",
        ),
        (
            [limiter(running=3), limiter("b", None, running=9)],
            "no limit is reached: the source of the items, or whatever takes them, is slower",
        ),
        ([limiter()], "nothing runs"),
        ([], "nothing runs"),
    ],
)
def test_a_sentence_says_what_limits_a_process(limiters: Any, sentence: str) -> None:
    """It is the limiter with the most waiting tasks, if any limit is reached."""
    assert bottleneck(board_of(*limiters)) == sentence


# ---- sparklines ----


def test_a_sparkline_goes_from_nothing_to_the_most() -> None:
    """There is one bar for each of the last values."""
    assert sparkline(range(9), 8, 9, plain=False) == "▁▂▃▄▅▅▆▇█"
    assert sparkline([0, 8, 99], 8, 2, plain=False) == "██"
    assert sparkline([0, 8], 8, 9, plain=True) == ".@"
    assert sparkline([1, 2], 0, 0, plain=False) == ""


def test_documents_of_other_kinds_are_no_harm() -> None:
    """A newer process may send more kinds of events."""
    board = Board("71", "turnstile run")
    board.take("weather", {"sun": True})
    board.take("run", documents.run("work", step(received=1)))
    assert list(board.runs) == ["work"]
