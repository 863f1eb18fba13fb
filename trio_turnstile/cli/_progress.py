"""The progress of a run: a live line on a terminal, plain lines elsewhere.

Both go to standard error, as standard output is for the output of the commands. The remaining
time is shown only if the number of inputs is known. It is computed from the recent rate,
because a change of the limit changes the rate.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol, final

import attrs
import trio

from ._durations import format_clock
from ._printer import Screen
from ._writer import Writer

_FIRST_LINE, _LAST_LINES = 10.0, 300.0


@final
@attrs.frozen(kw_only=True)
class ProgressSnapshot:
    """How far a run has come, at one moment."""

    limit: float
    """How many operations may run at a time."""
    running: int
    """How many operations are running."""
    completed: int
    """How many operations have completed."""
    failed: int
    """How many have failed."""
    skipped: int
    """How many had ended in an earlier run."""
    total: int | None
    """How many inputs there are; ``None`` while that is unknown."""
    state: str
    """How the run is being ended early, such as ``"draining"``; empty if it is not."""

    cluster: str = ""
    """What the cluster is doing, if jobs do the work."""
    why: str = ""
    """Why the limit has its value, if it is adaptive."""

    @property
    def ended(self) -> int:
        """How many operations have ended."""
        return self.completed + self.failed + self.skipped


@final
class Pace:
    """The recent rate at which operations end. Sans-I/O.

    The rate is measured over the last minute or the last 20 operations, whichever is longer.
    The measurement starts again after each change of the limit.

    Args:
      now: when the run began, in seconds on any clock.
    """

    def __init__(self, now: float) -> None:
        self._seen = deque([(now, 0)])
        self._limit: float | None = None

    def rate(self, now: float, ended: int, limit: float = 0) -> float:
        """Return how many operations end per second, if ``ended`` have ended by now."""
        seen = self._seen
        if limit != self._limit:
            if self._limit is not None:
                self._seen = seen = deque([(now, ended)])
            self._limit = limit
        if ended > seen[-1][1] and now >= seen[-1][0] + 1:
            seen.append((now, ended))
        while len(seen) > 1 and now - seen[1][0] >= 60 and ended - seen[1][1] >= 20:
            seen.popleft()
        start, before = seen[0]
        return (ended - before) / (now - start) if now > start else 0.0


def describe(snapshot: ProgressSnapshot, rate: float) -> str:
    """Return the progress line, if ``rate`` operations end per second."""
    total, left = snapshot.total, "?"
    if total is not None and rate and snapshot.limit:
        left = format_clock((total - snapshot.ended) / rate)
    parts = (
        snapshot.state,
        snapshot.cluster,
        f"limit {snapshot.limit}{f' ({snapshot.why})' if snapshot.why else ''}",
        f"running {snapshot.running}",
        f"done {snapshot.completed} of {'?' if total is None else total}",
        f"failed {snapshot.failed}",
        f"skipped {snapshot.skipped}" if snapshot.skipped else "",
        format_rate(rate),
        # A run that is being ended does not reach its last input.
        "" if snapshot.state else f"ETA {left}",
    )
    return ", ".join(filter(None, parts))


def format_rate(rate: float) -> str:
    """Return a rate per second in a suitable unit: ``12/s``, ``7.5/min``, ``3/h``."""
    for unit, seconds in (("s", 1), ("min", 60)):
        if rate * seconds >= 1 or not rate:
            return f"{rate * seconds:.3g}/{unit}"
    return f"{rate * 3600:.3g}/h"


class Progress(Screen, Protocol):
    """A way to show the progress of a run, and notes to the user."""

    async def run(self, snapshot: Callable[[], ProgressSnapshot]) -> None:
        """Show the progress until cancelled; ``snapshot`` returns how far the run has come."""

    def note(self, text: str) -> None:
        """Show a line about an event. Does not wait for whoever reads it."""

    def flush(self) -> None:
        """Wait until everything is written. Blocks as long as that takes."""


@final
class PlainLines:
    """Shows progress in plain lines, with longer and longer pauses between them.

    Args:
      writer: writes to standard error.
      quiet: whether to show only notes.
    """

    def __init__(self, writer: Writer, *, quiet: bool) -> None:
        self._writer = writer
        self._quiet = quiet

    async def run(self, snapshot: Callable[[], ProgressSnapshot]) -> None:
        """Write a line after 10 s, after 20 s more, 40 s more, and finally every 5 minutes."""
        if self._quiet:
            await trio.sleep_forever()
        pace, pause = Pace(trio.current_time()), _FIRST_LINE
        while True:
            await trio.sleep(pause)
            pause = min(2 * pause, _LAST_LINES)
            line = progress_line(snapshot(), pace)
            if not self._writer.behind:  # an old line is of no use
                self.note(line)

    def note(self, text: str) -> None:
        """Write a line."""
        self._writer.write(f"turnstile: {text}\n".encode(errors="backslashreplace"))

    def flush(self) -> None:
        """Wait until everything is written."""
        self._writer.flush()

    def hide(self) -> None:
        """Do nothing: plain lines and output do not get in each other's way."""

    def show(self, *, mid_line: bool) -> None:
        """Do nothing: plain lines and output do not get in each other's way."""


def progress_line(snapshot: ProgressSnapshot, pace: Pace) -> str:
    """Return the progress line for now."""
    limit = 0 if snapshot.why else snapshot.limit  # an adaptive limit changes all the time
    return describe(snapshot, pace.rate(trio.current_time(), snapshot.ended, limit))
