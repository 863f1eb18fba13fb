"""Jobs that are processes of this machine: how they end, and what becomes of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.lowlevel

from trio_turnstile import Channels, PhaseTimeouts, Retry, open_ledger, read_ledger, run_phases
from trio_turnstile.clusters import (
    Arrays,
    Cluster,
    ClusterJob,
    Command,
    Job,
    JobCancelled,
    JobFailed,
    JobLost,
    JobResult,
    JobSpec,
    JobState,
    LocalEngine,
    Reply,
    SlurmEngine,
    open_cluster,
    run_command,
)
from trio_turnstile.testing import assert_conserved, no_backoff


def opened(directory: Path) -> AbstractAsyncContextManager[Cluster]:
    return open_cluster(LocalEngine(), directory=directory, poll=(0.05, 1.0), lost_after=0.5)


@asynccontextmanager
async def cluster_of(directory: Path) -> AsyncIterator[Cluster]:
    with trio.fail_after(60):
        async with opened(directory) as cluster:
            yield cluster


async def end_of(cluster: Cluster, spec: JobSpec) -> JobResult:
    return await (await cluster.submit(spec)).wait()


def going_on(job: Job) -> bool:
    """Whether the session of a job has a process."""
    try:
        os.killpg(int(job.id), 0)
    except ProcessLookupError:
        return False
    return True


def read(path: str | Path) -> str:
    return Path(path).read_text()


def files(directory: Path, ending: str) -> list[Path]:
    return list(directory.glob(f"*.{ending}"))


async def until_gone(job: Job) -> None:
    with trio.fail_after(10):
        while going_on(job):
            await trio.sleep(0.02)


@pytest.mark.parametrize(
    ("script", "ending"),
    [
        ("exit 0", (JobState.COMPLETED, 0, None)),
        ("exit 3", (JobState.FAILED, 3, None)),
        ("exit 99", (JobState.FAILED, 99, None)),
        ("exit 143", (JobState.FAILED, 143, None)),
        ("exit 255", (JobState.FAILED, 255, None)),
        ("kill -TERM $$", (JobState.FAILED, None, signal.SIGTERM)),
        ("ulimit -c 0; kill -SEGV $$", (JobState.FAILED, None, signal.SIGSEGV)),
        ("kill -KILL $$", (JobState.FAILED, None, signal.SIGKILL)),
        ("trap 'exit 7' TERM; kill -TERM $$; sleep 9", (JobState.FAILED, 7, None)),
        ("no-such-command", (JobState.FAILED, 127, None)),
        ("#!/no/such/shell", (JobState.FAILED, None, None)),
    ],
)
async def test_an_exit_status_is_told_from_a_signal(
    script: str, ending: tuple[JobState, int | None, int | None], tmp_path: Path
) -> None:
    """A shell reports 143 for exit status 143 and for SIGTERM; the result distinguishes them."""
    async with cluster_of(tmp_path) as cluster:
        result = await end_of(cluster, JobSpec(script))
    state, exit_status, number = ending
    assert (result.state, result.signal) == (state, number)
    assert exit_status is None or result.exit_status == exit_status
    assert result.started is not None
    assert result.ended is not None
    assert result.started <= result.ended
    assert result.node == os.uname().nodename


async def test_output_is_left_in_the_directory(tmp_path: Path) -> None:
    """A job has paths for its outputs; the script may be in any language."""
    async with cluster_of(tmp_path / "not there yet") as cluster:
        script = '#!/usr/bin/awk -f\nBEGIN { print "it\'s"; print "bad" >"/dev/stderr" }'
        job = await cluster.submit(JobSpec(script))
        assert (await job.wait()).state is JobState.COMPLETED
        assert read(job.output) == "it's\n"
        assert read(job.errors) == "bad\n"


async def test_a_script_may_have_any_bytes(tmp_path: Path) -> None:
    """Names of files may contain them."""
    async with cluster_of(tmp_path) as cluster:
        job = await cluster.submit(JobSpec(f"echo {os.fsdecode(b'caf' + bytes([0xE9]))}"))
        await job.wait()
        assert await trio.Path(job.output).read_bytes() == b"caf\xe9\n"


async def test_commands_do_not_hear_a_ctrl_c_at_the_terminal() -> None:
    """They are in their own session, so a submission is not cut off."""
    reply = await run_command(Command(["sh", "-c", "ps -o sid= -p $$"]))
    assert int(reply.out) != os.getsid(0)


async def test_a_job_that_runs_too_long_is_ended(tmp_path: Path) -> None:
    """Everything that it has started ends too."""
    async with cluster_of(tmp_path) as cluster:
        job = await cluster.submit(JobSpec("sleep 99 & sleep 99", seconds=0.3))
        assert (await job.wait()).state is JobState.TIMED_OUT
        await until_gone(job)


async def test_a_job_is_cancelled_with_all_that_it_has_started(tmp_path: Path) -> None:
    """The result says so; cancelling it again has no effect."""
    async with cluster_of(tmp_path) as cluster:
        job = await cluster.submit(JobSpec("sleep 99 & sleep 99"))
        job.cancel()
        job.cancel()
        assert (await job.wait()).state is JobState.CANCELLED
        await until_gone(job)
        job.cancel()


async def test_a_job_that_leaves_no_trace_is_lost(tmp_path: Path) -> None:
    """It does not count as completed, although its process is gone."""
    async with cluster_of(tmp_path) as cluster:
        job = await cluster.submit(JobSpec("sleep 99"))
        while job.state is not JobState.RUNNING:
            await trio.sleep(0.02)
        os.killpg(int(job.id), signal.SIGKILL)
        result = await job.wait()
        assert result.state is JobState.LOST
        with pytest.raises(JobLost, match=r"^job mine: lost \(no trace of it is left\)$") as caught:
            result.check("mine")
        assert caught.value.retryable


async def test_leaving_the_cluster_cancels_what_is_not_detached(tmp_path: Path) -> None:
    """Detached jobs go on, and can be attached later by name and number."""
    async with cluster_of(tmp_path) as cluster:
        left = await cluster.submit(JobSpec("sleep 99"))
        wait = f"until [ -e {tmp_path}/go ]; do sleep 0.1; done"
        kept = await cluster.submit(JobSpec(f"{wait}; exit 4"))
        kept.detach()
    await until_gone(left)
    assert going_on(kept)
    (tmp_path / "go").touch()
    async with cluster_of(tmp_path) as cluster:
        again = cluster.attach(kept.token, kept.id)
        assert (await again.wait()).exit_status == 4


async def test_a_submission_that_is_cancelled_leaves_no_job(tmp_path: Path) -> None:
    """It is completed, because the job may have been taken; then the job is cancelled."""
    async with cluster_of(tmp_path) as cluster:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cluster.submit, JobSpec("sleep 99"))
            while not files(tmp_path, "job"):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        with trio.fail_after(10):
            while cluster.statistics().jobs:
                await trio.sleep(0.02)
    assert len(files(tmp_path, "job")) == 1


async def test_what_may_have_been_submitted_is_not_submitted_again(tmp_path: Path) -> None:
    """The cluster looks for it by its name, even if it ended long ago."""
    spec = JobSpec("echo once; exit 5")
    async with cluster_of(tmp_path) as cluster:
        job = await cluster.submit(spec)
        await job.wait()
    async with cluster_of(tmp_path) as cluster:
        again = await cluster.resubmit(spec, job.token)
        assert (await again.wait()).exit_status == 5
        assert again.id == job.id
    assert len(files(tmp_path, "claim")) == 1


async def test_of_two_jobs_with_one_name_only_one_goes_on(tmp_path: Path) -> None:
    """The second job finds that the first has claimed the name; the first one's result counts."""
    spec = JobSpec("echo begun; sleep 1; exit 5")
    async with cluster_of(tmp_path) as cluster, cluster_of(tmp_path) as other:
        first = await cluster.submit(spec)
        while not files(tmp_path, "claim"):
            await trio.sleep(0.02)
        second = await other.submit(spec, token=first.token)
        assert (await first.wait()).exit_status == 5
        assert (await second.wait()).exit_status == 5
    assert read(tmp_path / f"{first.token}.claim").strip() == first.id


async def test_of_two_runs_of_one_job_the_last_one_tells_how_it_ended(tmp_path: Path) -> None:
    """If a node is lost, its job is queued again, but the first run may still go on there."""
    first, go = tmp_path / "first", tmp_path / "go"
    script = f"mkdir {first} || exit 5; until [ -e {go} ]; do sleep 0.05; done; exit 3"
    async with cluster_of(tmp_path) as cluster:
        job = await cluster.submit(JobSpec(script))
        while not first.exists():
            await trio.sleep(0.02)
        again = read(tmp_path / f"{job.token}.job").replace("job=$$", f"job={job.id}")
        await trio.run_process(["sh"], stdin=again.encode(), check=False, start_new_session=True)
        go.touch()
        assert (await job.wait()).exit_status == 5


# ---- operations ----


async def test_operations_submit_and_wait(tmp_path: Path) -> None:
    """The token is held until the job has ended, and a failed job has its own error."""
    async with cluster_of(tmp_path) as cluster:
        specs = [JobSpec(f"exit {number}", f"job-{number}") for number in range(3)]
        report = await run_phases([ClusterJob(cluster, spec) for spec in specs], limiter=2)
    assert (report.completed, report.failed) == (1, 2)
    causes = [error.__cause__ for error in report.errors]
    assert all(isinstance(cause, JobFailed) and not cause.retryable for cause in causes)
    assert "job job-1: failed with exit status 1 on " in " ".join(map(str, causes))


async def test_an_operation_that_takes_too_long_cancels_its_job(tmp_path: Path) -> None:
    """The job ends, although nobody waits for it any more."""
    async with cluster_of(tmp_path) as cluster:
        operation = ClusterJob(cluster, JobSpec("sleep 99", "long"))
        report = await run_phases([operation], limiter=1, timeouts=PhaseTimeouts(monitor=0.3))
        assert report.failed == 1
        assert operation.job is not None
        result = await operation.job.wait()
        with pytest.raises(JobCancelled):
            result.check("long")


async def test_a_retry_submits_a_new_job(tmp_path: Path) -> None:
    """Each attempt has a job of its own."""
    script = f"echo x >>{tmp_path}/tries; [ $(wc -l <{tmp_path}/tries) = 2 ]"
    async with cluster_of(tmp_path / "jobs") as cluster:
        operation = ClusterJob(cluster, JobSpec(script, "second"))
        with no_backoff():
            report = await run_phases([operation], limiter=1, on_error=[Retry(2, on=JobFailed)])
    assert report.completed == 1
    assert_conserved(report)


MANAGER = """
import sys, trio
from trio_turnstile import open_ledger, run_phases
from trio_turnstile.clusters import ClusterJob, JobSpec, LocalEngine, open_cluster

async def main(folder):
    script = "echo x >>{}/runs-{}; sleep 0.{}; exit {}"
    async with open_cluster(LocalEngine(), directory=f"{folder}/jobs", poll=(0.05, 1.0)) as cluster:
        specs = [JobSpec(script.format(folder, n, n % 10, n % 3), f"job-{n}") for n in range(30)]
        async with open_ledger(f"{folder}/run.db") as ledger:
            jobs = [ClusterJob(cluster, spec) for spec in specs]
            report = await run_phases(jobs, limiter=10, ledger=ledger)
    print(report.completed, report.failed, report.skipped)

trio.run(main, sys.argv[1])
"""


@pytest.mark.slow
async def test_a_manager_that_is_killed_goes_on_with_its_jobs(tmp_path: Path) -> None:
    """Wherever it is killed, each operation has one job and one outcome in the end."""
    command = [sys.executable, "-c", MANAGER, str(tmp_path)]
    for seconds in (0.7, 0.9, 1.2, 1.6):
        process = await trio.lowlevel.open_process(command, stdout=subprocess.DEVNULL)
        await trio.sleep(seconds)
        process.kill()
        await process.wait()
    with trio.fail_after(120):
        last = await trio.run_process(command, capture_stdout=True)
    completed, failed, skipped = map(int, last.stdout.split())
    assert completed + failed + skipped == 30
    with read_ledger(tmp_path / "run.db") as entries:
        outcomes = [entry.outcome for entry in entries]
    assert (outcomes.count("completed"), outcomes.count("failed")) == (10, 20)
    runs = [read(tmp_path / f"runs-{number}") for number in range(30)]
    assert runs == ["x\n"] * 30


async def test_a_detached_job_is_recalled_by_the_next_run(tmp_path: Path) -> None:
    """The cancelled run does not clean up after it, and the next run waits for it."""
    cleaned: list[str] = []

    class Cleans(ClusterJob):
        async def cleanup(self, channels: Channels) -> None:
            cleaned.append(self.identity)
            await trio.lowlevel.checkpoint()

    script = "echo x >>{0}/runs-{1}; sleep 1"
    specs = [JobSpec(script.format(tmp_path, name), name) for name in ("kept", "left")]
    async with cluster_of(tmp_path / "jobs") as cluster, open_ledger(tmp_path / "db") as ledger:
        jobs = [Cleans(cluster, spec) for spec in specs]
        with trio.move_on_after(20) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(run_phases, jobs, limiter=2, ledger=ledger))
                while not all(job.job and job.job.state is JobState.RUNNING for job in jobs):
                    await trio.sleep(0.02)
                assert jobs[0].job is not None
                jobs[0].job.detach()
                scope.cancel()
        assert cleaned == ["left"]
    async with cluster_of(tmp_path / "jobs") as cluster, open_ledger(tmp_path / "db") as ledger:
        report = await run_phases(
            [Cleans(cluster, spec) for spec in specs], limiter=2, ledger=ledger
        )
    assert report.completed == 2
    assert sorted(cleaned) == ["kept", "left", "left"]
    assert (read(tmp_path / "runs-kept"), read(tmp_path / "runs-left")) == ("x\n", "x\nx\n")


# ---- arrays ----


async def run_tasks(command: Command) -> Reply:
    """Behave like a Slurm that runs the tasks of an array one after the other."""
    arguments = command.arguments
    if arguments[0] in ("squeue", "sacct"):
        await trio.lowlevel.checkpoint()
        return Reply(0)
    if arguments[0] != "sbatch":
        return await run_command(command)
    first, last = next(word for word in arguments if "--array" in word)[8:].split("-")
    for index in range(int(first), int(last) + 1):
        task = {"SLURM_ARRAY_JOB_ID": "47", "SLURM_ARRAY_TASK_ID": str(index)}
        await trio.run_process(
            ["sh", "-s"],
            stdin=command.stdin.encode(),
            env={**os.environ, **task},
            check=False,
            stderr=subprocess.DEVNULL,
        )
    return Reply(0, "47\n")


async def test_each_task_of_an_array_runs_its_own_script(tmp_path: Path) -> None:
    """The script may be in any language, and contain any characters."""
    directory = tmp_path / "it's"
    scripts = [f"echo {n} >>{tmp_path}/ran; exit {n}" for n in range(12)]
    scripts += ["", "\n\n", '#!/usr/bin/awk -f\nBEGIN { print "it\'s"; exit 7 }', "x='\\n'\nexit 9"]
    ends: dict[int, int | None] = {}

    async def one(number: int, script: str) -> None:
        ends[number] = (await (await cluster.submit(JobSpec(script))).wait()).exit_status

    with trio.fail_after(60):
        async with (
            open_cluster(
                SlurmEngine(), directory=directory, poll=(0.05, 0.5), arrays=Arrays(), run=run_tasks
            ) as cluster,
            trio.open_nursery() as nursery,
        ):
            for number, script in enumerate(scripts):
                nursery.start_soon(one, number, script)
    assert ends == {**{n: n for n in range(12)}, 12: 0, 13: 0, 14: 7, 15: 9}
    assert sorted(map(int, read(tmp_path / "ran").split())) == list(range(12))


async def test_a_task_that_does_not_find_its_script_has_not_completed(tmp_path: Path) -> None:
    """It writes no file about its end; its exit status is an error."""
    wrappers: list[str] = []

    async def keep(command: Command) -> Reply:
        if command.arguments[0] == "sbatch":
            wrappers.append(command.stdin)
            await trio.sleep_forever()
        return await run_command(command)

    with trio.move_on_after(20):
        async with (
            open_cluster(
                SlurmEngine(), directory=tmp_path, arrays=Arrays(), run=keep, grace=0
            ) as cluster,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(cluster.submit, JobSpec("exit 0"))
            while not wrappers:
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    for path in files(tmp_path, "tasks"):
        path.unlink()
    task = {**os.environ, "SLURM_ARRAY_JOB_ID": "47", "SLURM_ARRAY_TASK_ID": "1"}
    script = wrappers[0].encode()
    process = await trio.run_process(
        ["sh", "-s"], stdin=script, env=task, check=False, capture_stderr=True
    )
    assert process.returncode == 74
    assert b"cannot be read from" in process.stderr
    assert not files(tmp_path, "exit")
