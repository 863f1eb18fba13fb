"""`ShellOperation`: the four phases for one input, each a shell command or nothing.

The output and the line of the job log come after the clean-up: only then has the last
command of the operation ended.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import final

import attrs
import trio
from trio.lowlevel import checkpoint

from trio_turnstile import Channels, Phase, Scalable

from ._joblog import Entry, JobLog
from ._output import Printer, Stream
from ._process import Exit, run_shell
from ._template import Template

TAIL_LINES, TAIL_BYTES = 10, 2048
"""How much of the end of a command's standard error the summary shows."""


@final
class CommandFailed(Exception):
    """A command did not end with exit status 0.

    Args:
      ending: how it ended.
      tail: the end of its standard error, a few lines.
    """

    def __init__(self, ending: Exit, tail: str) -> None:
        super().__init__(str(ending))
        self.tail = tail


@final
@attrs.frozen(kw_only=True)
class RunContext:
    """What the operations of a run share."""

    commands: Mapping[Phase, Template]
    """The commands by phase; a phase without a command does nothing."""
    timeouts: Mapping[Phase, float | None]
    """Seconds that a command may take, by phase; ``None`` for no limit."""
    kill_after: float
    """Seconds from a SIGTERM to a SIGKILL."""
    printer: Printer
    """Prints the outputs of operations."""
    joblog: JobLog | None
    """Where to log operations."""
    note: Callable[[str], object]
    """Shows a line to the user."""
    environment: Mapping[str, str] = attrs.field(factory=lambda: dict(os.environ))
    """The environment of the commands, without the variables of the operation."""

    def finish(self, entry: Entry, streams: Sequence[Stream]) -> None:
        """Log an operation that has ended, and print its output."""
        if self.joblog is not None:
            try:
                self.joblog.add(entry)
            except OSError as error:
                self.note(f"stopped writing the job log: {error.strerror}")
        self.printer.put(streams)


@final
class ShellOperation(Scalable):
    """The commands for one input.

    Args:
      context: what the operations of the run share.
      seq: the number of the input, from 1.
      text: the input.
    """

    def __init__(self, context: RunContext, seq: int, text: str) -> None:
        self.seq = seq
        self.text = text
        self._context = context
        self._attempt = 0
        self._date = 0.0  # when the attempt began, in seconds since 1970
        self._began = self._ended = 0.0  # the attempt without clean-up, on trio's clock
        self._streams: list[Stream] = []
        self._exit: Exit | None = None

    @property
    def identifiers(self) -> tuple[str, ...]:
        """The input."""
        return (self.text,)

    @property
    def started(self) -> bool:
        """Whether an attempt has begun."""
        return self._attempt > 0

    async def prepare(self, channels: Channels) -> None:
        """Begin an attempt."""
        self._attempt += 1
        self._date = time.time()
        self._began = self._ended = trio.current_time()
        for stream in self._streams:
            stream.clear()  # the output of a failed attempt is dropped
        await self._run("prepare")

    async def work(self, channels: Channels) -> None:
        """Run the work command."""
        await self._run("work")

    async def monitor(self, channels: Channels) -> None:
        """Run the command that waits for the work."""
        await self._run("monitor")

    async def cleanup(self, channels: Channels) -> None:
        """Run the clean-up command, then log the operation and print its output."""
        exit_before = self._exit
        try:
            await self._run("cleanup")
        finally:
            if exit_before is None or not exit_before.ok:
                self._exit = exit_before  # the log shows the first failure
            self._finish()

    async def _run(self, phase: Phase) -> None:
        template = self._context.commands.get(phase)
        if template is None:
            return await checkpoint()
        self._exit = None
        # One by one: if no file is left for the second, `_finish` closes the first.
        while len(self._streams) < 2:
            self._streams.append(Stream())
        size_before = self._streams[1].size
        try:
            exit_ = await run_shell(
                template.fill(self.text, self.seq),
                streams=self._streams,
                env=self._environment(phase),
                seconds=self._context.timeouts[phase],
                kill_after=self._context.kill_after,
            )
        finally:
            if phase != "cleanup":
                self._ended = trio.current_time()
        for stream in self._streams:
            stream.check()
        self._exit = exit_
        if not exit_.ok:
            raise CommandFailed(exit_, last_lines(self._streams[1].tail(size_before, TAIL_BYTES)))

    def _environment(self, phase: Phase) -> dict[str, str]:
        return {
            **self._context.environment,
            "TURNSTILE_INPUT": self.text,
            "TURNSTILE_SEQ": str(self.seq),
            "TURNSTILE_ATTEMPT": str(self._attempt),
            "TURNSTILE_PHASE": phase,
        }

    def _finish(self) -> None:
        for stream in self._streams:
            stream.close_pipe()
        entry = Entry(
            seq=self.seq,
            started=self._date,
            runtime=self._ended - self._began,
            received=self._streams[0].size if self._streams else 0,
            exitval=-1 if self._exit is None else self._exit.status,
            signal=0 if self._exit is None else self._exit.signal,
            command=self._context.commands["work"].fill(self.text, self.seq),
        )
        self._context.finish(entry, self._streams)


def last_lines(output: bytes) -> str:
    """Return the last lines of ``output``, made safe to print on a terminal."""
    lines = output.decode(errors="backslashreplace").splitlines()[-TAIL_LINES:]
    return "\n".join(map(printable, lines))


def printable(text: str) -> str:
    """Return ``text`` with escapes for control characters and bytes that are not text."""
    text = text.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
