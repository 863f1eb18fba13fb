"""`Terminal`: the whole screen and single keys, always restored at the end."""

from __future__ import annotations

import os
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, final

from rich.console import Console, ConsoleDimensions, Group
from rich.live import Live
from rich.text import Text

_DUMB = ("dumb", "unknown", "")


@final
class Terminal:
    """The terminal of the process.

    Args:
      console: writes to it.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(
            console=console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._before: list[Any] | None = None
        self._taken = False

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take the screen and the keys for a block."""
        self.take()
        try:
            yield
        finally:
            self.give_back()

    def take(self) -> None:
        """Take the screen, and get each key at once; can be called again after `give_back`."""
        if self._taken:
            self.give_back()  # a shell or another program has used the terminal meanwhile
        self._taken = True
        if os.isatty(0):
            self._before = termios.tcgetattr(0)
            tty.setcbreak(0)
        self._live.start()

    def give_back(self) -> None:
        """Restore the terminal as it was before."""
        self._taken = False
        with suppress(OSError):
            self._live.stop()
        if self._before is not None:
            with suppress(termios.error):
                termios.tcsetattr(0, termios.TCSADRAIN, self._before)

    def draw(self, lines: Sequence[Text]) -> None:
        """Show these lines."""
        if self._taken:
            self._live.update(Group(*lines), refresh=True)

    def measure(self) -> tuple[int, int]:
        """Return how many columns and lines there are now."""
        with suppress(OSError):
            # COLUMNS and LINES are not used: the terminal may have been resized since.
            self._console.size = ConsoleDimensions(*os.get_terminal_size(1))
        return self._console.size


def can_be_taken() -> bool:
    """Tell whether standard output is a terminal that can show a whole screen."""
    return os.isatty(1) and os.environ.get("TERM", "").lower() not in _DUMB


def shows_ascii_alone(encoding: str) -> bool:
    """Tell whether only ASCII is sure to be displayed correctly."""
    names = ("LC_ALL", "LC_CTYPE", "LANG")
    locale = next((value for name in names if (value := os.environ.get(name))), "C")
    return "utf" not in encoding.lower() or locale in ("C", "POSIX")
