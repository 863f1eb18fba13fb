"""`LastRun`: notices that an object is used in another ``trio.run`` than before.

A limiter at module level outlives the run that used it. Every run has a clock of its own that
starts anywhere, so a time of one run means nothing in the next. And a task of one run cannot
wake a task of another run, in another thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

import trio


@final
class LastRun:
    """The trio run that used something last."""

    __slots__ = ("_token",)

    def __init__(self) -> None:
        self._token: trio.lowlevel.TrioToken | None = None

    def has_changed(self, used: object, *, in_use: bool = True) -> bool:
        """Return whether the run is another than at the last call; true the first time.

        Args:
          used: what is used, for the message.
          in_use: whether tasks of the last run may be using it now.

        Raises:
          RuntimeError: if it is in use, and the last run is another one that still goes on.
        """
        token = trio.lowlevel.current_trio_token()
        if token is self._token:
            return False
        if in_use and self._token is not None and _goes_on(self._token):
            raise RuntimeError(_IN_TWO_RUNS.format(used))
        self._token = token
        return True


_IN_TWO_RUNS = (
    "{!r} is in use in another trio run, in another thread, and tasks of two runs cannot wake "
    "each other: make one for each run, or use it with trio.from_thread.run"
)


def check_borrowers(used: object, borrowers: Iterable[object]) -> None:
    """Raise `RuntimeError` if one of the borrowers is a task of another trio run."""
    here = trio.lowlevel.current_root_task()
    for borrower in borrowers:
        if isinstance(borrower, trio.lowlevel.Task) and _root(borrower) not in (None, here):
            raise RuntimeError(_IN_TWO_RUNS.format(used))


def _root(task: trio.lowlevel.Task) -> trio.lowlevel.Task | None:
    """Return the first task of the run that the task is in; ``None`` if the run has ended."""
    while task.parent_nursery is not None:
        task = task.parent_nursery.parent_task
    ended = getattr(task.coro, "cr_frame", None) is None
    return None if ended else task


def _goes_on(run: trio.lowlevel.TrioToken) -> bool:
    try:
        run.run_sync_soon(_nothing, idempotent=True)
    except trio.RunFinishedError:
        return False
    return True


def _nothing() -> None:
    """Do nothing: posting this only shows whether the run still goes on."""
