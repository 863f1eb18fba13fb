"""How far a run has come: a live line on a terminal, plain lines elsewhere.

Both go to standard error, as standard output is for what the commands write. The time
left is told only when it is known how many inputs there are. It comes from the rate of
late, as a limit that was retuned has changed the rate.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, final

import attrs
import trio
from rich.console import Console
from rich.live import Live
from rich.text import Text

from ._output import write_all
from ._units import format_clock

_REFRESH = 0.2
_FIRST_LINE, _LAST_LINES = 10.0, 300.0


@final
@attrs.frozen(kw_only=True)
class Standing:
    """How far a run has come, at one moment."""

    limit: float
    """How many may run at a time."""
    running: int
    """How many do."""
    completed: int
    """How many operations have completed."""
    failed: int
    """How many have failed."""
    total: int | None
    """How many inputs there are; ``None`` while that is unknown."""
    state: str
    """What else is to be known, such as ``"draining"``."""

    @property
    def ended(self) -> int:
        """How many operations have ended."""
        return self.completed + self.failed


@final
class Pace:
    """The rate at which operations end, of late. Pure.

    It is taken over the last minute or the last 20 operations, whichever is longer.

    Args:
      now: when the run began, in seconds on any clock.
    """

    def __init__(self, now: float) -> None:
        self._seen = deque([(now, 0)])

    def rate(self, now: float, ended: int) -> float:
        """Return how many end in a second, if ``ended`` have ended by now."""
        seen = self._seen
        if ended > seen[-1][1] and now >= seen[-1][0] + 1:
            seen.append((now, ended))
        while len(seen) > 1 and now - seen[1][0] >= 60 and ended - seen[1][1] >= 20:
            seen.popleft()
        start, before = seen[0]
        return (ended - before) / (now - start) if now > start else 0.0


def describe(standing: Standing, rate: float) -> str:
    """Return the line that tells how far a run has come, ``rate`` being ended a second."""
    total, left = standing.total, "?"
    if total is not None and rate:
        left = format_clock((total - standing.ended) / rate)
    parts = (
        standing.state,
        f"limit {standing.limit}",
        f"running {standing.running}",
        f"done {standing.completed} of {'?' if total is None else total}",
        f"failed {standing.failed}",
        format_rate(rate),
        f"ETA {left}",
    )
    return ", ".join(filter(None, parts))


def format_rate(rate: float) -> str:
    """Return so many a second in a unit that suits it: ``12/s``, ``7.5/min``, ``3/h``."""
    for unit, seconds in (("s", 1), ("min", 60)):
        if rate * seconds >= 1 or not rate:
            return f"{rate * seconds:.3g}/{unit}"
    return f"{rate * 3600:.3g}/h"


class Progress(Protocol):
    """A way to show how far a run has come."""

    async def run(self) -> None:
        """Show it again and again, until cancelled."""

    def note(self, text: str) -> None:
        """Show a line about something that has happened."""

    def hide(self) -> None:
        """Leave the terminal to others, until `show`."""

    def show(self, *, mid_line: bool) -> None:
        """Take the terminal back, which others may have left in the middle of a line."""


def open_progress(look: Callable[[], Standing], *, quiet: bool) -> Progress:
    """Return the way that suits standard error; ``look`` tells how far the run has come."""
    console = Console(stderr=True, highlight=False)
    if quiet or not os.isatty(2) or console.is_dumb_terminal:
        return PlainLines(look, quiet=quiet)
    return LiveLine(look, console)


@final
class PlainLines:
    """Shows progress by lines, at first soon one after the other, then ever more seldom."""

    def __init__(self, look: Callable[[], Standing], *, quiet: bool) -> None:
        self._look = look
        self._quiet = quiet

    async def run(self) -> None:
        """Write a line after 10 seconds, 20 more, 40 more ... and in the end each 5 minutes."""
        if self._quiet:
            await trio.sleep_forever()
        pace, pause = Pace(trio.current_time()), _FIRST_LINE
        while True:
            await trio.sleep(pause)
            pause = min(2 * pause, _LAST_LINES)
            standing = self._look()
            self.note(describe(standing, pace.rate(trio.current_time(), standing.ended)))

    def note(self, text: str) -> None:
        """Write a line."""
        with suppress(OSError):  # if nobody reads it, the work is still to be done
            write_all(2, f"turnstile: {text}\n".encode(errors="backslashreplace"))

    def hide(self) -> None:
        """Do nothing: lines are not in the way."""

    def show(self, *, mid_line: bool) -> None:
        """Do nothing: lines are not in the way."""


@final
class LiveLine:
    """Shows progress by a line at the bottom of a terminal."""

    def __init__(self, look: Callable[[], Standing], console: Console) -> None:
        self._look = look
        self._pace = Pace(trio.current_time())
        self._console = console
        self._wanted = False
        self._live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    async def run(self) -> None:
        """Draw the line anew a few times a second; leave none behind."""
        self._wanted = True
        try:
            with suppress(OSError), self._live:  # a terminal can go away
                while True:
                    self._draw()
                    await trio.sleep(_REFRESH)
        finally:
            self._wanted = False

    def note(self, text: str) -> None:
        """Write a line above the live one."""
        with suppress(OSError):
            self._console.print(Text(f"turnstile: {text}"), soft_wrap=True)

    def hide(self) -> None:
        """Take the line away, until `show`."""
        with suppress(OSError):
            self._live.stop()

    def show(self, *, mid_line: bool) -> None:
        """Draw the line again, after what others have written."""
        with suppress(OSError):
            if mid_line:
                self._console.line()
            if self._wanted:
                self._live.start()
                self._draw()

    def _draw(self) -> None:
        standing = self._look()
        line = describe(standing, self._pace.rate(trio.current_time(), standing.ended))
        style = "bold red" if standing.failed else "bold"
        self._live.update(Text(line, style, no_wrap=True, overflow="ellipsis"), refresh=True)
