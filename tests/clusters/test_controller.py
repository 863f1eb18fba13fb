"""Polls, tokens, batches and outages, on a Slurm that only behaves as it was seen to."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from testkit.jobs import all_ends
from testkit.slurm import FakeJob, FakeSlurm
from trio_turnstile import (
    Aborted,
    Channels,
    Limiter,
    RateLimiter,
    open_ledger,
    run_phases,
    start_phases,
)
from trio_turnstile.clusters import (
    Cluster,
    ClusterJob,
    JobRefused,
    JobResult,
    JobSpec,
    JobState,
    SlurmEngine,
    new_token,
    open_cluster,
)


def opened(slurm: FakeSlurm, **options: Any) -> AbstractAsyncContextManager[Cluster]:
    return open_cluster(SlurmEngine(), directory="/jobs", run=slurm, **options)


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await trio.sleep(0.1)


# ---- polls ----


@pytest.mark.slow
async def test_ten_thousand_jobs_share_one_poll(autojump_clock: MockClock) -> None:
    """The number of polls follows from the interval, and each exit status is right."""
    slurm = FakeSlurm()
    specs = [JobSpec(f"sleep {number % 7}\nexit {number % 256}") for number in range(10_000)]
    began = trio.current_time()
    async with opened(slurm) as cluster:
        results = await all_ends(cluster, specs)
    elapsed = trio.current_time() - began
    assert [result.exit_status for result in results] == [n % 256 for n in range(10_000)]
    assert slurm.calls["squeue"] <= elapsed / 0.5 + 2
    assert slurm.calls["sbatch"] == 10_000


async def test_no_call_is_refused_within_a_budget_of_the_site(autojump_clock: MockClock) -> None:
    """500 jobs with Slurm's own limit of 40 calls at once and 4 a minute; polls go on between."""
    slurm = FakeSlurm(per_minute=4)
    async with opened(slurm, calls=RateLimiter(4 / 60, burst=40)) as cluster:
        results = await all_ends(cluster, [JobSpec(f"sleep 60\nexit {n % 2}") for n in range(500)])
    assert [result.exit_status for result in results] == [0, 1] * 250
    assert slurm.refused == 0
    assert slurm.calls["squeue"] < 150
    pauses = [b - a for a, b in zip(slurm.looked, slurm.looked[1:], strict=False)]
    assert max(pauses) < 100  # no poll waits for all of the submissions


async def test_polls_are_frequent_after_news_and_rare_without(autojump_clock: MockClock) -> None:
    """The interval grows from the shortest to the longest time; without jobs there is no poll."""
    slurm = FakeSlurm(latency=0.0)
    async with opened(slurm, poll=(1.0, 30.0)) as cluster:
        await trio.sleep(500)
        assert not slurm.looked
        job = await cluster.submit(JobSpec("sleep 1000"))
        with trio.move_on_after(900):
            await job.wait()
        pauses = [b - a for a, b in zip(slurm.looked, slurm.looked[1:], strict=False)]
        assert max(pauses) == 30
        assert len(slurm.looked) < 50
        before = len(slurm.looked)
        await cluster.submit(JobSpec("sleep 5"))
        await trio.sleep(4)
        assert len(slurm.looked) >= before + 2
        assert (await job.wait()).state is JobState.COMPLETED
        await trio.sleep(100)
        polls = len(slurm.looked)
        await trio.sleep(100)
        assert len(slurm.looked) == polls == cluster.statistics().polls


async def test_a_poll_that_fails_changes_nothing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Jobs go on and end during an outage. The statistics say since when it has lasted."""
    slurm = FakeSlurm()
    async with opened(slurm) as cluster, trio.open_nursery() as nursery:
        done: list[JobResult] = []

        async def jobs() -> None:
            done.extend(await all_ends(cluster, [JobSpec(f"sleep {n}") for n in range(60)]))

        nursery.start_soon(jobs)
        await trio.sleep(5)
        slurm.down, went_down = True, trio.current_time()
        with caplog.at_level(logging.INFO, "trio_turnstile.clusters"):
            await trio.sleep(200)
            statistics = cluster.statistics()
            assert statistics.jobs >= 50
            assert statistics.unreachable_since == pytest.approx(went_down, abs=3)
            assert 7 <= statistics.failed_polls <= 20  # 9 s for an answer, and up to 15 between
            slurm.down = False
            await until(lambda: cluster.statistics().unreachable_since is None)
        lost, found = caplog.records
        assert lost.getMessage().startswith(
            "the controller of SlurmEngine (/jobs) cannot be reached; jobs keep their states: "
            "squeue: error: Unable to contact"
        )
        assert vars(lost)["unreachable_since"] == statistics.unreachable_since
        assert re.search(r"can be reached again, after 2\d\d s$", found.getMessage())
        assert vars(found)["unreachable_since"] is None
    assert [result.state for result in done] == [JobState.COMPLETED] * 60


# ---- ends ----


async def test_what_the_controller_has_forgotten_is_told_by_the_files(
    autojump_clock: MockClock,
) -> None:
    """The file of the job has its exit status."""
    slurm = FakeSlurm()
    async with opened(slurm) as cluster:
        job = await cluster.submit(JobSpec("sleep 5\nexit 7"))
        slurm.gone.add(job.token)
        assert (await job.wait()).exit_status == 7


@pytest.mark.parametrize(
    ("written", "exit_status", "number"),
    [
        (143, 143, None),
        (271, None, 15),
        (523, None, 11),
        (15 / 256, None, 15),
        (139 / 256, None, 11),
    ],
)
async def test_what_awk_says_of_a_signal(
    autojump_clock: MockClock, written: Any, exit_status: int | None, number: int | None
) -> None:
    """It is 256 plus the number; 512 plus the number for a core dump; a fraction in old ones."""
    slurm = FakeSlurm()
    async with opened(slurm) as cluster:
        job = await cluster.submit(JobSpec("sleep 5"))
        slurm.jobs[0].status = written
        slurm.gone.add(job.token)
        result = await job.wait()
        assert (result.exit_status, result.signal) == (exit_status, number)


async def test_then_the_accounts_are_asked(autojump_clock: MockClock) -> None:
    """This is so if the job has left no file."""
    slurm = FakeSlurm(files=False, accounts=True)
    async with opened(slurm) as cluster:
        job = await cluster.submit(JobSpec("sleep 5"))
        slurm.gone.add(job.token)
        result = await job.wait()
        assert (result.state, result.signal, result.node) == (JobState.TIMED_OUT, 15, "n2")


async def test_what_nobody_knows_of_is_lost_after_a_while(autojump_clock: MockClock) -> None:
    """It never counts as completed; and a job that is listed again is not lost."""
    slurm = FakeSlurm(files=False)
    async with opened(slurm, lost_after=20) as cluster:
        job = await cluster.submit(JobSpec("sleep 100"))
        slurm.gone.add(job.token)
        await trio.sleep(15)
        slurm.gone.clear()
        await trio.sleep(15)
        slurm.gone.add(job.token)
        with trio.move_on_after(20):
            await job.wait()
        assert job.state is JobState.RUNNING
        assert (await job.wait()).state is JobState.LOST


async def test_an_unknown_state_counts_as_running(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning is logged once."""
    slurm = FakeSlurm()
    async with opened(slurm) as cluster:
        job = await cluster.submit(JobSpec("sleep 100"))
        slurm.jobs[0].state = "TELEPORTING"
        await trio.sleep(50)
        assert job.state is JobState.RUNNING
        slurm.jobs[0].state = "NODE_FAIL"
        slurm.files = False
        assert (await job.wait()).state is JobState.NODE_FAILED
    assert caplog.messages == [
        "the state 'TELEPORTING' of a job is unknown; the job counts as running"
    ]


async def test_a_job_that_would_wait_for_ever_is_taken_out(autojump_clock: MockClock) -> None:
    """An example is a job after a dependency that failed."""
    slurm = FakeSlurm(files=False)
    async with opened(slurm) as cluster:
        job = await cluster.submit(JobSpec("sleep 100"))
        slurm.jobs[0].state, slurm.jobs[0].reason = "PENDING", "DependencyNeverSatisfied"
        result = await job.wait()
        assert (result.state, result.reason) == (JobState.STUCK, "DependencyNeverSatisfied")
        await until(lambda: slurm.calls["scancel"])
        assert slurm.jobs[0].state == "CANCELLED"


async def test_a_job_that_is_queued_again_is_followed(autojump_clock: MockClock) -> None:
    """After a node failure, Slurm may run it again under the same number."""
    slurm = FakeSlurm()
    async with opened(slurm) as cluster:
        job = await cluster.submit(JobSpec("sleep 20\nexit 3"))
        await until(lambda: job.state is JobState.RUNNING)
        slurm.jobs[0].state, slurm.jobs[0].reason = "PENDING", "BeginTime"
        await until(lambda: job.state is JobState.PENDING)
        slurm.jobs[0].state = ""
        assert (await job.wait()).exit_status == 3


# ---- submissions ----


@pytest.mark.parametrize("late", [0.5, 1.5, 2.9, None])
async def test_after_an_unclear_answer_there_is_one_job(
    autojump_clock: MockClock, late: float | None
) -> None:
    """This holds whether the submission is carried out later, or never."""
    slurm = FakeSlurm(unclear=5, late=late)
    async with opened(slurm) as cluster:
        results = await all_ends(cluster, [JobSpec(f"sleep 30\nexit {n}") for n in range(10)])
    assert [result.exit_status for result in results] == list(range(10))
    assert len(slurm.jobs) == 10
    assert slurm.calls["sbatch"] == (15 if late is None else 10)


async def test_while_the_controller_is_away_nothing_is_submitted_twice(
    autojump_clock: MockClock,
) -> None:
    """Failed looks do not count."""
    slurm = FakeSlurm(unclear=1, late=60.0)
    async with opened(slurm) as cluster, trio.open_nursery() as nursery:
        nursery.start_soon(all_ends, cluster, [JobSpec("exit 0")])
        await trio.sleep(0.1)
        slurm.down = True
        await trio.sleep(120)
        slurm.down = False
    assert len(slurm.jobs) == 1


async def test_a_double_that_ends_at_once_is_not_the_job(autojump_clock: MockClock) -> None:
    """The job is the one that claimed the token."""
    slurm = FakeSlurm()
    async with opened(slurm) as cluster:
        job = await cluster.submit(JobSpec("sleep 0\nexit 75"))
        now = trio.current_time()
        slurm.jobs[0].claimed_by = "2"
        slurm.jobs.append(FakeJob("2", job.token, now, seconds=30.0, status=6, began=now))
        assert (await job.wait()).exit_status == 6
        assert job.id == "2"


async def test_an_operation_looks_for_the_job_that_it_was_about_to_submit(
    autojump_clock: MockClock,
) -> None:
    """If only its name was remembered, the job may exist or not."""
    slurm = FakeSlurm()
    async with opened(slurm) as cluster, opened(slurm) as other:
        there = await cluster.submit(JobSpec("sleep 10"))
        tokens = [there.token, new_token()]
        operations = [ClusterJob(other, JobSpec("sleep 10", token)) for token in tokens]
        for operation, token in zip(operations, tokens, strict=True):
            assert operation.recall({"token": token}) == "work"
        report = await run_phases(operations, limiter=2)
    assert report.completed == 2
    assert sorted(job.token for job in slurm.jobs) == sorted(tokens)


async def test_where_the_site_has_no_room_a_submission_waits(autojump_clock: MockClock) -> None:
    """A limit on jobs per user makes no job fail."""
    slurm = FakeSlurm(full=3)
    async with opened(slurm) as cluster:
        results = await all_ends(cluster, [JobSpec("sleep 10")] * 9)
    assert [result.state for result in results] == [JobState.COMPLETED] * 9


async def test_where_the_site_has_no_room_a_submission_can_be_given_up(
    autojump_clock: MockClock,
) -> None:
    """So closing the cluster does not wait for room."""
    slurm = FakeSlurm(full=1)
    async with opened(slurm, grace=1000) as cluster:
        await cluster.submit(JobSpec("sleep 99999999"))
        with trio.move_on_after(100):
            await cluster.submit(JobSpec("sleep 99999999"))
        began = trio.current_time()
    assert trio.current_time() - began < 10
    assert len(slurm.jobs) == 1


async def test_a_job_that_is_refused_is_an_error(autojump_clock: MockClock) -> None:
    """It has the reason of the controller, and another try would not help."""
    async with opened(FakeSlurm()) as cluster:
        with pytest.raises(JobRefused, match=r"^the cluster refuses the job: .* none$") as caught:
            await cluster.submit(JobSpec("exit 0", options=["--partition=none"]))
        assert not caught.value.retryable
        assert cluster.statistics().jobs == 0


async def test_a_falling_limit_cancels_no_job(autojump_clock: MockClock) -> None:
    """Submissions go on when enough jobs have ended."""
    slurm = FakeSlurm()
    limiter = Limiter("jobs", 50)
    async with opened(slurm, poll=(0.5, 2.0)) as cluster, trio.open_nursery() as nursery:
        jobs = [ClusterJob(cluster, JobSpec("sleep 30")) for _ in range(80)]
        nursery.start_soon(partial(run_phases, jobs, limiter=limiter))
        await trio.sleep(10)
        assert len(slurm.jobs) == 50
        limiter.total_tokens = 5
        await trio.sleep(25)
        assert len(slurm.jobs) == 55
        limiter.total_tokens = 50
        await trio.sleep(1)
        assert len(slurm.jobs) == 80
    assert slurm.calls["scancel"] == 0


# ---- cancellations ----


async def test_a_thousand_jobs_are_cancelled_with_two_calls(autojump_clock: MockClock) -> None:
    """All of them end as cancelled."""
    slurm = FakeSlurm()
    async with opened(slurm) as cluster:
        jobs = [ClusterJob(cluster, JobSpec("sleep 99999999")) for _ in range(1000)]
        with trio.move_on_after(60):
            await run_phases(jobs, limiter=1000)
        assert len(slurm.jobs) == 1000
        await until(lambda: not cluster.statistics().jobs)
    assert slurm.calls["scancel"] <= 2
    assert not slurm.live()


async def test_detached_jobs_go_on(autojump_clock: MockClock) -> None:
    """Closing the cluster cancels the others."""
    slurm = FakeSlurm()
    async with opened(slurm) as cluster:
        kept = await cluster.submit(JobSpec("sleep 99999999"))
        cluster.detach()
        left = await cluster.submit(JobSpec("sleep 99999999"))
        assert kept.detached
        assert not left.detached
    assert [job.number for job in slurm.live()] == [kept.id]


async def test_a_cluster_that_cannot_be_reached_is_left_in_time(autojump_clock: MockClock) -> None:
    """It is left after the grace, even if work is left to do."""
    slurm = FakeSlurm()
    async with opened(slurm, grace=30) as cluster:
        await cluster.submit(JobSpec("sleep 99999999"))
        slurm.down = True
        with trio.move_on_after(5):
            await cluster.submit(JobSpec("sleep 99999999"))
        began = trio.current_time()
    assert trio.current_time() - began <= 31


# ---- when nothing answers ----


@pytest.mark.parametrize("program", ["squeue", "sbatch", "scancel", "sacct", "sh"])
async def test_a_command_that_does_not_answer_holds_up_nothing_for_ever(
    autojump_clock: MockClock, program: str
) -> None:
    """It is ended after 30 s; each job has one end, once the controller answers again."""
    slurm = FakeSlurm(files=program == "sh", accounts=True)
    async with opened(slurm, grace=1000) as cluster:
        first = await cluster.submit(JobSpec("sleep 100"))
        forgotten = await cluster.submit(JobSpec("sleep 5"))
        cancelled = await cluster.submit(JobSpec("sleep 99999999"))
        await trio.sleep(3)
        slurm.gone.add(forgotten.token)
        slurm.silent.add(program)
        cancelled.cancel()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(all_ends, cluster, [JobSpec("sleep 1")])
            await trio.sleep(100)
            slurm.silent.clear()
        assert (await first.wait()).state is JobState.COMPLETED
        ended = JobState.COMPLETED if slurm.files else JobState.TIMED_OUT
        assert (await forgotten.wait()).state is ended
        assert (await cancelled.wait()).state is JobState.CANCELLED
    assert len(slurm.jobs) == 4


async def test_a_directory_that_cannot_be_read_changes_nothing(autojump_clock: MockClock) -> None:
    """The jobs are not lost, because their files may exist."""
    slurm = FakeSlurm()
    async with opened(slurm) as cluster:
        job = await cluster.submit(JobSpec("sleep 5\nexit 7"))
        slurm.gone.add(job.token)
        slurm.directory = False
        await trio.sleep(100)
        assert not job.state.ended
        assert cluster.statistics().unreachable_since is not None
        slurm.directory = True
        assert (await job.wait()).exit_status == 7


async def test_a_cancellation_that_had_no_effect_is_repeated(autojump_clock: MockClock) -> None:
    """This is so if the job still runs some time later."""
    slurm = FakeSlurm()
    async with opened(slurm) as cluster:
        job = await cluster.submit(JobSpec("sleep 99999999"))
        await trio.sleep(3)
        slurm.jobs[0].state = "RUNNING"
        job.cancel()
        await until(lambda: slurm.calls["scancel"] == 2)
        slurm.jobs[0].state = ""
        assert (await job.wait()).state is JobState.CANCELLED


async def test_a_refused_submission_that_was_given_up_is_forgotten(
    autojump_clock: MockClock,
) -> None:
    """Nobody is waiting for it any more."""
    async with opened(FakeSlurm(latency=1.0)) as cluster:
        with trio.move_on_after(0.5):
            await cluster.submit(JobSpec("exit 0", options=["--partition=none"]))
        await trio.sleep(5)
        assert cluster.statistics().jobs == 0


async def test_a_submission_that_was_given_up_goes_on_if_it_is_detached(
    autojump_clock: MockClock,
) -> None:
    """It goes on as other jobs do."""
    slurm = FakeSlurm(latency=1.0)
    async with opened(slurm) as cluster:
        with trio.move_on_after(0.5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cluster.submit, JobSpec("sleep 99999999"))
                await trio.sleep(0.1)
                cluster.detach()
        await trio.sleep(5)
    assert len(slurm.live()) == 1


async def test_a_job_is_submitted_if_a_search_for_it_finds_nothing(
    autojump_clock: MockClock,
) -> None:
    """The cluster looks for it four times."""
    slurm = FakeSlurm()
    async with opened(slurm) as cluster:
        job = await cluster.resubmit(JobSpec("exit 4"), new_token())
        assert slurm.calls["squeue"] >= 4
        assert (await job.wait()).exit_status == 4


async def test_a_detached_job_goes_on_when_the_ledger_cannot_be_written(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """The run says once that its ledger is lost, and does not cancel the job."""
    slurm = FakeSlurm()

    class LosesTheLedger(ClusterJob):
        async def monitor(self, channels: Channels) -> None:
            self.cluster.detach()
            (tmp_path / "db").unlink()
            run.cancel()
            await super().monitor(channels)

    async with opened(slurm) as cluster, open_ledger(tmp_path / "db") as ledger:
        job = LosesTheLedger(cluster, JobSpec("sleep 99999999", "kept"))
        with pytest.raises(Aborted) as caught:
            async with start_phases([job], limiter=1, ledger=ledger) as run:
                pass
        assert job.goes_on
        (error,) = caught.value.exceptions
        assert "cannot be written any more" in str(error)
    assert len(slurm.live()) == 1


# ---- arguments ----


async def test_arguments_are_checked(autojump_clock: MockClock) -> None:
    """The message names the value and the rule."""
    with pytest.raises(ValueError, match="the shortest and the longest time, not"):
        async with opened(FakeSlurm(), poll=(2.0, 1.0)):
            pass
    with pytest.raises(OSError, match="the directory for jobs cannot be made: no such directory"):
        async with opened(FakeSlurm(directory=False)):
            pass
    async with opened(FakeSlurm()) as cluster:
        job = cluster.attach("tt-1", "1")
        assert repr(job) == "<trio_turnstile.clusters.Job 1 pending>"
        with pytest.raises(ValueError, match="job 'tt-1' is already tracked: attach it only once"):
            cluster.attach("tt-1", "1")
        job.detach()


async def test_an_operation_without_a_job_is_an_error(autojump_clock: MockClock) -> None:
    """It has no name either, and starts anew, whatever facts are remembered."""
    async with opened(FakeSlurm()) as cluster:
        operation = ClusterJob(cluster)
        assert (operation.identifiers, operation.goes_on) == ((), False)
        assert operation.recall({"token": "tt-1"}) == "prepare"
        assert ClusterJob(cluster, JobSpec("", "x")).recall({"token": "tt-1"}) == "work"
        report = await run_phases([operation], limiter=1)
    assert "there is no job to submit: set spec" in str(report.errors[0])
