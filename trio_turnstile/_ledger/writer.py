"""`Writer`: one thread writes, and commits together everything that came while it was busy.

So nothing waits for the disk in the event loop. On a slow disk each operation waits for a commit,
but operations share commits. The thread is our own: starting one of trio's threads for each
commit, and returning from it, would take twice as long.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar, cast, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._engine.recording import LedgerError

R = TypeVar("R")

_PATIENCE = 0.01
"""How many seconds a note that nobody waits for is held back, so that others share its commit."""


@final
@attrs.define(eq=False)
class _Job(Generic[R]):
    """Something to be done in a transaction."""

    function: Callable[[], R]
    task: trio.lowlevel.Task | None = None
    """The task that goes on when the job is on disk, if any waits for that."""
    at_once: bool = True
    """Whether it should not wait for others to share its commit."""
    result: R | None = None
    failure: LedgerError | None = None


@final
class Writer:
    """Carries out jobs that write, in a thread of its own.

    Args:
      connection: to the ledger.
      path: the file of the ledger.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._file = _file_at(path)
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        """The jobs to do; ``None`` comes last."""
        self._failure: LedgerError | None = None
        self._closed = False
        self._trio = trio.lowlevel.current_trio_token()
        self._thread = Thread(target=self._write_all, name=f"ledger {path}", daemon=True)
        self._thread.start()

    @enable_ki_protection
    async def do(self, function: Callable[[], R]) -> R:
        """Call ``function`` in the thread, and return its result when everything is on disk.

        It is shielded from cancellation: either the job is on disk, or this raises an error.

        Raises:
          LedgerError: if the ledger cannot be written, now or since some time ago; or if it
            is closed.
        """
        if self._closed:
            await trio.lowlevel.checkpoint()
            raise LedgerError(f"the ledger {self._path} is closed: stay in its block to use it")
        job = _Job(function, trio.lowlevel.current_task())
        self._jobs.put(job)
        # This acts like a shield, which would cost a tenth of what the ledger costs in all.
        await trio.lowlevel.wait_task_rescheduled(_refuse_to_be_cancelled)
        if job.failure is not None:
            raise LedgerError(str(job.failure)) from job.failure.__cause__
        return cast("R", job.result)

    def post(self, function: Callable[[], object], *, at_once: bool = False) -> None:
        """Call ``function`` in the thread at some time, before everything that is asked for later.

        Args:
          function: the function to call.
          at_once: whether it should not wait for others to share its commit.
        """
        self._jobs.put(_Job(function, at_once=at_once))

    def stop(self) -> None:
        """Take no more jobs; those that were asked for before are still done."""
        self._closed = True
        self._jobs.put(None)

    def join(self) -> None:
        """Wait until everything is written. This blocks."""
        self._thread.join()

    # ---- in the thread ----

    def _write_all(self) -> None:
        more = True
        while more:
            jobs, more = self._take()
            if jobs:
                self._write(jobs)
                self._trio.run_sync_soon(_tell, jobs)

    def _take(self) -> tuple[list[_Job[Any]], bool]:
        """Wait for a job, and return all jobs that are there, and whether more may come."""
        jobs: list[_Job[Any]] = []
        at_once = False
        job = self._jobs.get()
        while job is not None:
            jobs.append(job)
            at_once = at_once or job.at_once
            try:
                job = self._jobs.get(timeout=0 if at_once else _PATIENCE)
            except Empty:
                return jobs, True
        return jobs, False

    def _write(self, jobs: list[_Job[Any]]) -> None:
        if self._failure is None:
            try:
                self._commit(jobs)
            except Exception as error:  # of SQLite or of the file system
                text = f"the ledger {self._path} cannot be written any more: {error}"
                self._failure = LedgerError(text)
                self._failure.__cause__ = error
        for job in jobs:
            job.failure = self._failure

    def _commit(self, jobs: list[_Job[Any]]) -> None:
        if _file_at(self._path) != self._file:  # nobody would ever find what is written
            raise OSError("another file has taken its place")
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for job in jobs:
                job.result = job.function()
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise


def _tell(jobs: list[_Job[Any]]) -> None:
    for job in jobs:
        if job.task is not None:
            trio.lowlevel.reschedule(job.task)


def _refuse_to_be_cancelled(_raise_cancel: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


def _file_at(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
