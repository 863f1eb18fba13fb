"""`ShellOperation`: the four phases for one input, each a shell command or nothing.

The output is printed, and the line of the job log written, after the clean-up, because only
then has the last command of the operation ended.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, final

import attrs
import trio
from trio.lowlevel import checkpoint

from trio_turnstile import Channels, ConcurrentError, LedgerEntry, Phase, Scalable

from ._columns import Input
from ._job_plan import other_engine
from ._joblog import Entry
from ._label import Subject
from ._output import Pipe
from ._process import CommandFailed, Exit, run_shell
from ._run_context import RunContext
from ._template import Template

if TYPE_CHECKING:
    from trio_turnstile.clusters import JobSpec

    from ._job_run import JobRun

_MOST_VARIABLES = 100
"""How many columns are in the environment; more could exceed a limit of the system."""


@final
class ShellOperation(Scalable):
    """The commands for one input.

    Args:
      context: shared by the operations of the run.
      seq: the number of the input, from 1.
      given: the input.
      place: the place of its output among the outputs of the run, from 1.
      left: its entry in the ledger, if the kill of an earlier run interrupted it.
    """

    def __init__(
        self,
        context: RunContext,
        seq: int,
        given: Input,
        place: int,
        left: LedgerEntry | None = None,
    ) -> None:
        self.seq = seq
        self.text = given.text
        self.given = given
        """Its input."""
        self._place = place
        self._left = left
        self._context = context
        self._slot = None if context.slots is None else context.slots.take()
        self._attempt = 0
        self._date = 0.0  # when the attempt began, in seconds since 1970
        self._began = self._ended = 0.0  # the attempt without clean-up, on trio's clock
        self._streams: list[Pipe] = []
        self._exit: Exit | None = None
        self._job: JobRun | None = None
        self._recalled: Mapping[str, Any] = {}
        self.failure: tuple[Phase, int, Exception] | None = None
        """Phase, attempt and error of the last attempt, if it failed."""

    @property
    def identifiers(self) -> tuple[str, ...]:
        """The input."""
        return (self.text,)

    @property
    def identity(self) -> str:
        """Its identity in a ledger."""
        return self.given.identity

    @property
    def started(self) -> bool:
        """Whether an attempt has begun."""
        return self._attempt > 0

    @property
    def goes_on(self) -> bool:
        """Whether its job is left running."""
        return self._job is not None and self._job.goes_on

    def recall(self, facts: Mapping[str, Any]) -> Phase:
        """Go on with the job that an earlier run submitted, or was about to submit."""
        if "token" not in facts:
            return "prepare"
        self._recalled, self._left = facts, None
        self._context.interrupted.cleaned()
        return "work"

    def error_of_last_attempt(self) -> ConcurrentError | None:
        """Return the error of a failed operation, if its next attempt did not begin."""
        if self.failure is None:
            return None
        phase, attempt, cause = self.failure
        error = ConcurrentError(str(cause), item=self, phase=phase, attempt=attempt)
        error.__cause__ = cause
        return error

    def skipped(self) -> None:
        """Finish without output, and give back the slot, so that others may go on."""
        self._context.outlet.finish(self._place)
        self._give_back_slot()

    def refused(self, error: BaseException | None) -> None:
        """Fail before any attempt, as the limit has no room for it."""
        if isinstance(error, Exception):
            self.failure = ("prepare", 1, error)
        self._finish()
        self._give_back_slot()

    def fill_plainly(self, template: Template) -> str:
        """Fill a text in which nothing needs quoting."""
        return template.fill(self.given, self.seq, self._slot or 1, str)

    async def prepare(self, channels: Channels) -> None:
        """Begin an attempt as soon as there is room and there are files for it."""
        await self._begin(channels)
        await self._attempt_phase("prepare")

    async def _begin(self, channels: Channels) -> None:
        self._forget_job()
        self.seq = channels.number or self.seq
        await self._context.room.wait()
        try:
            if self._context.cost is not None:
                self._context.cost.check(self.given)
            await self._open_streams()
        except (OSError, ValueError) as error:
            self.failure = ("prepare", self._attempt + 1, error)
            raise
        self._attempt += 1
        self.failure = self._exit = None
        self._date = time.time()
        self._began = self._ended = trio.current_time()
        for stream in self._streams:
            stream.clear()  # the output of a failed attempt is dropped

    async def work(self, channels: Channels) -> None:
        """Run the work command here, or as a job."""
        if self._context.jobs is None and not self._recalled:
            return await self._attempt_phase("work")
        facts, self._recalled = self._recalled, {}
        if facts:
            await self._begin(channels)
        with self._failure_noted("work"):
            await self._have_done(channels, facts)

    async def monitor(self, channels: Channels) -> None:
        """Run the command that waits for the work."""
        await self._attempt_phase("monitor")

    async def cleanup(self, channels: Channels) -> None:
        """Run the clean-up command, then log the operation and print its output."""
        if self._left is not None:
            return await self._clean_up_left()
        self._context.on_cleanup()
        try:
            await self._clean_up_and_finish()
        finally:
            self._give_back_slot()
            # A failed operation may be kept, but not its block.
            if isinstance(self.given.block, bytes):
                self.given = attrs.evolve(self.given, block=None)

    async def _clean_up_and_finish(self) -> None:
        if not self.started and self.failure is None:
            return await checkpoint()
        exit_before = self._exit
        try:
            await self._clean_up()
        finally:
            if exit_before is None or not exit_before.ok:
                self._exit = exit_before  # the log shows the first failure
            self._finish()

    def _give_back_slot(self) -> None:
        if self._context.slots is not None and self._slot is not None:
            self._context.slots.give_back(self._slot)
            self._slot = None

    async def _clean_up_left(self) -> None:
        """Clean up after a run that was killed, and log the operation if its outcome is known."""
        assert self._left is not None
        left, self._left = self._left, None
        self._attempt, self._date = left.attempt, left.began
        try:
            await self._clean_up()
        finally:
            self._context.interrupted.cleaned()
            if left.outcome is None:
                self._close_streams()
                await self._context.interrupted.wait_all()
            else:
                self._give_back_slot()
                self._exit = Exit(0 if left.outcome == "completed" else 1)
                self._finish()
            self._attempt = 0

    async def _clean_up(self) -> None:
        if "cleanup" not in self._context.commands or not self.started:
            return await checkpoint()
        await self._open_streams(cleanup=True)
        await self._run("cleanup")

    async def _attempt_phase(self, phase: Phase) -> None:
        with self._failure_noted(phase), self._context.stopping.shield():
            await self._run(phase)

    async def _have_done(self, channels: Channels, facts: Mapping[str, Any]) -> None:
        """Do the work as a job on a cluster."""
        if self._context.jobs is None:
            raise ValueError(other_engine(facts))
        from ._job_run import JobRun

        self._close_streams()  # the job may take days
        self._exit = None
        job = JobRun(self._context.jobs, self._context.stopping, self._opened_streams)
        self._job = job
        try:
            await job.carry_out(self._make_spec, channels, facts)
        finally:
            self._exit, self._ended = job.exit, trio.current_time()
        self._check_streams()

    def _make_spec(self) -> JobSpec:
        assert self._context.jobs is not None
        command = self._fill(self._context.commands["work"])
        return self._context.jobs.make_spec(self.given, self.seq, command, self._variables("work"))

    async def _opened_streams(self) -> Sequence[Pipe]:
        await self._open_streams()
        return self._streams

    def _forget_job(self) -> None:
        if self._job is not None:
            self._job.forget()
            self._job = None

    @contextmanager
    def _failure_noted(self, phase: Phase) -> Iterator[None]:
        # An operation that waits for another attempt, or for anything else, must keep no files.
        try:
            yield
        except BaseException as error:
            if isinstance(error, Exception):
                self.failure = (phase, self._attempt, error)
            self._close_streams()
            raise

    async def _run(self, phase: Phase) -> None:
        template = self._context.commands.get(phase)
        if template is None:
            return await checkpoint()
        self._exit = None
        try:
            exit_ = await run_shell(
                self._fill(template),
                launcher=self._context.launcher,
                streams=self._streams,
                env=self._environment(phase),
                time_limit=self._context.time_limit if phase != "cleanup" else self._context.grace,
                term_seq=self._context.term_seq,
                stdin=self.given.block if phase == "work" else None,
                cleanup=phase == "cleanup",
                on_exit=self._note_exit,
            )
        finally:
            if phase != "cleanup":
                self._ended = trio.current_time()
        self._check_streams()
        if not exit_.ok:
            raise CommandFailed(exit_)

    def _check_streams(self) -> None:
        try:
            for stream in self._streams:
                stream.check()
        except OSError:
            self._exit = None
            raise

    def _note_exit(self, exit_: Exit) -> None:
        self._exit = exit_

    async def _open_streams(self, *, cleanup: bool = False) -> None:
        subject = Subject(self._place, self.seq, self.given, self._slot or 1)
        make = partial(self._context.outlet.open_streams, subject)
        await self._context.launcher.open_streams(self._streams, make, cleanup=cleanup)

    def _close_streams(self) -> None:
        self._context.launcher.close_streams(self._streams, self._context.leftovers.add)

    def _fill(self, template: Template) -> str:
        return template.fill(self.given, self.seq, self._slot or 1)

    def _environment(self, phase: Phase) -> dict[str, str]:
        return {**self._context.environment, **self._variables(phase)}

    def _variables(self, phase: Phase) -> dict[str, str]:
        slot = {} if self._slot is None else {"TURNSTILE_SLOT": str(self._slot)}
        columns = enumerate(self.given.columns[:_MOST_VARIABLES], 1)
        return {
            **slot,
            **{f"TURNSTILE_INPUT_{number}": column for number, column in columns},
            "TURNSTILE_INPUT": self.text,
            "TURNSTILE_SEQ": str(self.seq),
            "TURNSTILE_ATTEMPT": str(self._attempt),
            "TURNSTILE_PHASE": phase,
        }

    def _finish(self) -> None:
        self._close_streams()
        times = None if self._job is None else self._job.times
        started, runtime = times or (self._date, self._ended - self._began)
        entry = Entry(
            seq=self.seq,
            host=":" if self._job is None else self._job.host,
            started=started,
            runtime=runtime,
            sent=len(self.given.block or b""),
            received=self._streams[0].size if self._streams else 0,
            exitval=-1 if self._exit is None else self._exit.status,
            signal=0 if self._exit is None else self._exit.signal,
            command=self._fill(self._context.commands["work"]),
        )
        self._context.finish(entry, self._place, self.given, self._streams)
        self._forget_job()
        completed = self._exit is not None and self._exit.ok and self.failure is None
        if completed and self._began:  # not if the attempt was made by an earlier run
            self._context.time_limit.note_completed(entry.runtime)
        self._context.on_end(completed)
