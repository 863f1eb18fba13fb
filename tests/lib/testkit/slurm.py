"""A command line of Slurm that behaves as the real one was seen to, on trio's clock."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import attrs
import trio

from trio_turnstile.clusters import Command, Reply

CONTACT = "Unable to contact slurm controller (connect failure)"
TIMED_OUT = "Batch job submission failed: Socket timed out on send/recv operation"


@attrs.define(eq=False)
class FakeJob:
    """A job, which runs for so long and then ends in that way."""

    number: str
    token: str
    submitted: float
    seconds: float
    status: int
    state: str = ""
    """What it is said to be in, whatever the time is."""
    reason: str = "None"
    cancelled: bool = False
    claimed_by: str = ""
    """The job that has claimed its token before."""

    def word(self, now: float) -> str:
        if self.state:
            return self.state
        if self.cancelled:
            return "CANCELLED"
        if now < self.submitted + 0.5:
            return "PENDING"
        if now < self.submitted + 0.5 + self.seconds:
            return "RUNNING"
        return "FAILED" if self.status else "COMPLETED"


@attrs.define(eq=False)
class FakeSlurm:
    """Runs commands; give it as ``run=``."""

    latency: float = 0.005
    """Seconds for a call."""
    per_minute: float = 1e9
    """How many calls a minute the controller allows, beyond a bucket of 40."""
    down: bool = False
    """Whether the controller cannot be reached."""
    accounts: bool = False
    """Whether ``sacct`` knows the jobs."""
    files: bool = True
    """Whether ended jobs leave their files."""
    directory: bool = True
    """Whether the directory of the jobs can be read."""
    unclear: int = 0
    """How many submissions are answered with a time-out."""
    late: float | None = 1.5
    """After how many seconds these are carried out; ``None`` for never."""
    full: int = 10**9
    """How many jobs a user may have in the queue."""
    jobs: list[FakeJob] = attrs.field(factory=list)
    gone: set[str] = attrs.field(factory=set)
    """The tokens of jobs that the controller has forgotten."""
    calls: Counter[str] = attrs.field(factory=Counter)
    looked: list[float] = attrs.field(factory=list)
    """When it was polled."""
    refused: int = 0
    """How many calls were refused, because they came too often."""
    silent: set[str] = attrs.field(factory=set)
    """Programs that do not answer."""
    hidden: list[tuple[float, Command]] = attrs.field(factory=list)
    bucket: float = 40.0
    filled: float = 0.0

    async def __call__(self, command: Command) -> Reply:
        program = command.arguments[0]
        if program in self.silent:
            await trio.sleep_forever()
        if program == "sh":
            await trio.lowlevel.checkpoint()
            return self.shell(command.arguments)
        self.calls[program] += 1
        await trio.sleep(self.latency)
        self.carry_out_late()
        if self.down:
            await trio.sleep(9)
            return Reply(1, err=f"{program}: error: {CONTACT}")
        if not self.allowed():
            self.refused += 1
        answer: Reply = getattr(self, program)(command)
        return answer

    def allowed(self) -> bool:
        now = trio.current_time()
        self.bucket = min(40.0, self.bucket + (now - self.filled) * self.per_minute / 60)
        self.filled = now
        self.bucket -= 1
        return self.bucket > -1e-6

    def carry_out_late(self) -> None:
        now = trio.current_time()
        for due, command in [each for each in self.hidden if each[0] <= now]:
            self.hidden.remove((due, command))
            self.take(command)

    def live(self) -> list[FakeJob]:
        now = trio.current_time()
        return [job for job in self.jobs if job.word(now) in ("PENDING", "RUNNING")]

    # ---- commands ----

    def sbatch(self, command: Command) -> Reply:
        if self.unclear:
            self.unclear -= 1
            if self.late is not None:
                self.hidden.append((trio.current_time() + self.late, command))
            return Reply(1, err=f"sbatch: error: {TIMED_OUT}")
        if "--partition=none" in command.arguments:
            return Reply(1, err="sbatch: error: invalid partition specified: none")
        if self.full < len(self.jobs) + 1 and len(self.live()) >= self.full:
            return Reply(1, err="sbatch: error: QOSMaxSubmitJobPerUserLimit")
        return Reply(0, f"{self.take(command)}\n")

    def take(self, command: Command) -> str:
        token = next(a for a in command.arguments if a.startswith("--job-name="))[11:]
        seconds = re.search(r"^sleep (\d+)$", command.stdin, re.MULTILINE)
        status = re.search(r"^exit (\d+)$", command.stdin, re.MULTILINE)
        number = str(len(self.jobs) + 1)
        self.jobs.append(
            FakeJob(
                number,
                token,
                trio.current_time(),
                float(seconds[1]) if seconds else 1.0,
                int(status[1]) if status else 0,
            )
        )
        return number

    def squeue(self, command: Command) -> Reply:
        now = trio.current_time()
        self.looked.append(now)
        return Reply(0, "".join(self.line(job, now) for job in self.jobs if self.listed(job)))

    def listed(self, job: FakeJob) -> bool:
        return job.token not in self.gone

    def line(self, job: FakeJob, now: float) -> str:
        word = job.word(now)
        wait_status = job.status << 8 if word in ("FAILED", "COMPLETED") else 0
        began = "2026-11-27T20:19:54"
        return (
            f"{job.number:24}{job.token:24}{word:24}{wait_status:<12}{job.reason:40}"
            f"{began:24}{'N/A':24}{'n1':64}\n"
        )

    def scancel(self, command: Command) -> Reply:
        numbers = set(command.arguments[2:])
        for job in self.live():
            job.cancelled = job.cancelled or job.number in numbers
        for job in self.jobs:
            if job.number in numbers and job.reason != "None":
                job.state = "CANCELLED"
        return Reply(0)

    def sacct(self, command: Command) -> Reply:
        if not self.accounts:
            return Reply(1, err="Slurm accounting storage is disabled")
        numbers = command.arguments[5].split(",")
        lines = [
            f"{job.number}|{job.token}|TIMEOUT|0:15|2026-11-27T20:19:54|2026-11-27T20:20:54|n2\n"
            for job in self.jobs
            if job.number in numbers
        ]
        return Reply(0, "".join(lines))

    def shell(self, arguments: Sequence[str]) -> Reply:
        if not self.directory:
            return Reply(2, err="no such directory")
        if "here" not in arguments:
            return Reply(0)
        now = trio.current_time()
        ended = {job.token: job for job in self.jobs if job.word(now) not in ("PENDING", "RUNNING")}
        lines = ["here:here\n"]
        for name in arguments[6:]:
            token, _, kind = name.rpartition(".")
            job = ended.get(token)
            if job is not None and self.files and not job.cancelled:
                if kind == "claim":
                    lines.append(f"{name}:{job.claimed_by or job.number}\n")
                elif kind == "exit" and not job.claimed_by:
                    lines.append(f"{name}:{job.status} 1 2 n1\n")
        return Reply(0, "".join(lines))
