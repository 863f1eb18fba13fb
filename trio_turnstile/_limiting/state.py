"""The state of a limiter, put together from its parts for people and for tests."""

from __future__ import annotations

from .controller import LimitController
from .events import LimiterStatistics
from .line import Line


def statistics_of(controller: LimitController, line: Line, closed: bool) -> LimiterStatistics:
    """Return the state at this moment; it copies the borrowers, as trio does."""
    tokens = line.inner.statistics()
    return LimiterStatistics(
        name=controller.name,
        borrowed_tokens=line.borrowed,
        total_tokens=controller.limit,
        borrowers=list(tokens.borrowers),
        tasks_waiting=tokens.tasks_waiting + line.order.size,
        cap=controller.cap,
        ceiling=controller.ceiling,
        minimum=controller.throttle.min,
        paused=controller.resume_at is not None,
        closed=closed,
        bounds=controller.bounds,
        withheld=controller.withheld,
    )
