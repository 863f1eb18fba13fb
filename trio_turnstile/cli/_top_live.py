"""`LiveView`: keeps a screen up to date with running processes, and acts on keys."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import final

import h11
import trio

from ._arguments import UsageError
from ._exit_status import NotDone, status_of_signal
from ._processes import Process
from ._signals import STOPS, heeded
from ._stream import follow
from ._terminal import Terminal
from ._top_board import Board
from ._top_keys import Hand, Order, parse_keys
from ._top_view import Screen, choices, draw

_TICK = 1.0
"""Seconds between two bars of a sparkline, and between two searches for new processes."""

_REFRESH = 0.1
"""The fewest seconds between two drawings."""

_KEPT = 10.0
"""Seconds that a process is shown after its end."""

_NOTE = 5.0
"""Seconds that a note is shown."""


@final
class LiveView:
    """A screen of running processes.

    Args:
      terminal: shows the screen.
      find: finds the processes.
      plain: whether the terminal shows only ASCII.
    """

    def __init__(
        self, terminal: Terminal, find: Callable[[], Sequence[Process]], *, plain: bool
    ) -> None:
        self._terminal = terminal
        self._find = find
        self._plain = plain
        self._boards: dict[Process, Board] = {}
        self._hand = Hand()
        self._note, self._note_until = "", 0.0
        self._news = trio.Event()
        self._status = 0

    async def run(self) -> int:
        """Show the processes until the user leaves; return the exit status."""
        signals = [*heeded(STOPS), signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT]
        with trio.open_signal_receiver(*signals) as received, self._terminal.taken():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._act_on_signals, received, nursery.cancel_scope)
                nursery.start_soon(self._act_on_keys, nursery)
                nursery.start_soon(self._look_for_processes, nursery)
                nursery.start_soon(self._redraw)
        return self._status

    # ---- inside ----

    async def _look_for_processes(self, nursery: trio.Nursery) -> None:
        while True:
            for process in await trio.to_thread.run_sync(self._find, abandon_on_cancel=True):
                if process not in self._boards:
                    self._boards[process] = Board(process.pid, "")
                    nursery.start_soon(self._follow, process)
            for board in self._boards.values():
                board.tick(time.time())
            self._show()
            await trio.sleep(_TICK)

    async def _follow(self, process: Process) -> None:
        board = self._boards[process]
        try:
            await trio.to_thread.run_sync(_introduce, board, process, abandon_on_cancel=True)

            def take(kind: str, document: dict[str, object]) -> None:
                board.take(kind, document)
                self._show()

            await follow(str(process.path), take)
            board.lost = "ended"
        except (trio.BrokenResourceError, h11.ProtocolError):
            board.lost = "ended"
        except (NotDone, UsageError, OSError) as error:
            board.lost = str(error)
        self._show()
        await trio.sleep(_KEPT)
        del self._boards[process]

    async def _act_on_keys(self, nursery: trio.Nursery) -> None:
        if not os.isatty(0):
            return
        while True:
            await trio.lowlevel.wait_readable(0)
            sent = os.read(0, 64)
            if not sent:
                return
            for key in parse_keys(sent.decode(errors="replace")):
                self._hand, order = self._hand.press(key, choices(self._boards.values()))
                if order is not None:
                    nursery.start_soon(self._carry_out, order)
            if self._hand.over:
                nursery.cancel_scope.cancel()
            self._show()

    async def _carry_out(self, order: Order) -> None:
        process = next(each for each, board in self._boards.items() if board is order.board)
        try:
            await trio.to_thread.run_sync(order.send, process.client(), abandon_on_cancel=True)
        except (NotDone, UsageError) as error:
            self._note, self._note_until = str(error), trio.current_time() + _NOTE
        self._show()

    async def _act_on_signals(self, received: AsyncIterator[int], scope: trio.CancelScope) -> None:
        async for signum in received:
            if signum == signal.SIGTSTP:
                self._terminal.give_back()
                os.kill(os.getpid(), signal.SIGSTOP)
            elif signum == signal.SIGCONT:
                self._terminal.take()
            elif signum != signal.SIGWINCH:
                self._status = status_of_signal(signum)
                scope.cancel()
            self._show()

    async def _redraw(self) -> None:
        while True:
            boards = list(self._boards.values())
            self._hand = self._hand.among(choices(boards))
            width, height = self._terminal.measure()
            screen = Screen(width=width, height=height, plain=self._plain)
            self._terminal.draw(draw(boards, self._hand.chosen, screen, self._prompt()))
            await trio.sleep(_REFRESH)
            await self._news.wait()
            self._news = trio.Event()

    def _prompt(self) -> str:
        note = self._note if trio.current_time() < self._note_until else ""
        return self._hand.prompt or note

    def _show(self) -> None:
        self._news.set()


def _introduce(board: Board, process: Process) -> None:
    """Ask a process for what its events do not contain."""
    client = process.client()
    board.name = client.get("/")["run"]["name"]
    for run in client.get("/runs"):
        board.take("run", run)
