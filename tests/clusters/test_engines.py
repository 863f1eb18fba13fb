"""Jobs on a real Slurm and a real Grid Engine, which the tests start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from testkit.jobs import all_ends
from trio_turnstile import Limiter, open_turnstile, read_ledger, run_phases
from trio_turnstile.clusters import (
    Arrays,
    Cluster,
    ClusterJob,
    JobRefused,
    JobResult,
    JobSpec,
    JobState,
    SgeEngine,
    SlurmEngine,
    open_cluster,
    run_command,
)

if TYPE_CHECKING:
    from conftest import Site

pytestmark = pytest.mark.slow

COMPLETED, FAILED = JobState.COMPLETED, JobState.FAILED


@asynccontextmanager
async def cluster_of(site: Site, directory: Path, **options: Any) -> AsyncIterator[Cluster]:
    with trio.fail_after(110):  # pytest ends everything after two minutes
        async with open_cluster(
            site.engine, directory=directory, poll=(0.5, 2.0), **options
        ) as cluster:
            yield cluster


def texts(directory: Path, pattern: str) -> list[str]:
    return [path.read_text() for path in directory.glob(pattern)]


async def test_exit_statuses_and_signals(site: Site, tmp_path: Path) -> None:
    """All of them are right, even those with a meaning for the engine or for shells."""
    numbers = [0, 1, 2, 3, 75, 99, 100, 126, 127, 128, 129, 137, 139, 143, 254, 255]
    signals = [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGUSR1, signal.SIGINT]
    specs = [JobSpec(f"exit {number}") for number in numbers]
    specs += [JobSpec(f"ulimit -c 0; kill -{number.value} $$") for number in signals]
    async with cluster_of(site, tmp_path) as cluster:
        results = await all_ends(cluster, specs)
    endings = [(result.state, result.exit_status, result.signal) for result in results]
    assert endings == [
        *((FAILED if number else COMPLETED, number, None) for number in numbers),
        *((FAILED, None, number) for number in signals),
    ]
    assert all(result.node and result.started and result.ended for result in results)


async def test_output_name_and_resources(site: Site, tmp_path: Path) -> None:
    """The output is in the directory, and the options reach the engine."""
    async with cluster_of(site, tmp_path) as cluster:
        job = await cluster.submit(JobSpec("echo here; echo there >&2", "nice name", seconds=90))
        assert (await job.wait()).state is COMPLETED
        assert (texts(tmp_path, "*.out"), texts(tmp_path, "*.err")) == (["here\n"], ["there\n"])
        with pytest.raises(JobRefused):
            await cluster.submit(JobSpec("exit 0", options=["--no-such-option"]))


async def test_a_line_of_a_script_is_no_option(site: Site, tmp_path: Path) -> None:
    """Such a line may come from an input."""
    script = f"cat <<'EOF'\n#$ -o {tmp_path}/other\n#SBATCH --output={tmp_path}/other\nEOF"
    async with cluster_of(site, tmp_path) as cluster:
        assert (await all_ends(cluster, [JobSpec(script)]))[0].state is COMPLETED
    assert len(texts(tmp_path, "*.out")[0].splitlines()) == 2


async def test_a_job_is_cancelled_whether_it_waits_or_runs(site: Site, tmp_path: Path) -> None:
    """A job that catches SIGTERM is cancelled too."""
    async with cluster_of(site, tmp_path) as cluster:
        running = await cluster.submit(JobSpec("sleep 300"))
        hold = ["--hold"] if isinstance(site.engine, SlurmEngine) else ["-h"]
        waiting = await cluster.submit(JobSpec("sleep 300", options=hold))
        while running.state is not JobState.RUNNING:
            await trio.sleep(0.1)
        assert waiting.state is JobState.PENDING
        running.cancel()
        waiting.cancel()
        for job in (running, waiting):
            assert (await job.wait()).state is JobState.CANCELLED


async def test_a_time_limit(site: Site, tmp_path: Path) -> None:
    """It is distinguished from a signal that somebody sent."""
    async with cluster_of(site, tmp_path) as cluster:
        job = await cluster.submit(JobSpec("sleep 300", seconds=2))
        if isinstance(site.engine, SlurmEngine):
            # It would round the limit up to a minute, and look every half a minute.
            await until(lambda: job.state is JobState.RUNNING, 30)
            await trio.to_thread.run_sync(update, site, f"jobid={job.id}", "endtime=now")
        assert (await job.wait()).state is JobState.TIMED_OUT


def update(slurm: Site, *what: str) -> None:
    """Make Slurm change something; it is no error if Slurm cannot do so any more."""
    environment = {**os.environ, **getattr(slurm.engine, "environment", {})}
    command = ["scontrol", "update", *what]
    subprocess.run(command, env=environment, check=False, capture_output=True)


async def test_the_controller_is_stopped_for_a_while(site: Site, tmp_path: Path) -> None:
    """60 jobs run and 10 are submitted meanwhile; each has exactly one end, which is right."""
    specs = [JobSpec(f"sleep {2 + n % 12}; exit {n % 5}") for n in range(70)]
    results: dict[int, JobResult] = {}

    async def one(number: int) -> None:
        results[number] = await (await cluster.submit(specs[number])).wait()

    async with cluster_of(site, tmp_path) as cluster, trio.open_nursery() as nursery:
        for number in range(60):
            nursery.start_soon(one, number)
        await trio.sleep(4)
        site.signal_controller(signal.SIGTERM)
        for number in range(60, 70):
            nursery.start_soon(one, number)
        await trio.sleep(20)
        assert cluster.statistics().unreachable_since is not None
        await trio.to_thread.run_sync(site.restart)
    assert [results[number].exit_status for number in range(70)] == [n % 5 for n in range(70)]
    assert len(texts(tmp_path, "*.claim")) == 70


async def test_the_controller_hangs_during_submissions(site: Site, tmp_path: Path) -> None:
    """It hangs for longer than the commands wait; no job exists twice, and none is lost."""
    specs = [JobSpec(f"echo x >>{tmp_path}/runs-{n}; exit {n}") for n in range(5)]
    async with cluster_of(site, tmp_path / "jobs") as cluster:
        async with trio.open_nursery() as nursery:
            site.signal_controller(signal.SIGSTOP)
            results: list[JobResult] = []

            async def jobs() -> None:
                results.extend(await all_ends(cluster, specs))

            nursery.start_soon(jobs)
            await trio.sleep(15)
            site.signal_controller(signal.SIGCONT)
        await trio.sleep(3)
    assert [result.exit_status for result in results] == list(range(5))
    assert texts(tmp_path, "runs-*") == ["x\n"] * 5


async def test_a_node_goes_down(slurm: Site, tmp_path: Path) -> None:
    """A job that is queued again is followed; any other job fails with its node."""
    async with cluster_of(slurm, tmp_path) as cluster:
        script = f"[ -e {tmp_path}/again ] || sleep 300; exit 6"
        kept, lost = [
            await cluster.submit(JobSpec(script, options=["--nodelist=n2", option]))
            for option in ("--requeue", "--no-requeue")
        ]
        while {kept.state, lost.state} != {JobState.RUNNING}:
            await trio.sleep(0.1)
        await trio.to_thread.run_sync(update, slurm, "nodename=n2", "state=down", "reason=test")
        assert (await lost.wait()).state is JobState.NODE_FAILED
        (tmp_path / "again").touch()
        # A node that answers comes back by itself, and cannot be resumed after that.
        await trio.to_thread.run_sync(update, slurm, "nodename=n2", "state=resume")
        while kept.state is not JobState.PENDING:
            await trio.sleep(0.1)
        # Slurm lets it begin two minutes later by itself. Elsewhere, since it takes the end of the
        # first run, which may come late, for that of a second one on the same node.
        begin = ("reqnodelist=n1", "starttime=now")
        await trio.to_thread.run_sync(update, slurm, f"jobid={kept.id}", *begin)
        assert (await kept.wait()).exit_status == 6


async def test_a_job_in_an_error_state(sge: Site, tmp_path: Path) -> None:
    """Grid Engine would keep it for ever, so it is taken out of the queue."""
    async with cluster_of(sge, tmp_path) as cluster:
        options = ["-o", "/no/such/directory/out"]
        job = await cluster.submit(JobSpec("exit 0", options=options))
        assert (await job.wait()).state is JobState.STUCK
    with trio.fail_after(20):
        while job.token in (await run_command(sge.engine.poll())).out:
            await trio.sleep(0.5)


# ---- the limit, while jobs run ----


def waits_for(directory: Path, number: int) -> JobSpec:
    """A job that runs until a file is there."""
    return JobSpec(f"until [ -e {directory}/go-{number} ]; do sleep 0.3; done", str(number))


def begun(directory: Path) -> int:
    return len(list(directory.glob("*.claim")))


async def until(condition: Callable[[], object], seconds: float) -> None:
    """Wait for a condition, but only for a limited time."""
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.1)


async def test_the_limit_moves_while_jobs_run(site: Site, tmp_path: Path) -> None:
    """From 50 to 5: no job is cancelled, and submissions go on when fewer than 5 are left.

    Up again: within a poll. A pause ends no job either, and holds back submissions only.
    """
    async with (
        cluster_of(site, tmp_path / "jobs") as cluster,
        open_turnstile() as turnstile,
        trio.open_nursery() as nursery,
    ):
        limiter = turnstile.limiter("jobs", 50)
        jobs = [ClusterJob(cluster, waits_for(tmp_path, n)) for n in range(80)]
        nursery.start_soon(partial(run_phases, jobs, limiter=limiter))

        def submitted() -> int:
            return sum(job.job is not None for job in jobs)

        await until(lambda: begun(tmp_path / "jobs") == 50, 60)
        limiter.total_tokens = 5
        for number in range(46):
            (tmp_path / f"go-{number}").touch()
        await until(lambda: submitted() == 51, 60)
        await trio.sleep(2)
        assert (submitted(), cluster.statistics().jobs) == (51, 5)
        limiter.total_tokens = 20
        # Within a poll; but 15 calls of qsub take their time on a machine that is busy.
        await until(lambda: submitted() == 66, 20)
        limiter.pause()
        for number in range(46, 56):
            (tmp_path / f"go-{number}").touch()
        await until(lambda: cluster.statistics().jobs == 10, 60)
        await trio.sleep(2)
        assert submitted() == 66
        limiter.resume()
        await until(lambda: submitted() == 76, 20)
        for number in range(80):
            (tmp_path / f"go-{number}").touch()
    assert [job.result and job.result.state for job in jobs] == [COMPLETED] * 80


# ---- arrays ----


async def test_the_ends_of_array_tasks(site: Site, tmp_path: Path) -> None:
    """One call submits a hundred tasks; all exit statuses and signals are right."""
    specs = [JobSpec(f"echo {n}; sleep {n % 3}; exit {n + 90}", seconds=60) for n in range(95)]
    specs += [JobSpec(f"kill -{n} $$", seconds=60) for n in (1, 2, 9, 15, 12)]
    async with cluster_of(site, tmp_path, arrays=Arrays()) as cluster:
        results = await all_ends(cluster, specs)
        statistics = cluster.statistics()
    endings = [(result.exit_status, result.signal) for result in results]
    assert endings == [
        *((n + 90, None) for n in range(95)),
        *((None, n) for n in (1, 2, 9, 15, 12)),
    ]
    assert statistics.calls == 2 + statistics.polls  # for the limits of the site, and to submit
    assert set(texts(tmp_path, "*.out")) > {f"{n}\n" for n in range(95)}


async def test_array_tasks_run_as_the_limiter_says(site: Site, tmp_path: Path) -> None:
    """The limit goes down without cancelling any, to 0, and up. Two arrays share one limit."""
    limiter = Limiter("running", 30)
    arrays = Arrays(40, running=limiter)
    async with cluster_of(site, tmp_path / "jobs", arrays=arrays) as cluster:
        specs = [waits_for(tmp_path, n) for n in range(60)]
        async with trio.open_nursery() as nursery:
            results: list[JobResult] = []

            async def jobs() -> None:
                results.extend(await all_ends(cluster, specs))

            nursery.start_soon(jobs)
            # Polls are further apart where the machine is so busy that each takes long.
            await until(lambda: cluster.statistics().running == 30, 60)
            await until(lambda: begun(tmp_path / "jobs") == 30, 60)
            await trio.sleep(2)
            assert begun(tmp_path / "jobs") == cluster.statistics().running == 30
            assert cluster.statistics().jobs == 60
            limiter.total_tokens = 5
            await trio.sleep(6)  # until the engine has been told, on a busy machine too
            for number in range(60):
                (tmp_path / f"go-{number}").touch()
            limiter.total_tokens = 0
            await until(lambda: cluster.statistics().jobs == 30, 60)
            await trio.sleep(3)
            assert begun(tmp_path / "jobs") == 30
            limiter.total_tokens = 60
    assert [result.state for result in results] == [COMPLETED] * 60


async def test_array_tasks_are_cancelled(site: Site, tmp_path: Path) -> None:
    """Running and waiting tasks are cancelled, with at most two calls."""
    arrays = Arrays(running=Limiter("running", 10))
    async with cluster_of(site, tmp_path, arrays=arrays) as cluster:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(all_ends, cluster, [JobSpec("sleep 300")] * 200)
                await until(lambda: cluster.statistics().running >= 10, 60)
                scope.cancel()
    assert len(texts(tmp_path, "*.claim")) <= 12


async def test_arrays_where_the_site_has_limits(sge: Site, tmp_path: Path) -> None:
    """No array is larger than the site allows, and there are no more than it allows."""
    with site_limits(sge, "max_aj_tasks 10", "max_u_jobs 2"):
        async with cluster_of(sge, tmp_path, arrays=Arrays()) as cluster:
            results = await all_ends(cluster, [JobSpec(f"exit {n}") for n in range(35)])
    assert [result.exit_status for result in results] == list(range(35))


async def test_single_jobs_where_the_site_has_limits(sge: Site, tmp_path: Path) -> None:
    """They wait for room, and none fails."""
    with site_limits(sge, "max_u_jobs 3"):
        async with cluster_of(sge, tmp_path) as cluster:
            results = await all_ends(cluster, [JobSpec(f"exit {n}") for n in range(8)])
            calls = cluster.statistics().calls
    assert [result.exit_status for result in results] == list(range(8))
    assert calls < 60


@contextmanager
def site_limits(site: Site, *limits: str) -> Iterator[None]:
    """Make Grid Engine allow only this many."""
    engine = site.engine
    assert isinstance(engine, SgeEngine)
    qconf, environment = f"{engine.programs}/qconf", {**os.environ, **engine.environment}
    command = [qconf, "-sconf"]
    before = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)

    def configure(lines: Iterable[str]) -> None:
        path = site.prefix / "global"
        path.write_text("".join(f"{line}\n" for line in lines))
        command = [qconf, "-Mconf", path]
        subprocess.run(command, env=environment, check=True, capture_output=True)

    names = {limit.split()[0] for limit in limits}
    lines = before.stdout.splitlines()
    configure([*(line for line in lines if line.split(" ")[0] not in names), *limits])
    yield
    configure(lines)


# ---- the manager ----


MANAGER = """
import sys, trio
from trio_turnstile import open_ledger, run_phases
from trio_turnstile.clusters import (
    Arrays, ClusterJob, JobSpec, SgeEngine, SlurmEngine, open_cluster
)

async def main(folder, engine, arrays):
    script = "echo x >>{}/runs-{}; sleep {}; exit {}"
    async with open_cluster(engine, directory=f"{folder}/jobs", arrays=arrays) as cluster:
        specs = [JobSpec(script.format(folder, n, n % 4, n % 3), f"job-{n}") for n in range(60)]
        async with open_ledger(f"{folder}/run.db") as ledger:
            jobs = [ClusterJob(cluster, spec) for spec in specs]
            report = await run_phases(jobs, limiter=30, ledger=ledger)
    print(report.completed, report.failed, report.skipped)

trio.run(main, sys.argv[1], eval(sys.argv[2]), eval(sys.argv[3]))
"""


@pytest.mark.parametrize("arrays", ["None", "Arrays()"])
async def test_the_manager_is_killed(site: Site, tmp_path: Path, arrays: str) -> None:
    """Started again with its ledger, it finds its jobs: each has run once, and has one outcome."""
    command = [sys.executable, "-c", MANAGER, str(tmp_path), repr(site.engine), arrays]
    for seconds in (1.0, 1.7, 2.5):
        process = await trio.lowlevel.open_process(command, stdout=subprocess.DEVNULL)
        await trio.sleep(seconds)
        process.kill()
        await process.wait()
    with trio.fail_after(200):
        await trio.run_process(command, capture_stdout=True)
    with read_ledger(tmp_path / "run.db") as entries:
        outcomes = [entry.outcome for entry in entries]
    assert (outcomes.count("completed"), outcomes.count("failed")) == (20, 40)
    assert texts(tmp_path, "runs-*") == ["x\n"] * 60
