"""`LocalEngine`: jobs are processes on this machine, for tests and for trying things out."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from typing import Final, final

import attrs

from ._engine import Answer, Command, Refused, Reply, Sighting, Taken, Unreadable
from ._jobs import JobResult, JobSpec, JobState

_START: Final = """
import os, sys
base, script = sys.argv[1], sys.stdin.buffer.read()
with open(base + ".job", "wb") as file:
    file.write(script)
if pid := os.fork():
    print(pid)
else:
    os.setsid()
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, base + ".out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, base + ".err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        os.dup2(os.open(path, flags, 0o666), number)
    os.execv("/bin/sh", ["/bin/sh", base + ".job"])
"""

_CANCEL: Final = """
for job; do kill -s TERM -- "-$job"; done 2>/dev/null
sleep 2
for job; do kill -s KILL -- "-$job"; done 2>/dev/null
true
"""

_LINE: Final = re.compile(r"\s*(\d+)\s+/bin/sh\s\S.*/([^/\s]+)\.job$")


@final
@attrs.frozen
class LocalEngine:
    """Runs jobs as processes on this machine, each in its own session.

    They survive the program that submitted them. There is no queue, so only your limiter bounds
    how many jobs run. CPUs and memory are not checked.
    """

    job_id = "$$"
    supervises = False

    @property
    def reserved(self) -> frozenset[int]:
        """None."""
        return frozenset()

    def submit(self, token: str, wrapper: str, spec: JobSpec, output: str) -> Command:
        """Start a process that writes the wrapper to a file, and becomes the job."""
        return Command([sys.executable, "-I", "-S", "-c", _START, output], wrapper)

    def read_submitted(self, reply: Reply) -> Answer:
        """Read the process ID."""
        number = reply.out.strip()
        return Taken(number) if number.isdecimal() else Refused(reply.said)

    def poll(self) -> Command:
        """List all processes."""
        return Command(["ps", "-A", "-ww", "-o", "pid=", "-o", "args="])

    def read_poll(self, reply: Reply) -> Iterable[Sighting]:
        """Select the processes that run a wrapper."""
        if reply.status:
            raise Unreadable(reply.said)
        lines = map(_LINE.match, reply.out.splitlines())
        running = JobResult(state=JobState.RUNNING)
        return [Sighting(line[1], line[2], running) for line in lines if line]

    def cancel(self, ids: Sequence[str]) -> Command:
        """End the sessions of jobs: SIGTERM, and two seconds later SIGKILL."""
        return Command(["sh", "-c", _CANCEL, "sh", *ids])

    def account(self, jobs: Sequence[tuple[str, str]]) -> None:
        """Return ``None``: there are no accounts of processes."""

    def read_account(self, reply: Reply) -> Iterable[Sighting]:
        """Return nothing, as there are no accounts."""
        return ()
