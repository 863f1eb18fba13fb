"""The options of ``turnstile run`` for records of a run, and for going on from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, final

import attrs
from cyclopts import Parameter

from trio_turnstile import Phase

from ._arguments import UsageError
from ._job_plan import JobPlan
from ._joblog import JobLog
from ._keeping import Keeping, ask_to_forget
from ._options import RECORDS
from ._resume import Resumed

_FLAG = Parameter(negative=(), show_default=False)


@Parameter(name="*", group=RECORDS)
@final
@attrs.frozen(kw_only=True)
class RecordOptions:
    """Which records of a run are kept, and how a later run goes on from them."""

    joblog: Path | None = None
    """Append a line for each operation to this file. The columns are those of GNU
    parallel: Seq, Host, Starttime, JobRuntime, Send, Receive, Exitval, Signal, Command."""

    resume: Annotated[bool, _FLAG] = False
    """Skip the operations whose numbers are in the job log. The inputs have to be the same, in
    the same order."""

    resume_failed: Annotated[bool, _FLAG] = False
    """Like --resume, but run the failed operations again."""

    ledger: Path | None = None
    """Record in this file how the operation of each input ends, and skip the inputs that the
    file says have ended. So a run can be killed, and goes on when it is started again, with
    its inputs in any order. Interrupted operations are cleaned up first. See turnstile ledger
    --help."""

    retry_failed: Annotated[bool, _FLAG] = False
    """Run the inputs again that have failed according to the ledger."""

    accept_changes: Annotated[bool, _FLAG] = False
    """Go on with a ledger even though the commands have changed."""

    fresh: Annotated[bool, _FLAG] = False
    """Forget what the ledger knows."""

    statistics: str | None = None
    """Record how the run goes in this database, for turnstile report and for the page of
    --dashboard: an SQLite file, or an address such as postgresql://HOST/DATABASE. Several runs
    may share a database. Needs the extra "stats"."""

    def make_keeping(
        self, commands: Mapping[Phase, str | None], jobs: JobPlan | None
    ) -> Keeping | None:
        """Return how to keep the run in a ledger, or ``None`` without ``--ledger``.

        Raises:
          UsageError: for options without a ledger, or if the user does not agree to forget it.
        """
        if self.ledger is None:
            self._refuse_without_ledger()
            return None
        if self.fresh:
            ask_to_forget(self.ledger)
        fingerprint: dict[str, str] = {
            phase: text for phase, text in commands.items() if text is not None
        }
        if jobs is not None:  # where the jobs of an earlier run can be found
            fingerprint |= {"engine": jobs.engine, "job-dir": str(jobs.directory)}
        return Keeping(
            path=self.ledger,
            fingerprint=fingerprint,
            retry_failed=self.retry_failed,
            accept_changes=self.accept_changes,
            fresh=self.fresh,
        )

    def _refuse_without_ledger(self) -> None:
        options = {
            "--retry-failed": self.retry_failed,
            "--accept-changes": self.accept_changes,
            "--fresh": self.fresh,
        }
        for name, given in options.items():
            if given:
                raise UsageError(f"{name} is only for a ledger: give --ledger FILE too")

    def read_joblog(self) -> Resumed | None:
        """Return what is done according to the job log, or ``None`` without ``--resume``.

        Raises:
          UsageError: if there is no job log, or it cannot be read.
        """
        if not (self.resume or self.resume_failed):
            return None
        if self.joblog is None:
            raise UsageError("--resume reads the job log: give --joblog FILE too")
        try:
            return Resumed(self.joblog, failed_again=self.resume_failed)
        except OSError as error:
            raise UsageError(f"--joblog: {error}") from None

    def open_joblog(self) -> JobLog | None:
        """Open the job log, if the user wants one.

        Raises:
          UsageError: if it cannot be opened.
        """
        try:
            return None if self.joblog is None else JobLog(self.joblog)
        except OSError as error:
            raise UsageError(f"--joblog: {error}") from None
