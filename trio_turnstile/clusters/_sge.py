"""`SgeEngine`: jobs on a cluster that is run by Grid Engine.

``qstat`` does not list jobs that have ended. How a job ended is in its own file in the directory,
and in the accounting file, to which the cluster adds a line for each end.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import StringIO
from typing import Final, final
from xml.etree import ElementTree as ET

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
)
from ._indices import by_array, read, written
from ._jobs import JobResult, JobSpec, JobState

_RESCHEDULED: Final = frozenset({24, 25})
"""Values of ``failed`` for a job that runs again, so that the line is not its end."""

_OVER_LIMIT: Final = 37
_BY_SIGNAL: Final = 100

_UNCLEAR: Final = re.compile(
    r"unable to (send|contact)|commlib|got no response|can't connect|connection refused"
    r"|failed receiving|timeout",
    re.IGNORECASE,
)

_BUSY: Final = re.compile(
    r"are allowed per (user|cluster)|try again later|job with more than \d+ tasks", re.IGNORECASE
)

_THROTTLE: Final = """
programs=$1 most=$2
shift 2
"${programs}qalter" -tc "$most" "$@"
status=$?
"${programs}qrls" "$@" && exit $status
"""

_HARMLESS: Final = re.compile("^modified|does not exist|^$")
"""Output about arrays that were changed, and about arrays that have ended."""

_MAX_TASKS: Final = re.compile(r"^max_aj_tasks\s+(\d+)", re.MULTILINE)

_ACCOUNTS: Final = 'grep -h -F "$@" "$SGE_ROOT/${SGE_CELL:-default}/common/accounting"'


@final
@attrs.frozen(kw_only=True)
class SgeEngine:
    """Submits jobs to Grid Engine, with ``qsub``, ``qstat`` and ``qdel``.

    The script of a job may exit with 99 and 100. These have a meaning for Grid Engine, so they are
    hidden from it; the result of the job shows them.

    Args:
      options: arguments of ``qsub`` for every job, such as ``"-q", "long.q"``.
      environment: variables for the commands, such as ``SGE_ROOT``.
      programs: the directory of the commands, if they are not on the path. Debian has them in
        ``/usr/lib/gridengine``; the ones on its path take 85 ms longer.
      parallel_environment: the parallel environment that gives a job several CPUs of one node.
      memory_resource: the resource that limits the memory of a job, for each of its CPUs.
    """

    options: Sequence[str] = ()
    environment: Mapping[str, str] = attrs.field(factory=dict)
    programs: str = ""
    parallel_environment: str = "smp"
    memory_resource: str = "h_vmem"

    job_id = '"$JOB_ID"'
    task_id = '"$JOB_ID.$SGE_TASK_ID"'
    task_index = '"$SGE_TASK_ID"'
    supervises = True

    @property
    def reserved(self) -> frozenset[int]:
        """99 queues a job again, and 100 keeps it in the queue for ever."""
        return frozenset({99, 100})

    def submit(self, token: str, wrapper: str, spec: JobSpec, output: str) -> Command:
        """Call ``qsub``, with the wrapper on its standard input."""
        return self._qsub(["-N", token, *_outputs(output)], wrapper, spec)

    def submit_array(self, array: TaskArray, wrapper: str, spec: JobSpec, output: str) -> Command:
        """Call ``qsub -t``."""
        own = ["-N", array.name, "-t", f"{array.first}-{array.last}"]
        if array.at_once == 0:
            own.append("-h")
        elif array.at_once < math.inf:
            own += ["-tc", str(int(array.at_once))]
        return self._qsub([*own, *_outputs(f"{output}.$TASK_ID")], wrapper, spec)

    def _qsub(self, own: Sequence[str], wrapper: str, spec: JobSpec) -> Command:
        # Without -C, qsub would read lines of the script that begin with #$ as options.
        arguments = ["-terse", "-cwd", "-C", "", "-S", "/bin/sh", *own]
        if spec.cpus is not None:
            arguments += ["-pe", self.parallel_environment, str(spec.cpus)]
        if spec.memory is not None:
            each = math.ceil(spec.memory / (spec.cpus or 1))  # Grid Engine counts it per CPU
            arguments += ["-l", f"{self.memory_resource}={each}M"]
        if spec.seconds is not None:
            arguments += ["-l", f"h_rt={math.ceil(spec.seconds)}"]
        return self._command("qsub", [*arguments, *self.options, *spec.options], wrapper)

    def read_submitted(self, reply: Reply) -> Answer:
        """Read the number of the job, or why there is none."""
        number = reply.out.strip().partition(".")[0]
        if reply.status == 0:
            return Taken(number) if number.isdecimal() else Unclear(reply.said)
        if _BUSY.search(reply.said):
            return Busy(reply.said)
        if reply.status < 0 or _UNCLEAR.search(reply.said):
            return Unclear(reply.said)
        return Refused(reply.said)

    def poll(self) -> Command:
        """Call ``qstat`` for our jobs, with their full names."""
        return self._command("qstat", ["-xml", "-r"])

    def read_poll(self, reply: Reply) -> Iterable[Sighting]:
        """Read the XML of ``qstat``."""
        if reply.status:
            raise Unreadable(reply.said)
        return (each for job in _job_lists(reply) for each in _sightings(job))

    def cancel(self, ids: Sequence[str]) -> Command:
        """Call ``qdel``."""
        parts = [number.partition(".") for number in ids]
        tasks = by_array((array, task) for array, _, task in parts if task)
        ranges = [f"{array}.{run}" for array, each in tasks.items() for run in written(each)]
        return self._command("qdel", [*(job for job, _, task in parts if not task), *ranges])

    def number_of(self, array: str, index: int) -> str:
        """Return a number such as ``18.3``."""
        return f"{array}.{index}"

    def array_of(self, number: str) -> str:
        """Return the part before the dot."""
        return number.rpartition(".")[0]

    def throttle(self, arrays: Sequence[str], at_once: float) -> Command:
        """Call ``qhold`` to hold arrays, or else ``qalter -tc`` and ``qrls``."""
        if at_once == 0:
            return self._command("qhold", arrays)
        folder = f"{self.programs}/" if self.programs else ""
        most = 0 if at_once == math.inf else int(at_once)
        words = ["sh", "-c", _THROTTLE, "sh", folder, str(most), *arrays]
        return Command(words, "", self.environment)

    def read_throttled(self, reply: Reply) -> None:
        """Ignore complaints about arrays that have ended, which also set an exit status."""
        lines = f"{reply.out}\n{reply.err}".splitlines()
        if reply.status and not all(map(_HARMLESS.search, lines)):
            raise Unreadable(reply.said)

    def limits(self) -> Command:
        """Call ``qconf``."""
        return self._command("qconf", ["-sconf"])

    def read_limits(self, reply: Reply) -> float:
        """Read ``max_aj_tasks``."""
        found = _MAX_TASKS.search(reply.out)
        if found is None:
            raise Unreadable(reply.said[:200])
        return int(found[1]) or math.inf

    def account(self, jobs: Sequence[tuple[str, str]]) -> Command:
        """Look for the jobs in the accounting file. ``qacct`` would need a call for each job."""
        records = dict.fromkeys(_record(*job) for job in jobs)
        patterns = [word for record in records for word in ("-e", record)]
        return Command(["sh", "-c", _ACCOUNTS, "sh", *patterns], "", self.environment)

    def read_account(self, reply: Reply) -> Iterable[Sighting]:
        """Read lines of the accounting file; the last line of a job is its end."""
        records = (line.split(":") for line in reply.out.splitlines())
        return [_accounted(each) for each in records if _tells_of_end(each)]

    def _command(self, program: str, arguments: Sequence[str], stdin: str = "") -> Command:
        path = f"{self.programs}/{program}" if self.programs else program
        return Command([path, *arguments], stdin, self.environment)


def _job_lists(reply: Reply) -> Iterator[ET.Element]:
    """Yield the element of each job, parsing incrementally, as the XML may be long."""
    try:
        for _, element in ET.iterparse(StringIO(reply.out)):
            if element.tag == "job_list":
                yield element
                element.clear()
    except ET.ParseError as error:
        raise Unreadable(f"{error}: {reply.said[:200]}") from None


def _outputs(path: str) -> list[str]:
    return ["-o", f"{path}.out", "-e", f"{path}.err"]


def _record(number: str, token: str) -> str:
    """Return the text that identifies a job, or all tasks of its array, in the accounting file."""
    array, _, task = number.partition(".")
    return f":{token.removesuffix(f'.{task}') if task else token}:{array}:"


def _sightings(job: ET.Element) -> Iterable[Sighting]:
    """Return one sighting for a job, or one for each task if tasks are listed together."""
    number, name = job.findtext("JB_job_number", ""), job.findtext("full_job_name", "")
    one = _sighting(job, number, name)
    tasks = job.findtext("tasks")
    if not tasks:
        return [one]
    return [attrs.evolve(one, id=f"{number}.{i}", token=f"{name}.{i}") for i in read(tasks)]


def _sighting(job: ET.Element, number: str, token: str) -> Sighting:
    letters = job.findtext("state", "")
    state, unknown = JobState.RUNNING, ""
    if "E" in letters:
        state = JobState.STUCK
    elif "q" in letters:
        state = JobState.PENDING
    elif not letters or set(letters) - set("dhrRstSTNP"):
        unknown = letters
    return Sighting(number, token, JobResult(state=state, reason=letters), unknown)


def _tells_of_end(record: Sequence[str]) -> bool:
    return len(record) > 35 and int(record[11]) not in _RESCHEDULED


def _accounted(record: Sequence[str]) -> Sighting:
    failed, exit_status = int(record[11]), int(record[12])
    number = exit_status - 128 if failed and 128 < exit_status < 256 else None
    result = JobResult(
        state=_state(failed, exit_status),
        exit_status=exit_status if number is None else None,
        signal=number,
        reason=f"failed {failed}" if failed and failed != _BY_SIGNAL else "",
        started=float(record[9]) or None,
        ended=float(record[10]) or None,
        node=record[1],
    )
    task = f".{record[35]}" if record[35] != "0" else ""
    return Sighting(record[5] + task, record[4] + task, result)


def _state(failed: int, exit_status: int) -> JobState:
    if failed == _OVER_LIMIT:
        return JobState.TIMED_OUT
    return JobState.FAILED if failed or exit_status else JobState.COMPLETED
