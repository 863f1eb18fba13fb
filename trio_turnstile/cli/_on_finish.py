"""``--on-finish CMD``: a command that runs once, when a run is over."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress

import trio
from trio.lowlevel import checkpoint

from ._signals import STOPS
from ._summary import Summary

_KILL_AFTER = 5.0


async def run_on_finish(command: str, summary: Summary) -> str | None:
    """Run a command, with the result of a run in its environment.

    Args:
      command: what ``/bin/sh`` runs. It writes to our standard output and standard error.
      summary: the result of the run.

    Returns:
      A note for the user if the command did not succeed.

    Cancellation:
      Ends the command with its process group: by SIGTERM, and by SIGKILL 5 s later.
    """
    try:
        process = await trio.run_process(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            check=False,
            env={**os.environ, **_variables(summary)},
            start_new_session=True,
            deliver_cancel=_end_group,
        )
    except OSError as error:
        return f"--on-finish could not be started: {error.strerror}"
    return f"--on-finish: exit status {process.returncode}" if process.returncode else None


async def run_unless_stopped(
    command: str | None,
    summary: Summary,
    note: Callable[[str], object],
    signals: AsyncIterator[int],
) -> None:
    """Run the command, if there is one; a stop signal ends it.

    Args:
      command: what to run.
      summary: the result of the run.
      note: shows a line to the user.
      signals: the signals that arrive.
    """
    if command is None:
        return await checkpoint()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_on_stop, signals, nursery.cancel_scope)
        complaint = await run_on_finish(command, summary)
        if complaint is not None:
            note(complaint)
        nursery.cancel_scope.cancel()


async def _cancel_on_stop(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for signum in signals:
        if signum in STOPS:
            scope.cancel()


async def _end_group(process: trio.Process) -> None:
    for signum in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
        await trio.sleep(_KILL_AFTER)


def _variables(summary: Summary) -> Mapping[str, str]:
    figures = {
        "COMPLETED": summary.completed,
        "FAILED": summary.failed,
        "STATUS": summary.status,
        "SECONDS": f"{summary.seconds:.3f}",
    }
    return {f"TURNSTILE_{name}": str(figure) for name, figure in figures.items()}
