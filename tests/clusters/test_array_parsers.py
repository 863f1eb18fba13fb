"""What engines make of arrays, with texts that real controllers have printed."""

from __future__ import annotations

import math

import pytest

from trio_turnstile.clusters import (
    ArrayEngine,
    Busy,
    Engine,
    JobSpec,
    JobState,
    LocalEngine,
    Reply,
    SgeEngine,
    SlurmEngine,
    Taken,
    TaskArray,
    Unreadable,
)

SLURM, SGE = SlurmEngine(), SgeEngine(programs="/usr/lib/gridengine")

SPEC = JobSpec("exit 0")


def test_which_engines_have_arrays() -> None:
    """The others need not define the methods for arrays."""
    engines: list[Engine] = [SLURM, SGE, LocalEngine()]
    assert [isinstance(engine, ArrayEngine) for engine in engines] == [True, True, False]


@pytest.mark.parametrize(
    ("at_once", "slurm", "sge"),
    [
        (math.inf, ["--array=3-9"], ["-t", "3-9"]),
        (4.0, ["--array=3-9%4"], ["-t", "3-9", "-tc", "4"]),
        (0, ["--array=3-9", "--hold"], ["-t", "3-9", "-h"]),
    ],
)
def test_an_array_is_submitted(at_once: float, slurm: list[str], sge: list[str]) -> None:
    """It may have a throttle, have none, or be held."""
    array = TaskArray("tt-1", 3, 9, at_once)
    assert SLURM.submit_array(array, "wrapper", SPEC, "/d/tt-1").arguments == [
        *("sbatch", "--parsable", "--job-name=tt-1", *slurm),
        *("--output=/d/tt-1.%a.out", "--error=/d/tt-1.%a.err"),
    ]
    assert SGE.submit_array(array, "wrapper", SPEC, "/d/tt-1").arguments == [
        *(
            "/usr/lib/gridengine/qsub",
            "-terse",
            "-cwd",
            "-C",
            "",
            "-S",
            "/bin/sh",
            "-N",
            "tt-1",
            *sge,
        ),
        *("-o", "/d/tt-1.$TASK_ID.out", "-e", "/d/tt-1.$TASK_ID.err"),
    ]
    assert SGE.read_submitted(Reply(0, "18.3-9:1\n")) == Taken("18")


def test_numbers_of_tasks() -> None:
    """They have the form of the engine; the number of a single job has no array."""
    assert (SLURM.number_of("47", 3), SGE.number_of("18", 3)) == ("47_3", "18.3")
    assert (SLURM.array_of("47_3"), SGE.array_of("18.3")) == ("47", "18")
    assert (SLURM.array_of("47"), SGE.array_of("18")) == ("", "")


def test_many_tasks_are_cancelled_with_a_short_command() -> None:
    """Tasks without a gap between them are one range."""
    tasks = [7, 1, 2, 3, 9, 8]
    jobs = ["5", *(f"47_{n}" for n in tasks), "48_1"]
    assert SLURM.cancel(jobs).arguments == ["scancel", "-Q", "5", "47_[1-3,7-9]", "48_[1]"]
    jobs = ["5", *(f"18.{n}" for n in tasks), "19.1"]
    assert SGE.cancel(jobs).arguments[1:] == ["5", "18.1-3", "18.7-9", "19.1"]


# ---- the throttle ----


def test_what_throttles_arrays() -> None:
    """A throttle of 0 holds the array; any other one releases it, as it may be held."""
    assert SLURM.throttle(["1", "2"], 0).arguments == ["scontrol", "hold", "1,2"]
    assert SLURM.throttle(["1", "2"], 5).arguments[4:] == ["1,2", "5"]
    assert SLURM.throttle(["1"], math.inf).arguments[4:] == ["1", "0"]
    assert SGE.throttle(["1", "2"], 0).arguments == ["/usr/lib/gridengine/qhold", "1", "2"]
    assert SGE.throttle(["1", "2"], 5).arguments[4:] == ["/usr/lib/gridengine/", "5", "1", "2"]
    assert SgeEngine().throttle(["1"], math.inf).arguments[4:] == ["", "0", "1"]


@pytest.mark.parametrize(
    ("engine", "reply"),
    [
        (SLURM, Reply(0)),
        (SLURM, Reply(1, err="274_1-3: Job has already finished\n274_4-8: No error\n")),
        (SLURM, Reply(1, err="Invalid job id specified for job 99\n")),
        (SGE, Reply(0, "modified task concurrency of job 1\n")),
        (SGE, Reply(1, 'modified hold of job 18\ndenied: job "17" does not exist\n')),
    ],
)
def test_arrays_that_have_ended_need_no_throttle(engine: ArrayEngine, reply: Reply) -> None:
    """They make the exit status 1, even if all other arrays were changed."""
    engine.read_throttled(reply)


@pytest.mark.parametrize(
    ("engine", "reply"),
    [
        (SLURM, Reply(1, err="Unable to contact slurm controller (connect failure)\n")),
        (SLURM, Reply(1, err="Access/permission denied for job 4\n")),
        (SGE, Reply(1, 'unable to send message to qmaster using port 1 on host "vm"\n')),
        (SGE, Reply(1, err="error: commlib error: got select error (Connection refused)\n")),
    ],
)
def test_a_throttle_that_was_not_set(engine: ArrayEngine, reply: Reply) -> None:
    """Any other complaint is a reason to try again."""
    with pytest.raises(Unreadable):
        engine.read_throttled(reply)


# ---- limits of the site ----


def test_what_slurm_allows() -> None:
    """MaxArraySize is one above the largest index; there may also be a limit on tasks."""
    said = "MaxArraySize            = 1001\nSchedulerParameters     = bf_interval=5{}\n"
    assert SLURM.read_limits(Reply(0, said.format(""))) == 1000
    assert SLURM.read_limits(Reply(0, said.format(",max_array_tasks=100,defer"))) == 100
    with pytest.raises(Unreadable, match="Unable to contact"):
        SLURM.read_limits(Reply(1, err="Unable to contact slurm controller"))


def test_what_grid_engine_allows() -> None:
    """0 means no limit. An array that is still too large is submitted in parts."""
    said = "max_aj_instances             2000\nmax_aj_tasks                 {}\nmax_u_jobs   0\n"
    assert SGE.limits().arguments[1:] == ["-sconf"]
    assert SGE.read_limits(Reply(0, said.format(75000))) == 75000
    assert SGE.read_limits(Reply(0, said.format(0))) == math.inf
    with pytest.raises(Unreadable):
        SGE.read_limits(Reply(1, err="error: commlib error"))
    refused = "Unable to run job: job rejected: you tried to submit a job with more than 10 tasks"
    assert isinstance(SGE.read_submitted(Reply(1, err=refused)), Busy)


# ---- lists ----

LISTED = """<?xml version='1.0'?>
<job_info>
  <queue_info>
    <job_list state="running">
      <JB_job_number>18</JB_job_number>
      <state>hr</state>
      <tasks>1</tasks>
      <full_job_name>tt-abc</full_job_name>
    </job_list>
  </queue_info>
  <job_info>
    <job_list state="pending">
      <JB_job_number>18</JB_job_number>
      <state>hqw</state>
      <tasks>3-5:1,7,9-13:2</tasks>
      <full_job_name>tt-abc</full_job_name>
    </job_list>
  </job_info>
</job_info>
"""


def test_qstat_has_the_tasks_that_wait_in_one_line() -> None:
    """Each task has its own sighting."""
    sightings = list(SGE.read_poll(Reply(0, LISTED)))
    states = {each.id: each.result.state for each in sightings}
    waiting = [3, 4, 5, 7, 9, 11, 13]
    assert states == {
        "18.1": JobState.RUNNING,
        **{f"18.{index}": JobState.PENDING for index in waiting},
    }
    assert [each.token for each in sightings] == [f"tt-abc.{index}" for index in [1, *waiting]]


RECORD = (
    "batch:vm:root:root:tt-abc:18:sge:0:1795819204:1795819204:1795819209:0:{0}:5:0.004539:0.003605:"
    "4476.000000:0:0:0:0:275:0:0:0.000000:16:0:0:0:5:6:NONE:defaultdepartment:NONE:1:{0}:0.008144:"
    "0.000000:0.000016:NONE:0.000000:NONE:3112960.000000:0:0\n"
)


def test_accounts_of_tasks() -> None:
    """One pattern finds the records of all tasks of an array."""
    jobs = [(f"18.{index}", f"tt-abc.{index}") for index in range(1, 100)]
    command = SGE.account([*jobs, ("19", "tt-1.7")])
    assert command.arguments[4:] == ["-e", ":tt-abc:18:", "-e", ":tt-1.7:19:"]
    accounted = list(SGE.read_account(Reply(0, RECORD.format(1) + RECORD.format(2))))
    assert [(each.id, each.token, each.result.exit_status) for each in accounted] == [
        ("18.1", "tt-abc.1", 1),
        ("18.2", "tt-abc.2", 2),
    ]
    said = "47_2|tt-abc|FAILED|7:0|2026-11-27T20:19:54|2026-11-27T20:20:54|n2\n"
    (accounted,) = SLURM.read_account(Reply(0, said))
    assert (accounted.id, accounted.token) == ("47_2", "tt-abc.2")
