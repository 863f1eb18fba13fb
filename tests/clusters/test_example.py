"""The engine of the documentation: short, complete, and it works."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from trio_turnstile.clusters import (
    Busy,
    Command,
    Engine,
    JobSpec,
    JobState,
    Refused,
    Reply,
    Taken,
    Unclear,
    Unreadable,
    open_cluster,
    run_command,
)

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "pbs.py"


@pytest.fixture
def pbs(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The example, imported from its file."""
    spec = importlib.util.spec_from_file_location("pbs", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pbs", module)
    spec.loader.exec_module(module)
    engine: Engine = module.PbsEngine()
    return engine


@attrs.define(eq=False)
class FakePbs:
    """Runs each job at once, and lists it as ``qstat`` would."""

    jobs: dict[str, dict[str, Any]] = attrs.field(factory=dict)

    async def __call__(self, command: Command) -> Reply:
        arguments = list(command.arguments)
        if arguments[0] == "qsub":
            return await self.submit(arguments, command.stdin)
        if arguments[0] == "qstat":
            await trio.lowlevel.checkpoint()
            return Reply(0, json.dumps({"Jobs": self.jobs}))
        return await run_command(command)

    async def submit(self, arguments: list[str], script: str) -> Reply:
        number = f"{len(self.jobs) + 1}.server"
        process = await trio.run_process(
            ["sh", "-s"],
            stdin=script.encode(),
            env={**os.environ, "PBS_JOBID": number},
            check=False,
            stderr=subprocess.DEVNULL,
        )
        job = {"Job_Name": arguments[2], "job_state": "F", "Exit_status": process.returncode}
        self.jobs[number] = job
        return Reply(0, f"{number}\n")


async def test_it_runs_jobs(pbs: Engine, tmp_path: Path) -> None:
    """The wrapper around the script, and its files, work with the example."""
    with trio.fail_after(60):
        async with open_cluster(pbs, directory=tmp_path, poll=(0.05, 1), run=FakePbs()) as cluster:
            results = [
                await (await cluster.submit(JobSpec(script))).wait()
                for script in ("exit 0", "exit 7", "kill -KILL $$")
            ]
    endings = [(result.state.name, result.exit_status, result.signal) for result in results]
    assert endings == [("COMPLETED", 0, None), ("FAILED", 7, None), ("FAILED", None, 9)]


def test_it_reads_what_pbs_prints(pbs: Engine) -> None:
    """It reads answers, states, and the statuses of jobs that have left no files."""
    answers = [
        pbs.read_submitted(reply)
        for reply in (
            Reply(0, "12.server\n"),
            Reply(1, err="qsub: would exceed queue generic's per-user limit of jobs"),
            Reply(1, err="qsub: cannot connect to server (errno=15010)"),
            Reply(1, err="qsub: Unknown queue"),
        )
    ]
    assert [type(answer) for answer in answers] == [Taken, Busy, Unclear, Refused]
    listed = {
        str(number): {"Job_Name": "tt", "job_state": state, "Exit_status": status}
        for number, (state, status) in enumerate(
            [("Q", 0), ("R", 0), ("?", 0), ("F", 0), ("F", 3), ("F", 271), ("F", -1)]
        )
    }
    sightings = list(pbs.read_poll(Reply(0, json.dumps({"Jobs": listed}))))
    assert [each.result.state.name for each in sightings] == [
        *("PENDING", "RUNNING", "RUNNING", "COMPLETED", "FAILED", "FAILED", "FAILED")
    ]
    assert sightings[2].unknown == "?"
    assert sightings[5].result.signal == 15
    with pytest.raises(Unreadable):
        list(pbs.read_poll(Reply(1, err="qstat: cannot connect to server")))


def test_it_asks_for_what_a_job_needs(pbs: Engine) -> None:
    """It uses the options of PBS."""
    spec = JobSpec("exit 0", cpus=2, memory=100, seconds=9.5, options=["-q", "long"])
    arguments = pbs.submit("tt", "wrapper", spec, "/d/tt").arguments
    assert arguments[7:] == [
        *("-l", "select=1:ncpus=2:mem=100mb", "-l", "walltime=10", "-q", "long")
    ]
    assert pbs.cancel(["1", "2"]).arguments == ["qdel", "1", "2"]
    assert JobState.RUNNING.ended is False


def test_it_is_short() -> None:
    """It has fewer than 80 lines."""
    assert len(EXAMPLE.read_text().splitlines()) < 80
