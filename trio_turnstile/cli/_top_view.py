"""The screen of ``turnstile top``: lines of text made from boards. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import final

import attrs
from rich.cells import cell_len, set_cell_size
from rich.text import Text

from ._client import Document
from ._ctl_text import clock, decision_line, ended_items, remark, tokens
from ._durations import format_clock
from ._printable import printable
from ._top_board import Board

_BARS, _ASCII_BARS = "▁▂▃▄▅▆▇█", ".:-=+*#@"

_KEYS = "+ up  - down  0-9 set  p pause  r resume  d drain  arrows choose  q quit"

_KEYS_IN_SHORT = "+ - 0-9 p r d  arrows  q quit"

_NUMBERS = 5
"""The width of a column with figures of limiters."""

_COUNTS = 9
"""The width of a column with counts of steps."""

_STALE = 5.0
"""Seconds without an event after which the figures of a process are marked as old."""

_NARROW = 60
"""With fewer columns than this there is no room for sparklines."""


@final
@attrs.frozen(kw_only=True)
class Screen:
    """The size that the lines have to fit."""

    width: int
    """How many columns there are."""
    height: int | None = None
    """How many lines there are; ``None`` for as many as needed."""
    plain: bool = False
    """Whether only ASCII can be shown."""


@final
@attrs.frozen
class Choice:
    """The limiter that the keys act on."""

    board: Board
    """Its process."""
    limiter: str
    """Its name."""


def choices(boards: Iterable[Board]) -> list[Choice]:
    """Return all limiters that can be chosen, in the order in which they are shown."""
    return [Choice(board, name) for board in boards for name in board.limiters]


def draw(
    boards: Sequence[Board], chosen: Choice | None, screen: Screen, prompt: str = ""
) -> list[Text]:
    """Return the lines of a screen.

    Args:
      boards: what is known about each process.
      chosen: the limiter that is marked; ``None`` for none.
      screen: the size that the lines have to fit.
      prompt: a text for the user that replaces the list of keys.
    """
    several = len(boards) > 1
    blocks = [line for board in boards for line in _process_lines(board, chosen, screen, several)]
    blocks = blocks or [Text("waiting for a process ...")]
    last = [_decision_line(decision) for decision in _last_decisions(boards)]
    if chosen is None:
        return [_fit(line, screen) for line in [*blocks, *last]]
    keys = _KEYS if len(_KEYS) <= screen.width else _KEYS_IN_SHORT
    foot = Text(prompt or keys, "reverse")
    if screen.height is None:
        return [_fit(line, screen) for line in [*blocks, *last, foot]]
    blocks = _round_choice(blocks, screen.height - 1)
    room = screen.height - 1 - len(blocks)
    shown = last[-room:] if room > 0 else []
    padding = [Text()] * (room - len(shown))
    return [_fit(line, screen) for line in [*blocks, *shown, *padding, foot]]


def bottleneck(board: Board) -> str:
    """Return, in a sentence, what keeps a process from going faster now."""
    limiters = board.limiters.values()
    full = [limiter for limiter in limiters if limiter["paused"] or is_full(limiter)]
    if full:
        return _why_full(max(full, key=lambda limiter: int(limiter["waiting"])))
    if any(limiter["running"] for limiter in limiters):
        return "no limit is reached: the source of the items, or whatever takes them, is slower"
    return "nothing runs"


def is_full(limiter: Document) -> bool:
    """Tell whether the limit is reached."""
    return limiter["limit"] is not None and bool(limiter["running"] >= limiter["limit"])


def sparkline(values: Sequence[int], most: float, width: int, *, plain: bool) -> str:
    """Return a bar for each of the last values; ``most`` is the largest value there can be."""
    bars = _ASCII_BARS if plain else _BARS
    steps = len(bars) - 1
    shown = values[-width:] if width else ()
    return "".join(bars[min(steps, round(value / max(1, most) * steps))] for value in shown)


# ---- inside ----


def _why_full(limiter: Document) -> str:
    waiting = f"; {limiter['waiting']} wait" if limiter["waiting"] else ""
    if limiter["paused"]:
        return f"{limiter['name']} is paused{waiting}"
    why = f" ({words})" if (words := remark(limiter)) else ""
    return f"{limiter['name']} is at its limit of {tokens(limiter['limit'])}{why}{waiting}"


def _process_lines(
    board: Board, chosen: Choice | None, screen: Screen, several: bool
) -> Iterator[Text]:
    yield _title(board)
    yield from _limiter_lines(board, chosen, screen)
    if board.runs:
        yield _step_row(("step", "received", "done", "failed", "in hand"), screen, "bold")
    for run in board.runs.values():
        yield from _run_lines(board, run, screen)
    if not board.lost:
        yield Text(f"limited by: {printable(bottleneck(board))}", "italic")
    yield Text()


def _title(board: Board) -> Text:
    silent = f"no news for {format_clock(board.silence)}" if board.silence > _STALE else ""
    standing = board.lost or silent
    text = f"{printable(board.name)} {board.pid}  {standing or clock(board.now)}"
    return Text(text, "dim" if standing else "bold")


def _limiter_lines(board: Board, chosen: Choice | None, screen: Screen) -> Iterator[Text]:
    sparks = _spark_width(screen)
    heads = [f"{head:>{_NUMBERS}}" for head in ("limit", "max", "run", "wait")]
    name = set_cell_size("limiter", _name_width(screen))
    past = ["last minutes"] if sparks else []
    yield Text(" ".join([" ", name, *heads, *past]), "bold")
    for limiter in board.limiters.values():
        here = chosen is not None and chosen == Choice(board, limiter["name"])
        yield _limiter_row(board, limiter, screen, here=here)


def _limiter_row(board: Board, limiter: Document, screen: Screen, *, here: bool) -> Text:
    limit, running, waiting = limiter["limit"], limiter["running"], limiter["waiting"]
    line = Text("> " if here else "  ")
    line.append(_name(limiter["name"], _name_width(screen)), "bold reverse" if here else "")
    line.append(f" {'pause' if limiter['paused'] else tokens(limit):>{_NUMBERS}}")
    line.append(f" {tokens(limiter['ceiling']):>{_NUMBERS}}")
    line.append(f" {running:>{_NUMBERS}}", "yellow" if is_full(limiter) else "green")
    line.append(f" {waiting:>{_NUMBERS}}", "red" if waiting else "")
    past = board.running(limiter["name"])
    most = max([limiter["ceiling"] or 0, *past])
    line.append(f" {sparkline(past, most, _spark_width(screen), plain=screen.plain)}", "cyan")
    return line


def _run_lines(board: Board, run: Document, screen: Screen) -> Iterator[Text]:
    for step in run["steps"]:
        name = run["id"] if len(run["steps"]) == 1 else f"{run['id']}/{step['name']}"
        done = step["completed"] + step["discarded"]
        cells = (name, step["received"], done, step["failed"], step["in_flight"])
        yield _step_row(cells, screen, "red" if step["failed"] else "")
    yield Text(f"  {_standing(board, run)}", "dim")


def _standing(board: Board, run: Document) -> str:
    parts = [str(run["state"])]
    if run["started"] is not None:
        parts.append(format_clock(max(0.0, board.now - run["started"])))
    if run["total"] is not None:
        left = board.seconds_left(run)
        parts.append(f"{ended_items(run)} of {run['total']}")
        parts.append(f"ETA {'?' if left is None else format_clock(left)}")
    if run["last_error"]:
        parts.append(f"last error: {printable(run['last_error'])}")
    return ", ".join(parts)


def _step_row(cells: Sequence[object], screen: Screen, style: str) -> Text:
    width = max(8, screen.width - 2 - (len(cells) - 1) * (_COUNTS + 1))
    numbers = "".join(f" {cell!s:>{_COUNTS}}" for cell in cells[1:])
    return Text(f"  {_name(str(cells[0]), width)}{numbers}", style)


def _decision_line(decision: Document) -> Text:
    return Text(printable(decision_line(decision)), "" if decision["applied"] else "dim")


def _last_decisions(boards: Iterable[Board]) -> list[Document]:
    every = [decision for board in boards for decision in board.decisions]
    return sorted(every, key=lambda decision: float(decision["time"]))


def _spark_width(screen: Screen) -> int:
    return 0 if screen.width < _NARROW else max(8, min(60, screen.width - 52))


def _name_width(screen: Screen) -> int:
    sparks = _spark_width(screen)
    figures = 4 * (_NUMBERS + 1)
    return max(8, min(40, screen.width - 2 - figures - (sparks + 1 if sparks else 0)))


def _name(name: str, width: int) -> str:
    shown = printable(name)
    if cell_len(shown) > width:
        shown = set_cell_size(shown, width - 2) + ".."
    return set_cell_size(shown, width)


def _round_choice(lines: list[Text], height: int) -> list[Text]:
    """Return as many lines as there is room for, including the marked one."""
    at = next((at for at, line in enumerate(lines) if line.plain.startswith(">")), 0)
    first = max(0, min(at - height // 2, len(lines) - height))
    return lines[first : first + height]


def _fit(line: Text, screen: Screen) -> Text:
    fitted = line.copy()
    fitted.no_wrap = True
    if screen.plain:
        fitted.plain = "".join(char if char.isascii() else "?" for char in line.plain)
    if fitted.cell_len > screen.width:
        fitted.truncate(screen.width)
    return fitted
