"""A command line of Slurm that imitates the observed behaviour of the real one, on trio's clock."""

from __future__ import annotations

import math
import re
from collections import Counter, deque
from collections.abc import Iterator

import attrs
import trio

from trio_turnstile.clusters import Command, Reply

CONTACT = "Unable to contact slurm controller (connect failure)"
TIMED_OUT = "Batch job submission failed: Socket timed out on send/recv operation"


@attrs.define(eq=False)
class FakeJob:
    """A job that runs for ``seconds`` and then ends with ``status``."""

    number: str
    token: str
    submitted: float
    seconds: float
    status: int
    state: str = ""
    """The state that is reported, regardless of the time."""
    reason: str = "None"
    cancelled: bool = False
    claimed_by: str = ""
    """The job that claimed its token earlier."""
    began: float = math.inf
    """When it begins; for a task of an array, as soon as that is known."""

    @property
    def name(self) -> str:
        """The name in the list of jobs: all tasks of an array have the same name."""
        return self.token.partition(".")[0] if "_" in self.number else self.token

    def word(self, now: float) -> str:
        if self.state:
            return self.state
        if self.cancelled:
            return "CANCELLED"
        if now < self.began:
            return "PENDING"
        if now < self.began + self.seconds:
            return "RUNNING"
        return "FAILED" if self.status else "COMPLETED"


@attrs.define(eq=False)
class FakeArray:
    """Tasks, of which at most ``at_once`` run at once."""

    tasks: list[FakeJob]
    at_once: float
    seen: float
    """The time until which the array has been simulated."""

    def advance(self, now: float) -> None:
        """Start tasks as others end."""
        if now < self.seen:
            return  # the scheduler has not seen it yet
        waiting = deque(job for job in self.tasks if job.began == math.inf and not job.cancelled)
        while waiting:
            ends = sorted(
                job.began + job.seconds
                for job in self.tasks
                if not job.cancelled and self.seen < job.began + job.seconds < math.inf
            )
            if len(ends) < self.at_once:
                waiting.popleft().began = self.seen
            elif ends and self.at_once and ends[0] <= now:
                self.seen = ends[0]
            else:
                break
        self.seen = now


def option(command: Command, name: str) -> str:
    """Return the value of an option of ``sbatch``; empty if the option is missing."""
    words = [word for word in command.arguments if word.startswith(f"--{name}=")]
    return words[0].partition("=")[2] if words else ""


def tasks_of(command: Command) -> tuple[int, int, float]:
    """Return the first and the last task, and how many may run at once."""
    indices, _, at_once = (option(command, "array") or "1-1").partition("%")
    first, _, last = indices.partition("-")
    return int(first), int(last), float(at_once or "inf")


def what(script: str) -> tuple[float, int]:
    """Return how long a script runs, and its exit status."""
    seconds = re.search(r"^sleep (\d+)$", script, re.MULTILINE)
    status = re.search(r"^exit (\d+)$", script, re.MULTILINE)
    return float(seconds[1]) if seconds else 1.0, int(status[1]) if status else 0


def expanded(word: str) -> Iterator[str]:
    """Expand an expression such as ``7_[1-3,5]`` into the numbers of jobs."""
    array, bracket, indices = word.partition("_[")
    if not bracket:
        yield word
        return
    for part in indices.rstrip("]").split(","):
        first, _, last = part.partition("-")
        for index in range(int(first), int(last or first) + 1):
            yield f"{array}_{index}"


@attrs.define(eq=False)
class FakeSlurm:
    """Runs the commands of Slurm; pass it as ``run=``."""

    latency: float = 0.005
    """How many seconds a call takes."""
    per_minute: float = 1e9
    """How many calls per minute the controller allows, after a burst of 40."""
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
    """After how many seconds these submissions take effect; ``None`` for never."""
    full: int = 10**9
    """How many jobs a user may have in the queue."""
    jobs: list[FakeJob] = attrs.field(factory=list)
    gone: set[str] = attrs.field(factory=set)
    """The tokens of jobs that the controller has forgotten."""
    calls: Counter[str] = attrs.field(factory=Counter)
    looked: list[float] = attrs.field(factory=list)
    """The times at which it was polled."""
    refused: int = 0
    """How many calls were refused because there were too many."""
    silent: set[str] = attrs.field(factory=set)
    """Programs that do not answer."""
    broken: set[str] = attrs.field(factory=set)
    """Programs that report that they cannot reach the controller."""
    hidden: list[tuple[float, Command]] = attrs.field(factory=list)
    arrays: dict[str, FakeArray] = attrs.field(factory=dict)
    throttled: list[tuple[str, float]] = attrs.field(factory=list)
    """The changes of throttles: an array, and how many of its tasks may run at once."""
    written: dict[str, str] = attrs.field(factory=dict)
    """Files with the scripts of tasks."""
    writing: list[float] = attrs.field(factory=list)
    """How many seconds it takes to write each of the next files."""
    most: int = 1001
    """``MaxArraySize``."""
    bucket: float = 40.0
    filled: float = 0.0

    async def __call__(self, command: Command) -> Reply:
        program = command.arguments[0]
        if program == "sh" and "scontrol" in command.arguments[2]:
            program = "scontrol"
        if program in self.silent:
            await trio.sleep_forever()
        if program == "sh":
            await trio.sleep(self.writing.pop(0) if command.stdin and self.writing else 0)
            return self.shell(command)
        self.calls[program] += 1
        await trio.sleep(self.latency)
        self.carry_out_late()
        if self.down or program in self.broken:
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
        self.advance()
        for due, command in [each for each in self.hidden if each[0] <= now]:
            self.hidden.remove((due, command))
            self.take(command)

    def advance(self) -> None:
        for array in self.arrays.values():
            array.advance(trio.current_time())

    def live(self) -> list[FakeJob]:
        now = trio.current_time()
        self.advance()
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
        if self.full < 10**9 and len(self.live()) + self.size(command) > self.full:
            return Reply(1, err="sbatch: error: QOSMaxSubmitJobPerUserLimit")
        return Reply(0, f"{self.take(command)}\n")

    def size(self, command: Command) -> int:
        first, last, _ = tasks_of(command)
        return last - first + 1

    def take(self, command: Command) -> str:
        now = trio.current_time()
        token = option(command, "job-name")
        number = str(len(self.jobs) + 1)
        if not option(command, "array"):
            job = FakeJob(number, token, now, *what(command.stdin), began=now + 0.5)
            self.jobs.append(job)
            return number
        first, last, at_once = tasks_of(command)
        path = next(path for path in self.written if path in command.stdin)
        scripts = re.split(r"^script-of-.*\.(\d+)$", self.written[path], flags=re.MULTILINE)
        script = dict(zip(map(int, scripts[1::2]), scripts[2::2], strict=True))
        tasks = [
            FakeJob(f"{number}_{index}", f"{token}.{index}", now, *what(script[index]))
            for index in range(first, last + 1)
        ]
        held = 0 if "--hold" in command.arguments else at_once
        self.arrays[number] = FakeArray(tasks, held, now + 0.5)
        self.jobs += tasks
        return number

    def scontrol(self, command: Command) -> Reply:
        arguments = command.arguments
        if arguments[1] == "show":
            return Reply(0, f"MaxArraySize            = {self.most}\n" if self.most else "")
        hold = arguments[1] == "hold"
        numbers, most = (arguments[2], 0) if hold else (arguments[4], int(arguments[5]) or math.inf)
        self.throttled.append((numbers, most))
        for number in numbers.split(","):
            self.arrays[number].at_once = most
        return Reply(0)

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
            f"{job.number:24}{job.name:24}{word:24}{wait_status:<12}{job.reason:40}"
            f"{began:24}{'N/A':24}{'n1':64}\n"
        )

    def scancel(self, command: Command) -> Reply:
        numbers = {each for word in command.arguments[2:] for each in expanded(word)}
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

    def shell(self, command: Command) -> Reply:
        arguments = command.arguments
        if not self.directory:
            return Reply(2, err="no such directory")
        if "here" not in arguments:
            if command.stdin:
                self.written[arguments[-1]] = command.stdin
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
