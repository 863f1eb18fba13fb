"""Events of a turnstile for structlog: ``pip install 'trio-turnstile[structlog]'``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trio_turnstile import Decision, ErrorNoted, Event, RunClosed, RunOpened

__all__ = ["log_events"]


def log_events(logger: Any = None) -> Callable[[Event], None]:
    """Return an observer that logs decisions, runs and errors with structlog.

    Pass it to `open_turnstile` or `Turnstile.observe`::

        async with open_turnstile(observers=[log_events()]) as turnstile:
            ...

    Changes of a limit, and beginnings and ends of runs, are logged at the level *info*, refusals
    at *debug*, errors at *warning*. Values bound with ``structlog.contextvars`` are those of the
    task in which the event occurred: for a signal, this is the throttle task.

    Args:
      logger: where to log; by default ``structlog.get_logger("trio_turnstile")``.

    Raises:
      ModuleNotFoundError: if structlog is not installed.
    """
    if logger is None:
        import structlog

        logger = structlog.get_logger("trio_turnstile")

    def observe(event: Event) -> None:
        if isinstance(event, Decision):
            (logger.info if event.applied else logger.debug)(
                "limit changed" if event.applied else "limit kept", **_decision(event)
            )
        elif isinstance(event, RunOpened):
            logger.info("run opened", run=event.run.name, kind=event.run.kind, id=event.run.id)
        elif isinstance(event, RunClosed):
            report = event.report
            logger.info(
                "run closed",
                run=event.run.name,
                id=event.run.id,
                errors=len(report.errors) + report.errors_omitted,
            )
        elif isinstance(event, ErrorNoted):
            error = event.error
            logger.warning(
                "error noted",
                run=event.run.name,
                step=error.phase,
                identifiers=list(error.identifiers),
                attempt=error.attempt,
                error=str(error),
            )

    return observe


def _decision(decision: Decision) -> dict[str, object]:
    """Return the fields of a decision that are not ``None``."""
    fields = {
        "limiter": decision.limiter,
        "before": decision.before,
        "after": decision.after,
        "reason": decision.reason.value,
        "signal": None if decision.signal is None else decision.signal.value,
        "by": decision.by,
        "note": decision.note,
    }
    evidence = {f"evidence_{name}": value for name, value in decision.evidence.items()}
    return {name: value for name, value in fields.items() if value is not None} | evidence
