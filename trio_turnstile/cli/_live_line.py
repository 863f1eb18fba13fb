"""The progress of a run as a line at the bottom of a terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import final

import trio
from rich.console import Console
from rich.live import Live
from rich.text import Text

from ._progress import Pace, ProgressSnapshot, progress_line
from ._writer import Writer

_REFRESH = 0.2


@final
class _Terminal(io.TextIOBase):
    """Standard error as a file for rich that does not wait for the terminal."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._text = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(sys.stderr, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._text += text
        return len(text)

    def flush(self) -> None:
        text, self._text = self._text, ""
        if text:
            self._writer.write(text.encode(self.encoding, errors="backslashreplace"))


class _CursorShown(Console):
    """A console with a visible cursor: a process that is suspended or killed cannot show it."""

    def show_cursor(self, show: bool = True) -> bool:
        return show


def open_console(writer: Writer) -> Console:
    """Return standard error as a console."""
    return _CursorShown(file=_Terminal(writer), highlight=False)  # type: ignore[arg-type]


@final
class LiveLine:
    """Shows progress in a line at the bottom of a terminal.

    Args:
      console: the terminal.
      writer: writes to it.
    """

    def __init__(self, console: Console, writer: Writer | None = None) -> None:
        self._writer = writer
        self._pace = Pace(trio.current_time())
        self._console = console
        self._snapshot: Callable[[], ProgressSnapshot] | None = None  # while `run` runs
        self._live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    async def run(self, snapshot: Callable[[], ProgressSnapshot]) -> None:
        """Redraw the line five times a second, and erase it at the end."""
        self._snapshot = snapshot
        try:
            with suppress(OSError), self._live:  # a terminal can disappear
                while True:
                    if self._writer is None or not self._writer.behind:
                        self._draw(snapshot())
                    await trio.sleep(_REFRESH)
        finally:
            self._snapshot = None

    def note(self, text: str) -> None:
        """Write a line above the live line."""
        with suppress(OSError):
            self._console.print(Text(f"turnstile: {text}"), soft_wrap=True)

    def flush(self) -> None:
        """Wait until everything is written."""
        if self._writer is not None:
            self._writer.flush()

    def hide(self) -> None:
        """Erase the line, until `show`."""
        with suppress(OSError):
            self._live.stop()

    def show(self, *, mid_line: bool) -> None:
        """Draw the line again, below the output of others."""
        with suppress(OSError):
            if mid_line:
                self._console.line()
            if self._snapshot is not None:
                self._live.start()
                self._draw(self._snapshot())

    def _draw(self, snapshot: ProgressSnapshot) -> None:
        line = progress_line(snapshot, self._pace)
        style = "bold red" if snapshot.failed else "bold"
        self._live.update(Text(line, style, no_wrap=True, overflow="ellipsis"), refresh=True)
