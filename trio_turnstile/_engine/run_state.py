"""`RunState`: the errors of a run, and how it ends before its source does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar, final

import trio

from trio_turnstile._errors import Aborted, ConcurrentError, cause_of
from trio_turnstile._limiting.live_run import RunStage
from trio_turnstile._util import check_whole

R = TypeVar("R")

TRACEBACKS_KEPT = 20
"""How many of the kept errors keep their tracebacks, and so all locals of their frames.

10,000 errors of a step with one frame took 23 MB with tracebacks, and 8 MB without.
"""


@final
class RunState:
    """The errors of a run, and how it ends before its source does.

    Args:
      max_errors: how many errors to keep.
    """

    def __init__(self, max_errors: int) -> None:
        check_whole("max_errors", max_errors, 0)
        self.on_error: Callable[[ConcurrentError], object] = lambda _: None
        """Is called with each error, including those that are not kept."""
        self.errors: list[ConcurrentError] = []
        """The first errors."""
        self.errors_omitted: int = 0
        """How many errors came after those that are kept."""
        self.fatal: list[ConcurrentError] = []
        """The errors that stopped the run."""
        self.scope: trio.CancelScope = trio.CancelScope()
        """Cancelling it ends the run at once."""
        self.stopping: bool = False
        """Whether the run was told to stop, or has ended."""
        self.ended: bool = False
        """Whether the run is over, so that its books are closed."""
        self._max_errors = max_errors
        self._stops = trio.Event()
        self._stop_source: list[Callable[[], object]] = []

    @property
    def stopped_by(self) -> ConcurrentError | None:
        """The error that stopped the run, or is about to; ``None`` if there is none."""
        return self.fatal[0] if self.fatal else None

    @property
    def stage(self) -> RunStage:
        """How far the run has come."""
        if self.ended:
            return "ended"
        if self.scope.cancel_called:
            return "cancelling"
        return "draining" if self.stopping else "running"

    def record(self, error: ConcurrentError) -> None:
        """Keep an error that does not stop the run, or count it."""
        if len(self.errors) >= TRACEBACKS_KEPT:
            _drop_tracebacks(error)
        self._keep(error)

    def _keep(self, error: ConcurrentError) -> None:
        if len(self.errors) < self._max_errors:
            self.errors.append(error)
        else:
            self.errors_omitted += 1
        self.on_error(error)

    def at_drain(self, stop_source: Callable[[], object]) -> None:
        """Call ``stop_source`` when the run is drained."""
        self._stop_source.append(stop_source)

    def drain(self, deadline: float | None = None) -> None:
        """Take no more items; let those in hand finish until ``deadline``, on trio's clock."""
        self._begin_to_stop()
        for stop_source in self._stop_source:
            stop_source()
        if deadline is not None:
            self.scope.deadline = min(self.scope.deadline, deadline)

    def cancel(self) -> None:
        """End the run at once; what is in hand is cancelled."""
        self._begin_to_stop()
        self.scope.cancel()

    def stop(self, error: ConcurrentError, when: Literal["soon", "now"]) -> None:
        """Keep ``error``, and end the run: take no more items, or cancel everything at once."""
        self._keep(error)
        self.fatal.append(error)
        self.drain()
        if when == "now":
            self.scope.cancel()

    def end(self) -> None:
        """Note that the run is over."""
        self.ended = True
        self._begin_to_stop()

    def conclude(self, message: str, report: R) -> R:
        """Return the report of a run that went well.

        Raises:
          Aborted: the errors that stopped the run, with the report.
        """
        if not self.fatal:
            return report
        aborted = Aborted(message, self.fatal)
        aborted.report = report
        raise aborted

    async def wait_stopping(self) -> None:
        """Wait until the run was told to stop, or has ended."""
        await self._stops.wait()

    def _begin_to_stop(self) -> None:
        self.stopping = True
        self._stops.set()


def _drop_tracebacks(error: ConcurrentError) -> None:
    """Drop the tracebacks of an error and of all that led to it; note only where it was raised."""
    place = _raised_at(cause_of(error))
    seen = set[int]()
    pending: list[BaseException | None] = [error]
    while pending:
        part = pending.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        BaseException.with_traceback(part, None)  # an exception may be a frozen value
        pending += [part.__cause__, part.__context__]
        if isinstance(part, BaseExceptionGroup):
            pending += part.exceptions
    if place:
        error.add_note(place)


def _raised_at(error: BaseException) -> str:
    traceback = error.__traceback__
    if traceback is None:
        return ""
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    return f"raised in {code.co_filename}:{traceback.tb_lineno}, {code.co_qualname}"
