"""The counts of the steps of a run, as documents."""

from __future__ import annotations

from trio_turnstile import Limiter, LiveRun, Manager, PipelineReport, Report, RunReport, StepReport

from ._documents import StepDoc, finite


def steps_of(run: LiveRun, report: RunReport) -> list[StepDoc]:
    """Return the counts of each step; a run of phases has one step."""
    if isinstance(report, PipelineReport):
        return [_step(step) for step in report.steps]
    assert isinstance(report, Report)
    limiter = run.limiter if isinstance(run, Manager) else None
    return [_operations(report, limiter.name if isinstance(limiter, Limiter) else None)]


def _step(step: StepReport) -> StepDoc:
    return StepDoc(
        name=step.name,
        limiter=step.limiter,
        received=step.received,
        completed=step.completed,
        discarded=step.discarded,
        failed=step.failed,
        diverted=step.diverted,
        cancelled=step.cancelled,
        skipped=step.skipped,
        in_flight=step.in_flight,
        queued=step.queued,
        waiting=step.waiting,
        window=None if step.window is None else finite(step.window),
        retried=step.retried,
        batches={str(trigger): number for trigger, number in step.batches.items()},
    )


def _operations(report: Report, limiter: str | None) -> StepDoc:
    return StepDoc(
        name="operations",
        limiter=limiter,
        received=report.received,
        completed=report.completed,
        discarded=0,
        failed=report.failed,
        diverted=report.diverted,
        cancelled=report.cancelled,
        skipped=report.skipped,
        in_flight=report.working,
        queued=0,
        waiting=0,
        window=None,
        retried=report.retried,
        batches={},
    )
