"""`ShellOperation`: the four phases of one input, each a shell command or nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import final

import attrs
import trio
from trio.lowlevel import checkpoint

from trio_turnstile import Channels, Phase, Scalable

from ._joblog import Entry
from ._output import Printer, Stream
from ._process import Exit, run_shell
from ._template import Template

TAIL_LINES, TAIL_BYTES = 10, 2048
"""How much of the end of a command's standard error to keep for the error summary."""


@final
class CommandFailed(Exception):
    """A command ended in another way than with exit status 0.

    Args:
      ending: how it ended.
      tail: the end of its standard error, a few lines.
    """

    def __init__(self, ending: Exit, tail: str) -> None:
        super().__init__(str(ending))
        self.tail = tail


@final
@attrs.frozen(kw_only=True)
class Workshop:
    """What the operations of a run share."""

    commands: Mapping[Phase, Template]
    """The commands by phase; a phase that has none does nothing."""
    timeouts: Mapping[Phase, float | None]
    """Seconds that a command may take, by phase; ``None`` for any time."""
    kill_after: float
    """Seconds from a SIGTERM to a SIGKILL."""
    printer: Printer
    """Prints what the commands wrote."""
    may_begin: Callable[[], bool]
    """Is asked by each operation before it begins."""
    log: Callable[[Entry], object]
    """Is given an entry for each operation that ends."""
    environment: Mapping[str, str] = attrs.field(factory=lambda: dict(os.environ))
    """The environment of the commands, save what is told of the operation."""


@final
class ShellOperation(Scalable):
    """What is to be done with one input.

    Args:
      shop: what it shares with the others.
      seq: the number of its input, from 1.
      text: its input.
    """

    def __init__(self, shop: Workshop, seq: int, text: str) -> None:
        self.seq = seq
        self.text = text
        self._shop = shop
        self._attempt = 0
        self._started = self._start = self._end = 0.0
        self._streams: list[Stream] = []
        self._exit: Exit | None = None

    @property
    def identifiers(self) -> tuple[str, ...]:
        """The input."""
        return (self.text,)

    async def prepare(self, channels: Channels) -> None:
        """Begin an attempt, unless the run is stopping and this would be the first."""
        await self._shop.printer.wait_for_room()
        if not self._attempt and not self._shop.may_begin():
            return
        self._attempt += 1
        self._started = time.time()
        self._start = self._end = trio.current_time()
        for stream in self._streams:
            stream.clear()  # what is tried again counts for nothing
        await self._run("prepare")

    async def work(self, channels: Channels) -> None:
        """Run the work command."""
        await self._run("work")

    async def monitor(self, channels: Channels) -> None:
        """Run the command that waits for the work."""
        await self._run("monitor")

    async def cleanup(self, channels: Channels) -> None:
        """Run the clean-up command; then print and log what there is to tell."""
        if not self._attempt:
            return await checkpoint()
        before = self._exit
        try:
            await self._run("cleanup")
        finally:
            if before is None or not before.ok:
                self._exit = before  # what is logged is the first thing that went wrong
            self._report()

    async def _run(self, phase: Phase) -> None:
        template = self._shop.commands.get(phase)
        if template is None or not self._attempt:
            return await checkpoint()
        self._exit = None
        while len(self._streams) < 2:
            self._streams.append(Stream())
        heard = self._streams[1].size
        try:
            ending = await run_shell(
                template.fill(self.text, self.seq),
                streams=self._streams,
                env=self._environment(phase),
                seconds=self._shop.timeouts[phase],
                kill_after=self._shop.kill_after,
            )
        finally:
            self._end = self._end if phase == "cleanup" else trio.current_time()
        for stream in self._streams:
            stream.check()
        self._exit = ending
        if not ending.ok:
            raise CommandFailed(ending, last_lines(self._streams[1].tail(heard, TAIL_BYTES)))

    def _environment(self, phase: Phase) -> dict[str, str]:
        return {
            **self._shop.environment,
            "TURNSTILE_INPUT": self.text,
            "TURNSTILE_SEQ": str(self.seq),
            "TURNSTILE_ATTEMPT": str(self._attempt),
            "TURNSTILE_PHASE": phase,
        }

    def _report(self) -> None:
        for stream in self._streams:
            stream.close_pipe()
        self._shop.log(
            Entry(
                seq=self.seq,
                started=self._started,
                runtime=self._end - self._start,
                received=self._streams[0].size if self._streams else 0,
                exitval=-1 if self._exit is None else self._exit.status,
                signal=0 if self._exit is None else self._exit.signal,
                command=self._shop.commands["work"].fill(self.text, self.seq),
            )
        )
        self._shop.printer.put(self._streams)


def last_lines(output: bytes) -> str:
    """Return the last lines of ``output``, fit to be shown: nothing in it steers a terminal."""
    lines = output.decode(errors="backslashreplace").splitlines()[-TAIL_LINES:]
    return "\n".join(map(printable, lines))


def printable(text: str) -> str:
    """Return ``text`` with escapes for what cannot be printed, so that it steers no terminal."""
    text = text.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
