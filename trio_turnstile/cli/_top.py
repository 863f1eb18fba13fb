"""``turnstile top``: show what running processes do, in a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from ._client import Client, all_limiters, limiter_path
from ._ctl_options import WHICH
from ._processes import Process, choose_process, find_processes, wait_for_processes
from ._terminal import Terminal, can_be_taken, shows_ascii_alone
from ._top_board import Board
from ._top_view import Screen, draw

_MOST_ASKED = 20
"""Decisions are requested for at most this many limiters of a process."""


def top(
    *,
    pid: Annotated[int | None, Parameter(group=WHICH)] = None,
    socket: Annotated[Path | None, Parameter(group=WHICH)] = None,
) -> int:
    """Watch running processes: their limits, work, steps, decisions and bottlenecks.

    All processes of yours that have a control socket are shown, including those that start
    later. The keys change the limiter that is marked by an arrow:

    - the keys + and - raise and lower its limit by one step, like turnstile ctl up and down;
    - a number and Enter set its limit;
    - p pauses it; r resumes it and undoes a limit that was set;
    - d drains its run;
    - the arrow keys, or k and j, mark another limiter; q quits.

    Without a terminal, or on a dumb one, the state is printed once.

    Args:
      pid: Show only this process.
      socket: Show only the process with this control socket.
    """
    find = _finder(pid, socket)
    console = Console(highlight=False)
    plain = shows_ascii_alone(console.encoding)
    if not can_be_taken():
        _print_once(console, find(), plain=plain)
        return 0
    import trio

    from ._top_live import LiveView

    return trio.run(LiveView(Terminal(console), find, plain=plain).run)


def _finder(pid: int | None, socket: Path | None) -> Callable[[], Sequence[Process]]:
    """Return a function that finds the processes to show; there must be one at first."""
    if pid is None and socket is None:
        wait_for_processes()
        return find_processes
    chosen = [choose_process(pid, socket)]
    chosen[0].client().get("/")
    return lambda: chosen


def _print_once(console: Console, processes: Sequence[Process], *, plain: bool) -> None:
    boards = [_board_of(process.client()) for process in processes]
    for line in draw(boards, None, Screen(width=console.width, plain=plain)):
        console.print(line)


def _board_of(client: Client) -> Board:
    service = client.get("/")
    board = Board(str(service["run"]["pid"]), service["run"]["name"])
    limiters = all_limiters(client)
    board.take("state", {"time": service["now"], "limiters": limiters})
    for run in client.get("/runs"):
        board.take("run", run)
    for limiter in limiters[:_MOST_ASKED]:
        for decision in client.get(limiter_path(limiter["name"], "decisions")):
            board.take("decision", decision)
    board.tick(time.time())
    return board
