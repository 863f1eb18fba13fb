"""Jobs as tasks of arrays, on a Slurm that only behaves as it was seen to."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from testkit.jobs import all_ends
from testkit.slurm import FakeJob, FakeSlurm
from trio_turnstile import Limiter, open_ledger, run_phases
from trio_turnstile.clusters import (
    Arrays,
    Cluster,
    ClusterJob,
    JobRefused,
    JobResult,
    JobSpec,
    JobState,
    LocalEngine,
    SlurmEngine,
    open_cluster,
)

THOUSAND = Arrays(1000)


def opened(
    slurm: FakeSlurm, arrays: Arrays = THOUSAND, **options: Any
) -> AbstractAsyncContextManager[Cluster]:
    return open_cluster(SlurmEngine(), directory="/jobs", run=slurm, arrays=arrays, **options)


def sizes(slurm: FakeSlurm) -> list[int]:
    """How many tasks each array has."""
    return [len(array.tasks) for array in slurm.arrays.values()]


async def running(slurm: FakeSlurm) -> int:
    await trio.lowlevel.checkpoint()
    slurm.advance()
    now = trio.current_time()
    return sum(job.word(now) == "RUNNING" for job in slurm.jobs)


# ---- gathering ----


async def test_jobs_that_come_together_are_one_array(autojump_clock: MockClock) -> None:
    """One call submits them; each has its own script and its own end."""
    slurm = FakeSlurm()
    async with opened(slurm) as cluster:
        results = await all_ends(cluster, [JobSpec(f"sleep {n}\nexit {n}") for n in range(100)])
    assert [result.exit_status for result in results] == list(range(100))
    assert slurm.calls["sbatch"] == 1
    assert sizes(slurm) == [100]


async def test_an_array_is_no_larger_than_the_site_allows(autojump_clock: MockClock) -> None:
    """It is no larger than asked for either; the largest index is one below MaxArraySize."""
    slurm = FakeSlurm(most=41)
    async with opened(slurm) as cluster:
        await all_ends(cluster, [JobSpec("sleep 1")] * 100)
    assert sorted(sizes(slurm)) == [20, 40, 40]


@pytest.mark.parametrize("silent", [set(), {"scontrol"}])
async def test_a_site_that_does_not_tell_what_it_allows(
    autojump_clock: MockClock, silent: set[str]
) -> None:
    """Arrays are as large as asked for."""
    slurm = FakeSlurm(most=0, silent=silent)
    async with opened(slurm, Arrays(30)) as cluster:
        await all_ends(cluster, [JobSpec("sleep 1")] * 45)
    assert sorted(sizes(slurm)) == [15, 30]


async def test_jobs_that_need_other_resources_are_other_arrays(autojump_clock: MockClock) -> None:
    """All tasks of an array need the same resources."""
    slurm = FakeSlurm()
    specs = [JobSpec(f"exit {n}", str(n), cpus=1 + n % 2) for n in range(10)]
    async with opened(slurm) as cluster:
        results = await all_ends(cluster, specs)
    assert [result.exit_status for result in results] == list(range(10))
    assert sizes(slurm) == [5, 5]


async def test_a_job_that_comes_late_is_not_waited_for(autojump_clock: MockClock) -> None:
    """Jobs wait two seconds for a name that was given out; the late job gets its own array."""
    slurm = FakeSlurm()
    async with opened(slurm) as cluster, trio.open_nursery() as nursery:
        spec = JobSpec("exit 3")
        tokens = [cluster.token_for(spec) for _ in range(3)]
        began = trio.current_time()
        for token in (tokens[0], tokens[2]):
            nursery.start_soon(partial(cluster.submit, spec, token=token))
        await trio.sleep(1.9)
        assert not slurm.jobs
        await trio.sleep(1)
        assert sizes(slurm) == [1, 1]
        job = await cluster.submit(spec, token=tokens[1])
        assert (await job.wait()).exit_status == 3
        assert job.id == "3_2"
        assert trio.current_time() - began < 10


async def test_a_job_with_a_name_of_your_own_is_no_task(autojump_clock: MockClock) -> None:
    """It is submitted separately."""
    slurm = FakeSlurm()
    async with opened(slurm) as cluster:
        job = await cluster.submit(JobSpec("exit 3"), token="mine")
        assert (await job.wait()).exit_status == 3
    assert (job.id, slurm.arrays) == ("1", {})


async def test_what_an_engine_cannot_do_is_an_error(autojump_clock: MockClock) -> None:
    """A LocalEngine has no arrays."""
    with pytest.raises(TypeError, match="a LocalEngine submits no arrays: leave arrays= out"):
        async with open_cluster(LocalEngine(), directory="/jobs", run=FakeSlurm(), arrays=Arrays()):
            pass
    with pytest.raises(ValueError, match="size must be at least 1"):
        Arrays(0)


async def test_where_scripts_cannot_be_written_there_is_no_array(
    autojump_clock: MockClock,
) -> None:
    """The error names the file."""
    slurm = FakeSlurm()
    async with opened(slurm) as cluster:
        slurm.directory = False
        with pytest.raises(JobRefused, match=r"cannot be written to /jobs/.*: no such directory"):
            await cluster.submit(JobSpec("exit 0"))
        slurm.silent.add("sh")
        with pytest.raises(JobRefused, match=r"cannot be written to /jobs/.*: no answer"):
            await cluster.submit(JobSpec("exit 0"))
        slurm.silent.clear()
        slurm.directory = True
    assert not slurm.jobs


# ---- submitting ----


async def test_where_the_site_has_no_room_arrays_are_cut(autojump_clock: MockClock) -> None:
    """Each task counts as a job for the limits of a user; in the end all of them have run."""
    slurm = FakeSlurm(full=30)
    async with opened(slurm) as cluster:
        results = await all_ends(cluster, [JobSpec(f"sleep 20\nexit {n}") for n in range(100)])
        assert trio.current_time() < 300
    assert [result.exit_status for result in results] == list(range(100))
    assert max(sizes(slurm)) <= 30
    assert slurm.calls["sbatch"] < 80


async def test_while_there_is_no_room_one_submission_asks_for_it(
    autojump_clock: MockClock,
) -> None:
    """This includes single jobs: a hundred waiting jobs make no more calls than one."""
    slurm = FakeSlurm(full=5)
    async with open_cluster(SlurmEngine(), directory="/jobs", run=slurm) as cluster:
        with trio.move_on_after(300):
            await all_ends(cluster, [JobSpec("sleep 99999999")] * 100)
        assert slurm.calls["sbatch"] < 5 + 8 + 12
        assert len(slurm.jobs) == 5
        began = trio.current_time()
    assert trio.current_time() - began < 10  # those that wait are given up
    assert len(slurm.jobs) == 5


async def test_when_there_is_room_again_it_is_soon_used(autojump_clock: MockClock) -> None:
    """The end of one of our jobs is a reason to try again."""
    slurm = FakeSlurm(full=5)
    async with open_cluster(
        SlurmEngine(), directory="/jobs", run=slurm, poll=(0.5, 5.0)
    ) as cluster:
        await all_ends(cluster, [JobSpec("sleep 100")] * 15)
        assert trio.current_time() < 3 * 110


@pytest.mark.parametrize("late", [0.5, 2.9, None])
async def test_after_an_unclear_answer_there_is_one_array(
    autojump_clock: MockClock, late: float | None
) -> None:
    """This holds whether the submission is carried out later, or never."""
    slurm = FakeSlurm(unclear=1, late=late)
    async with opened(slurm) as cluster:
        results = await all_ends(cluster, [JobSpec(f"sleep 30\nexit {n}") for n in range(10)])
    assert [result.exit_status for result in results] == list(range(10))
    assert sizes(slurm) == [10]
    assert slurm.calls["sbatch"] == (2 if late is None else 1)


async def test_an_array_that_is_refused_is_an_error_of_each_job(
    autojump_clock: MockClock,
) -> None:
    """The cluster tracks none of them."""
    async with opened(FakeSlurm()) as cluster:
        refused = []

        async def one() -> None:
            with pytest.raises(JobRefused, match="invalid partition"):
                await cluster.submit(JobSpec("exit 0", options=["--partition=none"]))
            refused.append(1)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(one)
        assert (len(refused), cluster.statistics().jobs) == (3, 0)


async def test_jobs_that_nobody_waits_for_are_not_submitted(autojump_clock: MockClock) -> None:
    """They were cancelled before the array was submitted."""
    slurm = FakeSlurm()
    async with opened(slurm) as cluster:
        with trio.move_on_after(0.01):
            await all_ends(cluster, [JobSpec("sleep 99999999")] * 10)
        await trio.sleep(5)
        assert cluster.statistics().jobs == 0
    assert not slurm.jobs


# ---- the throttle ----


async def test_as_many_tasks_run_as_the_limiter_says(autojump_clock: MockClock) -> None:
    """The others wait in the queue; a falling limit cancels no task."""
    slurm = FakeSlurm()
    limiter = Limiter("running", 20)
    arrays = Arrays(100, running=limiter)
    async with opened(slurm, arrays, poll=(0.5, 2.0)) as cluster, trio.open_nursery() as nursery:
        nursery.start_soon(all_ends, cluster, [JobSpec("sleep 50")] * 300)
        await trio.sleep(10)
        assert sizes(slurm) == [100, 100, 100]
        assert await running(slurm) == 20
        limiter.total_tokens = 5
        await trio.sleep(30)
        assert await running(slurm) == 20
        await trio.sleep(20)
        assert await running(slurm) == 5
        limiter.total_tokens = 250
        await trio.sleep(3)
        assert await running(slurm) == 250
        limiter.total_tokens = 0
        await trio.sleep(100)
        assert await running(slurm) == 0
        limiter.total_tokens = 40
    assert slurm.calls["scancel"] == 0
    assert slurm.calls["scontrol"] < 30


@pytest.mark.parametrize("seed", range(10))
async def test_no_more_tasks_run_than_the_limiter_says(
    autojump_clock: MockClock, seed: int
) -> None:
    """This holds for all arrays together, in any order, and when tasks begin between polls."""
    random = Random(seed)
    slurm = FakeSlurm(writing=[random.random() for _ in range(4)])
    arrays = Arrays(random.randint(8, 25), running=Limiter("running", 20))
    specs = [JobSpec(f"sleep {random.randint(1, 30)}") for _ in range(80)]
    async with opened(slurm, arrays, poll=(1.0, 5.0)) as cluster:
        await all_ends(cluster, specs)
    moments = [job.began for job in slurm.jobs]
    most = max(
        sum(job.began <= moment < job.began + job.seconds for job in slurm.jobs)
        for moment in moments
    )
    assert 18 <= most <= 20


async def test_an_array_that_is_within_the_limit_is_not_throttled(
    autojump_clock: MockClock,
) -> None:
    """No call is made for it, whichever tasks end."""
    slurm = FakeSlurm()
    limiter = Limiter("running", 20)
    async with opened(slurm, Arrays(running=limiter)) as cluster:
        jobs = [ClusterJob(cluster, JobSpec(f"sleep {n}", str(n))) for n in range(60)]
        report = await run_phases(jobs, limiter=limiter)
    assert report.completed == 60
    assert not slurm.throttled


async def test_a_throttle_that_cannot_be_set_is_set_later(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning is logged."""
    slurm = FakeSlurm()
    limiter = Limiter("running", 5)
    async with opened(slurm, Arrays(running=limiter)) as cluster, trio.open_nursery() as nursery:
        nursery.start_soon(all_ends, cluster, [JobSpec("sleep 100")] * 40)
        await trio.sleep(10)
        slurm.silent.add("scontrol")
        limiter.total_tokens = 10
        await trio.sleep(20)
        slurm.silent.clear()
        slurm.broken.add("scontrol")
        await trio.sleep(27)
        slurm.broken.clear()
        await trio.sleep(10)
        assert await running(slurm) == 10
        limiter.total_tokens = 40
    assert "the throttle of arrays 1 is not set: it does not answer" in caplog.messages
    assert any("is not set: scontrol: error: Unable" in message for message in caplog.messages)


# ---- ends ----


async def test_an_array_that_somebody_cancels(autojump_clock: MockClock) -> None:
    """Slurm lists an array on one line if none of its tasks has begun."""
    slurm = FakeSlurm()
    async with opened(slurm) as cluster, trio.open_nursery() as nursery:
        results: list[JobResult] = []

        async def jobs() -> None:
            results.extend(await all_ends(cluster, [JobSpec("sleep 99999999")] * 5))

        nursery.start_soon(jobs)
        await trio.sleep(0.3)
        array = slurm.arrays.pop("1")
        slurm.jobs[:] = [FakeJob("1", array.tasks[0].name, 0.0, 0.0, 0, state="CANCELLED")]
        slurm.files = False
    assert [result.state for result in results] == [JobState.CANCELLED] * 5


async def test_a_thousand_tasks_are_cancelled_with_two_calls(autojump_clock: MockClock) -> None:
    """The command lines are short."""
    slurm = FakeSlurm()
    async with opened(slurm, Arrays(running=Limiter("running", 100))) as cluster:
        jobs = [ClusterJob(cluster, JobSpec("sleep 99999999")) for _ in range(1000)]
        with trio.move_on_after(60):
            await run_phases(jobs, limiter=1000)
        assert len(slurm.jobs) == 1000
        await trio.sleep(30)
        assert cluster.statistics().jobs == 0
    assert slurm.calls["scancel"] <= 2
    assert not slurm.live()


async def test_tasks_are_found_again(autojump_clock: MockClock, tmp_path: Path) -> None:
    """If a run ends while it submits, the next run finds each job, and none exists twice."""
    slurm = FakeSlurm(unclear=1, late=2.0)
    specs = [JobSpec(f"sleep 100\nexit {n}", f"job-{n}") for n in range(20)]
    async with opened(slurm) as cluster, open_ledger(tmp_path / "db") as ledger:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                jobs = [ClusterJob(cluster, spec) for spec in specs]
                nursery.start_soon(partial(run_phases, jobs, limiter=20, ledger=ledger))
                while cluster.statistics().jobs < 20:
                    await trio.sleep(0.01)
                cluster.detach()
                scope.cancel()
    async with opened(slurm) as cluster, open_ledger(tmp_path / "db") as ledger:
        jobs = [ClusterJob(cluster, spec) for spec in specs]
        report = await run_phases(jobs, limiter=20, ledger=ledger)
        ends = [job.result.exit_status for job in jobs if job.result]
    assert (report.completed, report.failed) == (1, 19)
    assert ends == list(range(20))
    assert sum(sizes(slurm)) == 20
