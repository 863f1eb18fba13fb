"""The state of a limiter, put together from its parts for people and for tests."""

from __future__ import annotations

import trio

from .controller import LimitController
from .events import LimiterStatistics


def statistics_of(
    controller: LimitController, sack: trio.CapacityLimiter, closed: bool
) -> LimiterStatistics:
    """Return the state at this moment; it copies the borrowers, as trio does."""
    tokens = sack.statistics()
    return LimiterStatistics(
        name=controller.name,
        borrowed_tokens=tokens.borrowed_tokens,
        total_tokens=controller.limit,
        borrowers=list(tokens.borrowers),
        tasks_waiting=tokens.tasks_waiting,
        cap=controller.cap,
        ceiling=controller.ceiling,
        minimum=controller.throttle.min,
        paused=controller.resume_at is not None,
        closed=closed,
        bounds=controller.bounds,
        withheld=controller.withheld,
    )
