"""An engine for OpenPBS and PBS Professional."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence

from trio_turnstile.clusters import (
    Answer,
    Busy,
    Command,
    JobResult,
    JobSpec,
    JobState,
    Refused,
    Reply,
    Sighting,
    Taken,
    Unclear,
    Unreadable,
)

STATES = dict.fromkeys("QHWTM", JobState.PENDING) | dict.fromkeys("FX", JobState.COMPLETED)


class PbsEngine:
    job_id = '"$PBS_JOBID"'
    supervises = True  # PBS ends jobs that run too long
    reserved: frozenset[int] = frozenset()

    def submit(self, token: str, wrapper: str, spec: JobSpec, output: str) -> Command:
        resources = f"select=1:ncpus={spec.cpus or 1}"
        if spec.memory is not None:
            resources += f":mem={spec.memory}mb"
        arguments = ["qsub", "-N", token, "-o", f"{output}.out", "-e", f"{output}.err"]
        arguments += ["-l", resources]
        if spec.seconds is not None:
            arguments += ["-l", f"walltime={math.ceil(spec.seconds)}"]
        return Command([*arguments, *spec.options], wrapper)

    def read_submitted(self, reply: Reply) -> Answer:
        if reply.status == 0:
            return Taken(reply.out.strip())
        if "exceed" in reply.err and "limit" in reply.err:
            return Busy(reply.said)
        if "cannot connect" in reply.err or reply.status < 0:
            return Unclear(reply.said)
        return Refused(reply.said)

    def poll(self) -> Command:
        return Command(["qstat", "-x", "-f", "-F", "json"])

    def read_poll(self, reply: Reply) -> Iterable[Sighting]:
        if reply.status:
            raise Unreadable(reply.said)
        return [self.sighting(*job) for job in json.loads(reply.out).get("Jobs", {}).items()]

    def sighting(self, number: str, job: dict[str, str | int]) -> Sighting:
        word, status = str(job["job_state"]), int(job.get("Exit_status", 0))
        state = STATES.get(word, JobState.RUNNING)
        if not state.ended:
            result = JobResult(state=state)
        elif status < 0 or status > 256:  # PBS itself has failed, or a signal ended the job
            signal = status - 256 if status > 256 else None
            result = JobResult(state=JobState.FAILED, signal=signal)
        else:
            result = JobResult(state=JobState.FAILED if status else state, exit_status=status)
        return Sighting(
            number, str(job["Job_Name"]), result, "" if word in [*STATES, *"REBSU"] else word
        )

    def cancel(self, ids: Sequence[str]) -> Command:
        return Command(["qdel", *ids])

    def account(self, jobs: Sequence[tuple[str, str]]) -> None: ...

    def read_account(self, reply: Reply) -> Iterable[Sighting]:
        return ()
