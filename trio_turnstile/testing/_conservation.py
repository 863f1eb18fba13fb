"""Conservation: each item that was received has ended in exactly one way, or is in flight."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from trio_turnstile._phases.manager import Manager, Report
from trio_turnstile._pipelines.reports import PipelineReport, StepReport
from trio_turnstile._pipelines.run import PipelineRun


def assert_conserved(account: Manager | Report | PipelineRun | PipelineReport | StepReport) -> None:
    """Assert that no item was lost or counted twice.

    At every instant of a run, and however it has ended, each of its steps satisfies::

        received == completed + discarded + failed + diverted + cancelled + skipped + in_flight

    Once a run has ended, nothing is in flight, and what a step passed on is what the next
    step received.

    Args:
      account: a run of phases or of a pipeline, or its report, live or final; or the report of
        one step.

    Raises:
      AssertionError: if the books do not balance; the message has the figures.
    """
    if isinstance(account, PipelineRun | Manager):
        account = account.report()
    if isinstance(account, PipelineReport):
        _assert_pipeline(account)
    elif isinstance(account, StepReport):
        _assert_step(account)
    else:
        _assert_operations(account)


def _assert_pipeline(report: PipelineReport) -> None:
    for step in report.steps:
        _assert_step(step)
        if report.ended:
            _assert_nothing_left(f"step {step.name!r}", step.in_flight)
    if report.ended:
        _assert_joined(report.steps)


def _assert_step(step: StepReport) -> None:
    fates = {
        "completed": step.completed,
        "discarded": step.discarded,
        "failed": step.failed,
        "diverted": step.diverted,
        "cancelled": step.cancelled,
        "skipped": step.skipped,
        "in flight": step.in_flight,
    }
    _assert_balance(f"step {step.name!r}", step.received, fates)


def _assert_operations(report: Report) -> None:
    fates = {
        "completed": report.completed,
        "failed": report.failed,
        "diverted": report.diverted,
        "cancelled": report.cancelled,
        "skipped": report.skipped,
        "in flight": report.working,
    }
    _assert_balance("the run", report.received, fates)
    if report.ended:
        _assert_nothing_left("the run", report.working)


def _assert_balance(whose: str, received: int, fates: dict[str, int]) -> None:
    total = sum(fates.values())
    if received != total or min(fates.values()) < 0:
        figures = " + ".join(f"{fate} {count}" for fate, count in fates.items())
        raise AssertionError(
            f"the books of {whose} do not balance: received {received}, but {figures} = {total}"
        )


def _assert_nothing_left(whose: str, in_flight: int) -> None:
    if in_flight:
        raise AssertionError(
            f"the books of {whose} are not closed: the run has ended with {in_flight} in flight"
        )


def _assert_joined(steps: Sequence[StepReport]) -> None:
    for step, following in pairwise(steps):
        if step.passed_on != following.received:
            raise AssertionError(
                f"items were lost between two steps: {step.name!r} passed {step.passed_on} on, "
                f"but {following.name!r} received {following.received}"
            )
