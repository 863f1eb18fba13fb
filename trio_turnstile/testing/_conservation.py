"""The law of the books: what was received has met one fate, or is in flight."""

from __future__ import annotations

from trio_turnstile._phases.manager import Manager, Report
from trio_turnstile._pipelines.reports import PipelineReport, StepReport
from trio_turnstile._pipelines.run import PipelineRun


def assert_conserved(account: Manager | Report | PipelineRun | PipelineReport | StepReport) -> None:
    """Assert that no item was lost or counted twice.

    At every instant of a run, and after every end of it, for each of its steps::

        received == completed + discarded + failed + diverted + cancelled + in_flight

    Args:
      account: of a run of phases or of a pipeline, live or final; or of one step.

    Raises:
      AssertionError: if the books do not balance; the message has the figures.
    """
    if isinstance(account, PipelineRun | PipelineReport):
        for stage in account.steps:
            assert_conserved(stage)
        return
    if isinstance(account, StepReport):
        discarded, in_flight = account.discarded, account.in_flight
    else:
        discarded, in_flight = 0, account.working
    fates = {
        "completed": account.completed,
        "discarded": discarded,
        "failed": account.failed,
        "diverted": account.diverted,
        "cancelled": account.cancelled,
        "in flight": in_flight,
    }
    total = sum(fates.values())
    if account.received != total:
        figures = " + ".join(f"{fate} {count}" for fate, count in fates.items())
        raise AssertionError(
            f"the books do not balance: received {account.received}, but {figures} = {total}"
        )
