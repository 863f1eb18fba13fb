"""`SgeEngine`: jobs on a cluster that is run by Grid Engine.

``qstat`` lists no job that has ended. Its end is told by its own file of the directory, and by
the file of accounts, to which the cluster adds a line for each end.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, final
from xml.etree import ElementTree as ET

import attrs

from ._engine import Answer, Busy, Command, Refused, Reply, Sighting, Taken, Unclear, Unreadable
from ._jobs import JobResult, JobSpec, JobState

_RESCHEDULED: Final = frozenset({24, 25})
"""What ``failed`` says of a job that runs again: no end."""

_OVER_LIMIT: Final = 37
_BY_SIGNAL: Final = 100

_UNCLEAR: Final = re.compile(
    r"unable to (send|contact)|commlib|got no response|can't connect|connection refused"
    r"|failed receiving|timeout",
    re.IGNORECASE,
)

_BUSY: Final = re.compile(r"are allowed per (user|cluster)|try again later", re.IGNORECASE)

_ACCOUNTS: Final = 'grep -h -F "$@" "$SGE_ROOT/${SGE_CELL:-default}/common/accounting"'


@final
@attrs.frozen(kw_only=True)
class SgeEngine:
    """Submits jobs to Grid Engine, with ``qsub``, ``qstat`` and ``qdel``.

    The script of a job may exit with 99 and 100, which mean something to Grid Engine: these are
    hidden from it, and are in the result.

    Args:
      options: arguments of ``qsub`` for every job, such as ``"-q", "long.q"``.
      environment: variables for the commands, such as ``SGE_ROOT``.
      programs: the directory of the commands, if they are not on the path. Debian has them in
        ``/usr/lib/gridengine``; those on its path take 85 ms longer.
      parallel_environment: what gives a job several CPUs of one node at this site.
      memory_resource: what limits the memory of a job at this site.
    """

    options: Sequence[str] = ()
    environment: Mapping[str, str] = attrs.field(factory=dict)
    programs: str = ""
    parallel_environment: str = "smp"
    memory_resource: str = "h_vmem"

    job_id = '"$JOB_ID"'
    supervises = True

    @property
    def reserved(self) -> frozenset[int]:
        """99 queues a job again, and 100 keeps it in the queue for ever."""
        return frozenset({99, 100})

    def submit(self, token: str, wrapper: str, spec: JobSpec, output: str) -> Command:
        """Call ``qsub``, with the wrapper on its standard input."""
        # Without -C it would take lines of the script that begin with #$ for options.
        arguments = ["-terse", "-cwd", "-C", "", "-S", "/bin/sh", "-N", token]
        arguments += ["-o", f"{output}.out", "-e", f"{output}.err"]
        if spec.cpus is not None:
            arguments += ["-pe", self.parallel_environment, str(spec.cpus)]
        if spec.memory is not None:
            arguments += ["-l", f"{self.memory_resource}={spec.memory}M"]
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
        try:
            root = ET.fromstring(reply.out)
        except ET.ParseError as error:
            raise Unreadable(f"{error}: {reply.said[:200]}") from None
        return [_sighting(job) for job in root.iter("job_list")]

    def cancel(self, ids: Sequence[str]) -> Command:
        """Call ``qdel``."""
        return self._command("qdel", ids)

    def account(self, jobs: Sequence[tuple[str, str]]) -> Command:
        """Look for the jobs in the file of accounts. ``qacct`` would do it for one at a time."""
        patterns = [word for number, token in jobs for word in ("-e", f":{token}:{number}:")]
        return Command(["sh", "-c", _ACCOUNTS, "sh", *patterns], "", self.environment)

    def read_account(self, reply: Reply) -> Iterable[Sighting]:
        """Read lines of the file of accounts, the last of each job being its end."""
        records = (line.split(":") for line in reply.out.splitlines())
        return [_accounted(each) for each in records if _tells_of_end(each)]

    def _command(self, program: str, arguments: Sequence[str], stdin: str = "") -> Command:
        path = f"{self.programs}/{program}" if self.programs else program
        return Command([path, *arguments], stdin, self.environment)


def _sighting(job: ET.Element) -> Sighting:
    number, token = job.findtext("JB_job_number", ""), job.findtext("full_job_name", "")
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
    return len(record) > 12 and int(record[11]) not in _RESCHEDULED


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
    return Sighting(record[5], record[4], result)


def _state(failed: int, exit_status: int) -> JobState:
    if failed == _OVER_LIMIT:
        return JobState.TIMED_OUT
    return JobState.FAILED if failed or exit_status else JobState.COMPLETED
