"""`SlurmEngine`: jobs on a cluster that is run by Slurm.

``squeue`` also lists ended jobs for the time of ``MinJobAge`` (300 seconds by default), with the
status that ``wait`` returned for the script. One call lists all jobs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, final

import attrs

from ._engine import (
    Answer,
    Busy,
    Command,
    Refused,
    Reply,
    Sighting,
    Taken,
    TaskArray,
    Unclear,
    Unreadable,
    result_of_wait,
)
from ._indices import by_array, written
from ._jobs import JobResult, JobSpec, JobState

_WIDTHS: Final = {
    "JobArrayID": 24,
    "Name": 24,
    "State": 24,
    "exit_code": 12,
    "Reason": 40,
    "StartTime": 24,
    "EndTime": 24,
    "NodeList": 64,
}
"""The columns of a list and their widths, which find the columns even if one is empty."""

_PENDING: Final = frozenset(
    {
        *("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED"),
        *("RESV_DEL_HOLD", "SPECIAL_EXIT"),
    }
)

_RUNNING: Final = frozenset(
    {
        *("RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT"),
        *("STOPPED", "SUSPENDED"),
    }
)

_ENDED: Final = {
    "COMPLETED": JobState.COMPLETED,
    "FAILED": JobState.FAILED,
    "TIMEOUT": JobState.TIMED_OUT,
    "DEADLINE": JobState.TIMED_OUT,
    "OUT_OF_MEMORY": JobState.OUT_OF_MEMORY,
    "NODE_FAIL": JobState.NODE_FAILED,
    "BOOT_FAIL": JobState.NODE_FAILED,
    "PREEMPTED": JobState.NODE_FAILED,
    "CANCELLED": JobState.CANCELLED,
}

_NEVER: Final = frozenset(
    {"DependencyNeverSatisfied", "launch_failed_requeued_held", "JobHoldMaxRequeue"}
)
"""Reasons for waiting that will never go away."""

_UNCLEAR: Final = re.compile(
    r"unable to contact|timed out|connection refused|zero bytes|communication|unexpected message"
    r"|transport endpoint|try again later|broken pipe|connection reset",
    re.IGNORECASE,
)

_BUSY: Final = re.compile(
    r"(Max|Grp)Submit|MaxJobCount|temporarily unable to accept|RPC rate", re.IGNORECASE
)

_MAX_ARRAY_SIZE: Final = re.compile(r"^MaxArraySize\s*= (\d+)", re.MULTILINE)
_MAX_ARRAY_TASKS: Final = re.compile(
    r"^SchedulerParameters\s*=.*\bmax_array_tasks=(\d+)", re.MULTILINE
)

_THROTTLE: Final = """
scontrol update jobid="$1" arraytaskthrottle="$2"
status=$?
scontrol release "$1" && exit $status
"""

_HAS_ENDED: Final = re.compile("already finished|No error|Invalid job id")


@final
@attrs.frozen(kw_only=True)
class SlurmEngine:
    """Submits jobs to Slurm, with ``sbatch``, ``squeue`` and ``scancel``.

    Args:
      options: arguments of ``sbatch`` for every job, such as ``"--partition=long"``.
      environment: variables for the commands, such as ``SLURM_CONF``.
    """

    options: Sequence[str] = ()
    environment: Mapping[str, str] = attrs.field(factory=dict)

    job_id = '"$SLURM_JOB_ID"'
    task_id = '"${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"'
    task_index = '"$SLURM_ARRAY_TASK_ID"'
    supervises = True

    @property
    def reserved(self) -> frozenset[int]:
        """None: Slurm gives no exit status a special meaning."""
        return frozenset()

    def submit(self, token: str, wrapper: str, spec: JobSpec, output: str) -> Command:
        """Call ``sbatch``, with the wrapper on its standard input."""
        comment = [f"--comment={spec.name}"] if spec.name else []
        own = [f"--job-name={token}", *comment, *_outputs(output)]
        return self._sbatch(own, wrapper, spec)

    def submit_array(self, array: TaskArray, wrapper: str, spec: JobSpec, output: str) -> Command:
        """Call ``sbatch --array``."""
        most = f"%{int(array.at_once)}" if 0 < array.at_once < math.inf else ""
        hold = ["--hold"] if array.at_once == 0 else []
        tasks = f"--array={array.first}-{array.last}{most}"
        own = [f"--job-name={array.name}", tasks, *hold, *_outputs(f"{output}.%a")]
        return self._sbatch(own, wrapper, spec)

    def _sbatch(self, own: Sequence[str], wrapper: str, spec: JobSpec) -> Command:
        arguments = ["sbatch", "--parsable", *own]
        if spec.cpus is not None:
            arguments.append(f"--cpus-per-task={spec.cpus}")
        if spec.memory is not None:
            arguments.append(f"--mem={spec.memory}M")
        if spec.seconds is not None:
            minutes, seconds = divmod(math.ceil(spec.seconds), 60)
            arguments.append(f"--time={minutes}:{seconds:02}")
        return self._command([*arguments, *self.options, *spec.options], wrapper)

    def read_submitted(self, reply: Reply) -> Answer:
        """Read the number of the job, or why there is none."""
        number = reply.out.strip().partition(";")[0]
        if reply.status == 0:
            return Taken(number) if number.isdecimal() else Unclear(reply.said)
        if _BUSY.search(reply.err):
            return Busy(reply.said)
        if reply.status < 0 or _UNCLEAR.search(reply.err):
            return Unclear(reply.said)
        return Refused(reply.said)

    def poll(self) -> Command:
        """Call ``squeue`` for all our jobs, including those that have ended."""
        columns = ",".join(f"{name}:{width}" for name, width in _WIDTHS.items())
        return self._command(["squeue", "-h", "-r", "-t", "all", "--me", "-O", columns])

    def read_poll(self, reply: Reply) -> Iterable[Sighting]:
        """Read the columns of ``squeue``."""
        if reply.status:
            raise Unreadable(reply.said)
        return (_sighting(_columns(line)) for line in reply.out.splitlines() if line.strip())

    def cancel(self, ids: Sequence[str]) -> Command:
        """Call ``scancel``. Ranges of tasks make it a hundred times faster."""
        tasks = by_array((array, task) for array, _, task in map(_parts, ids) if array)
        ranges = [f"{array}_[{','.join(written(each))}]" for array, each in tasks.items()]
        jobs = [number for number in ids if not self.array_of(number)]
        return self._command(["scancel", "-Q", *jobs, *ranges])

    def number_of(self, array: str, index: int) -> str:
        """Return a number such as ``4711_3``."""
        return f"{array}_{index}"

    def array_of(self, number: str) -> str:
        """Return the part before the underscore."""
        return _parts(number)[0]

    def throttle(self, arrays: Sequence[str], at_once: float) -> Command:
        """Call ``scontrol``, to hold arrays, or to set ``ArrayTaskThrottle`` and release them."""
        numbers = ",".join(arrays)
        if at_once == 0:
            return self._command(["scontrol", "hold", numbers])
        most = 0 if at_once == math.inf else int(at_once)
        return self._command(["sh", "-c", _THROTTLE, "sh", numbers, str(most)])

    def read_throttled(self, reply: Reply) -> None:
        """Ignore complaints about tasks that have ended, which also set the exit status to 1."""
        if reply.status and not all(map(_HAS_ENDED.search, reply.err.splitlines())):
            raise Unreadable(reply.said)

    def limits(self) -> Command:
        """Call ``scontrol``."""
        return self._command(["scontrol", "show", "config"])

    def read_limits(self, reply: Reply) -> float:
        """Read ``MaxArraySize``, which is above the largest index, and ``max_array_tasks``."""
        size = _MAX_ARRAY_SIZE.search(reply.out)
        if size is None:
            raise Unreadable(reply.said[:200])
        tasks = _MAX_ARRAY_TASKS.search(reply.out)
        return min(int(size[1]) - 1, int(tasks[1]) if tasks else math.inf)

    def account(self, jobs: Sequence[tuple[str, str]]) -> Command:
        """Call ``sacct``."""
        numbers = ",".join(number for number, _ in jobs)
        fields = "JobID,JobName,State,ExitCode,Start,End,NodeList"
        return self._command(["sacct", "-n", "-P", "-X", "-j", numbers, "-o", fields])

    def read_account(self, reply: Reply) -> Iterable[Sighting]:
        """Read the lines of ``sacct``; there are none if the site keeps no accounts."""
        if "accounting storage is disabled" in reply.err or reply.status == 127:
            return ()
        if reply.status:
            raise Unreadable(reply.said)
        return [_accounted(line.split("|")) for line in reply.out.splitlines()]

    def _command(self, arguments: Sequence[str], stdin: str = "") -> Command:
        return Command(arguments, stdin, self.environment)


def _outputs(path: str) -> list[str]:
    return [f"--output={path}.out", f"--error={path}.err"]


def _parts(number: str) -> tuple[str, str, str]:
    """Return the array, the underscore and the index of a task; a job has only the last part."""
    return number.rpartition("_")


def _token(name: str, number: str) -> str:
    array, _, index = _parts(number)
    return f"{name}.{index}" if array else name


def _columns(line: str) -> dict[str, str]:
    found, start = {}, 0
    for name, width in _WIDTHS.items():
        found[name] = line[start : start + width].strip()
        start += width
    return found


def _sighting(columns: Mapping[str, str]) -> Sighting:
    word, reason = columns["State"], columns["Reason"]
    number = columns["JobArrayID"]
    token = _token(columns["Name"], number)
    reason = "" if reason == "None" else reason
    if word in _ENDED:
        return Sighting(number, token, _end(_ENDED[word], columns, reason))
    if word not in _PENDING:
        running = JobResult(state=JobState.RUNNING, reason=reason)
        return Sighting(number, token, running, "" if word in _RUNNING else word)
    state = JobState.STUCK if reason in _NEVER else JobState.PENDING
    return Sighting(number, token, JobResult(state=state, reason=reason))


def _end(state: JobState, columns: Mapping[str, str], reason: str) -> JobResult:
    wait_status = columns["exit_code"]
    result = result_of_wait(state, int(wait_status) if wait_status.isdecimal() else 0, reason)
    return attrs.evolve(
        result,
        started=_time(columns["StartTime"]),
        ended=_time(columns["EndTime"]),
        node=columns["NodeList"],
    )


def _accounted(fields: Sequence[str]) -> Sighting:
    number, name, words, ending, started, ended, node = fields[:7]
    token = _token(name, number)
    state = _ENDED.get(words.split()[0], JobState.RUNNING)
    exit_status, _, ended_by = ending.partition(":")
    wait_status = int(exit_status) << 8 | int(ended_by or 0)
    result = result_of_wait(state, wait_status)
    return Sighting(
        number,
        token,
        attrs.evolve(result, started=_time(started), ended=_time(ended), node=node),
    )


def _time(text: str) -> float | None:
    """Return the Unix time of a local time; ``None`` for "N/A" and the like."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
