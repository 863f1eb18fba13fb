"""Jobs on a real Slurm that has accounting and limits per user, which the tests start."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from testkit.jobs import all_ends
from trio_turnstile.clusters import Cluster, JobSpec, JobState, SlurmEngine, open_cluster

if TYPE_CHECKING:
    from conftest import Site

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("accounted")]

MOST = 5
"""How many jobs a user may have."""


def call(slurm: Site, *command: str) -> str:
    """Call a program of Slurm, and return what it prints."""
    assert isinstance(slurm.engine, SlurmEngine)
    environment = {**os.environ, **slurm.engine.environment}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return done.stdout


def remove(directory: Path, pattern: str) -> None:
    for path in directory.glob(pattern):
        path.unlink()


async def test_a_limit_per_user_holds_submissions_back(
    accounted_slurm: Site, tmp_path: Path
) -> None:
    """No job fails because of it, and no more jobs than allowed are in the queue."""
    slurm = accounted_slurm
    limit = f"MaxSubmitJobsPerUser={MOST}"
    await trio.to_thread.run_sync(
        call, slurm, "sacctmgr", "-i", "modify", "qos", "normal", "set", limit
    )
    counts: list[int] = []

    async def count() -> None:
        while True:
            queue = await trio.to_thread.run_sync(
                call, slurm, "squeue", "-h", "-t", "PD,R", "-o", "%i"
            )
            counts.append(len(queue.splitlines()))
            await trio.sleep(0.2)

    with trio.fail_after(110):
        async with (
            open_cluster(slurm.engine, directory=tmp_path, poll=(0.5, 2.0)) as cluster,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(count)
            results = await all_ends(cluster, [JobSpec("sleep 0.5") for _ in range(3 * MOST)])
            nursery.cancel_scope.cancel()
    assert [result.state for result in results] == [JobState.COMPLETED] * 3 * MOST
    assert max(counts) <= MOST


async def test_accounting_knows_how_a_job_ended(accounted_slurm: Site, tmp_path: Path) -> None:
    """The controller has forgotten the job, and its file with the exit status is gone."""
    slurm = accounted_slurm

    async def submitted(cluster: Cluster) -> tuple[str, str]:
        job = await cluster.submit(JobSpec("exit 7"))
        token, number = job.token, job.id
        await job.wait()
        return token, number

    with trio.fail_after(110):
        async with open_cluster(slurm.engine, directory=tmp_path, poll=(0.5, 2.0)) as cluster:
            token, number = await submitted(cluster)
        remove(tmp_path, f"{token}*")
        while number in await trio.to_thread.run_sync(
            call, slurm, "squeue", "-h", "-t", "all", "-o", "%i"
        ):
            await trio.sleep(0.5)
        async with open_cluster(slurm.engine, directory=tmp_path, poll=(0.5, 2.0)) as cluster:
            result = await cluster.attach(token, number).wait()
    assert (result.state, result.exit_status) == (JobState.FAILED, 7)
