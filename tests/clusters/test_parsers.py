"""What engines make of texts that real controllers have printed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from trio_turnstile.clusters import (
    Answer,
    Busy,
    Command,
    Engine,
    JobResult,
    JobSpec,
    JobState,
    LocalEngine,
    Refused,
    Reply,
    SgeEngine,
    SlurmEngine,
    Taken,
    Unclear,
    Unreadable,
    result_of_wait,
    run_command,
)

SLURM, SGE, LOCAL = SlurmEngine(), SgeEngine(), LocalEngine()


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The times of Slurm are local."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


# ---- submissions ----

FAILED = "sbatch: error: Batch job submission failed:"
COMMLIB = "error: commlib error: got select error (Connection refused)"


@pytest.mark.parametrize(
    ("engine", "reply", "answer"),
    [
        (SLURM, Reply(0, "4711\n"), Taken("4711")),
        (SLURM, Reply(0, "4711;cluster\n"), Taken("4711")),
        (SLURM, Reply(0, ""), Unclear("exit status 0")),
        (SLURM, Reply(-15), Unclear("exit status -15")),
        (SGE, Reply(0, "17\n"), Taken("17")),
        (SGE, Reply(0, "18.1-5:1\n"), Taken("18")),
        (SGE, Reply(0, ""), Unclear("exit status 0")),
        (LOCAL, Reply(0, "123\n"), Taken("123")),
        (LOCAL, Reply(1, "", "no space\n"), Refused("no space")),
    ],
)
def test_an_answer_to_a_submission(engine: Engine, reply: Reply, answer: Answer) -> None:
    """It has the number of the job, if there is one."""
    assert engine.read_submitted(reply) == answer


@pytest.mark.parametrize(
    ("engine", "text", "kind"),
    [
        (SLURM, f"{FAILED} Socket timed out on send/recv operation", Unclear),
        (SLURM, f"{FAILED} Unable to contact slurm controller (connect failure)", Unclear),
        (SLURM, f"{FAILED} Zero Bytes were transmitted or received", Unclear),
        (SLURM, f"{FAILED} Invalid partition name specified", Refused),
        (SLURM, f"{FAILED} Requested node configuration is not available", Refused),
        (SLURM, f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{FAILED} Job violates", Busy),
        (SLURM, f"sbatch: error: AssocMaxSubmitJobLimit\n{FAILED} Job violates", Busy),
        (SLURM, "sbatch: error: Slurm temporarily unable to accept job, sleeping", Busy),
        (SGE, f"{COMMLIB}\nUnable to run job: unable to send message to qmaster", Unclear),
        (SGE, 'error: unable to contact qmaster using port 16444 on host "vm"', Unclear),
        (SGE, 'Unable to run job: unknown resource "nosuch".\nExiting.', Refused),
        (SGE, "job rejected: Only 2 jobs are allowed per user (current job count: 2)", Busy),
    ],
)
def test_why_a_job_was_not_taken(engine: Engine, text: str, kind: type) -> None:
    """Only a refusal counts as refused: a job that the controller did not hear of is retried."""
    answer = engine.read_submitted(Reply(1, err=text))
    assert isinstance(answer, kind)
    assert answer == kind(" ".join(text.split()))


# ---- Slurm ----


def line(number: str, token: str, state: str, status: int, reason: str, node: str = "n1") -> str:
    """A line of ``squeue``, as a Slurm 22.05 printed it."""
    start, end = "2026-11-27T20:19:54", "2026-11-27T20:19:56"
    return (
        f"{number:<24}{token:<24}{state:<24}{status:<12}{reason:<40}{start:<24}{end:<24}{node:<64}"
    )


def seen(state: str, status: int, reason: str = "None") -> JobResult:
    (sighting,) = SLURM.read_poll(Reply(0, line("1", "tt-1", state, status, reason) + "\n"))
    assert (sighting.id, sighting.token) == ("1", "tt-1")
    return sighting.result


@pytest.mark.parametrize(
    ("state", "status", "reason", "ending"),
    [
        ("COMPLETED", 0, "None", (JobState.COMPLETED, 0, None)),
        ("FAILED", 768, "NonZeroExitCode", (JobState.FAILED, 3, None)),
        ("FAILED", 35072, "NonZeroExitCode", (JobState.FAILED, 137, None)),
        ("FAILED", 11, "JobLaunchFailure", (JobState.FAILED, None, 11)),
        ("TIMEOUT", 15, "TimeLimit", (JobState.TIMED_OUT, None, 15)),
        ("TIMEOUT", 1280, "TimeLimit", (JobState.TIMED_OUT, 5, None)),
        ("CANCELLED", 15, "None", (JobState.CANCELLED, None, 15)),
        ("NODE_FAIL", 0, "NodeDown", (JobState.NODE_FAILED, 0, None)),
        ("PREEMPTED", 15, "None", (JobState.NODE_FAILED, None, 15)),
        ("OUT_OF_MEMORY", 9, "OutOfMemory", (JobState.OUT_OF_MEMORY, None, 9)),
        ("DEADLINE", 0, "DeadLine", (JobState.TIMED_OUT, 0, None)),
    ],
)
def test_squeue_tells_how_a_job_ended(
    state: str, status: int, reason: str, ending: tuple[JobState, int | None, int | None]
) -> None:
    """The status is that of ``wait``, which distinguishes exit statuses and signals."""
    result = seen(state, status, reason)
    assert (result.state, result.exit_status, result.signal) == ending
    assert result.reason == reason.replace("None", "")
    assert (result.started, result.ended, result.node) == (1795810794, 1795810796, "n1")


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        ("PENDING", "Resources", JobState.PENDING),
        ("PENDING", "BeginTime", JobState.PENDING),
        ("PENDING", "DependencyNeverSatisfied", JobState.STUCK),
        ("CONFIGURING", "None", JobState.PENDING),
        ("REQUEUE_HOLD", "None", JobState.PENDING),
        ("RUNNING", "None", JobState.RUNNING),
        ("COMPLETING", "None", JobState.RUNNING),
        ("SUSPENDED", "None", JobState.RUNNING),
        ("LEVITATING", "None", JobState.RUNNING),
    ],
)
def test_squeue_tells_that_a_job_goes_on(state: str, reason: str, expected: JobState) -> None:
    """Unknown states count as running too."""
    assert seen(state, 0, reason).state is expected


def test_squeue_has_columns_that_are_empty_or_odd() -> None:
    """A waiting job has no node and no times; jobs of other users may have any name."""
    waiting = line("2", "tt-2", "PENDING", 0, "Priority", node="").replace("2026-11", "N/A    ")
    other = line("3_7", "my own job", "RUNNING", 0, "None")
    sightings = list(SLURM.read_poll(Reply(0, f"{waiting}\n{other}\n\n")))
    assert [(each.id, each.token) for each in sightings] == [("2", "tt-2"), ("3_7", "my own job.7")]
    assert sightings[0].result == JobResult(state=JobState.PENDING, reason="Priority")


@pytest.mark.parametrize("engine", [SLURM, SGE, LOCAL])
def test_a_list_that_cannot_be_read_is_no_list(engine: Engine) -> None:
    """It does not count as an empty list, from which all jobs are missing."""
    with pytest.raises(Unreadable, match="Unable to contact"):
        list(engine.read_poll(Reply(1, err="slurm_load_jobs error: Unable to contact")))


def test_sacct() -> None:
    """Words follow its states, and its exit statuses contain a signal."""
    text = (
        "7|tt-7|COMPLETED|0:0|2026-11-27T20:19:54|2026-11-27T20:19:56|n1\n"
        "8|tt-8|FAILED|3:0|2026-11-27T20:19:54|2026-11-27T20:19:56|n1\n"
        "9|tt-9|CANCELLED by 0|0:15|2026-11-27T20:19:54|Unknown|n1\n"
        "10|tt-10|RUNNING|0:0|2026-11-27T20:19:54|Unknown|n1\n"
    )
    found = {each.id: each.result for each in SLURM.read_account(Reply(0, text))}
    assert [result.state.name for result in found.values()] == [
        *("COMPLETED", "FAILED", "CANCELLED", "RUNNING")
    ]
    assert (found["8"].exit_status, found["9"].signal, found["9"].ended) == (3, 15, None)


def test_where_no_accounts_are_kept_there_are_none() -> None:
    """This is no error, but a database that does not answer is one."""
    assert not list(SLURM.read_account(Reply(1, err="Slurm accounting storage is disabled\n")))
    with pytest.raises(Unreadable, match="slurmdbd"):
        list(SLURM.read_account(Reply(1, err="sacct: error: Problem talking to slurmdbd")))


# ---- Grid Engine ----

JOB = """<job_list state="{0}">
      <JB_job_number>{1}</JB_job_number>
      <JAT_prio>0.50000</JAT_prio>
      <JB_name>tt-0123456789abcdef</JB_name>
      <JB_owner>root</JB_owner>
      <state>{2}</state>
      <JAT_start_time>2026-11-27T20:30:59</JAT_start_time>
      <queue_name>batch@vm</queue_name>
      <slots>1</slots>
      <full_job_name>tt-0123456789abcdef</full_job_name>
      <binding>NONE</binding>
    </job_list>"""

QSTAT = f"""<?xml version='1.0'?>
<job_info  xmlns:xsd="http://arc.liv.ac.uk/repos/darcs/sge/source/qstat.xsd">
  <queue_info>{JOB.format("running", 1, "r")}{JOB.format("running", 2, "dr")}</queue_info>
  <job_info>{JOB.format("pending", 3, "qw")}{JOB.format("pending", 4, "hqw")}
    {JOB.format("pending", 5, "Eqw")}{JOB.format("running", 6, "X")}</job_info>
</job_info>
"""


def test_qstat() -> None:
    """A state has several letters; with an E, the job never ends without help."""
    sightings = list(SGE.read_poll(Reply(0, QSTAT)))
    assert {each.token for each in sightings} == {"tt-0123456789abcdef"}
    assert [(each.id, each.result.state.name, each.unknown) for each in sightings] == [
        ("1", "RUNNING", ""),
        ("2", "RUNNING", ""),
        ("3", "PENDING", ""),
        ("4", "PENDING", ""),
        ("5", "STUCK", ""),
        ("6", "RUNNING", "X"),
    ]


def test_qstat_that_is_cut_off() -> None:
    """It is not a list."""
    with pytest.raises(Unreadable):
        list(SGE.read_poll(Reply(0, QSTAT[:300])))


def record(number: int, failed: int, exit_status: int) -> str:
    """A line of the accounting file, as a Grid Engine 8.1.9 wrote it."""
    return (
        f"batch:vm:root:root:tt-1:{number}:sge:0:1795811459:1795811459:1795811462:{failed}:"
        f"{exit_status}:3:0.005857:0.000000:4524.000000:0:0:0:0:214:0:0:16.000000:24:0:0:0:4:2:"
        "NONE:defaultdepartment:NONE:1:0:0.005857:0.000000:0.000016:-l h_rt=2:0.000000:NONE:0:0:0"
    )


@pytest.mark.parametrize(
    ("failed", "exit_status", "ending"),
    [
        (0, 0, (JobState.COMPLETED, 0, None)),
        (0, 3, (JobState.FAILED, 3, None)),
        (0, 139, (JobState.FAILED, 139, None)),
        (100, 139, (JobState.FAILED, None, 11)),
        (100, 137, (JobState.FAILED, None, 9)),
        (37, 137, (JobState.TIMED_OUT, None, 9)),
        (26, 0, (JobState.FAILED, 0, None)),
    ],
)
def test_the_accounts_of_grid_engine(
    failed: int, exit_status: int, ending: tuple[JobState, int | None, int | None]
) -> None:
    """A status over 128 is a signal only if something has failed."""
    (sighting,) = SGE.read_account(Reply(0, record(5, failed, exit_status)))
    result = sighting.result
    assert (sighting.id, sighting.token) == ("5", "tt-1")
    assert (result.state, result.exit_status, result.signal) == ending
    assert (result.started, result.ended, result.node) == (1795811459, 1795811462, "vm")


def test_a_job_that_is_scheduled_again_has_not_ended() -> None:
    """It has not ended, although the accounts have a line each time; odd lines are left out."""
    assert not list(SGE.read_account(Reply(0, f"{record(5, 25, 99)}\n# Version: 8.1.9\n")))


# ---- this machine, and commands ----


def test_processes_of_this_machine() -> None:
    """It selects those that run our wrapper."""
    text = (
        "    1 /sbin/init\n"
        "  100 /bin/sh /home/me/my jobs/tt-0123456789abcdef.job\n"
        "  101 sh /home/me/my jobs/tt-0123456789abcdef.run\n"
        " 1002 [sh] <defunct>\n"
    )
    (sighting,) = LOCAL.read_poll(Reply(0, text))
    assert (sighting.id, sighting.token) == ("100", "tt-0123456789abcdef")
    assert sighting.result.state is JobState.RUNNING


def test_the_resources_of_a_job() -> None:
    """Seconds are rounded up, and Grid Engine counts memory for each CPU."""
    spec = JobSpec("exit 0", "mine", cpus=4, memory=500, seconds=61.5, options=["--x"])
    assert SLURM.submit("tt-1", "wrapper", spec, "/d/tt-1").arguments[3:] == [
        *(
            "--comment=mine",
            "--output=/d/tt-1.out",
            "--error=/d/tt-1.err",
            "--cpus-per-task=4",
            "--mem=500M",
            "--time=1:02",
            "--x",
        )
    ]
    assert SGE.submit("tt-1", "wrapper", spec, "/d/tt-1").arguments[13:] == [
        *("-pe", "smp", "4", "-l", "h_vmem=125M", "-l", "h_rt=62", "--x")
    ]
    plain = JobSpec("exit 0")
    assert len(SLURM.submit("tt-1", "wrapper", plain, "/d/tt-1").arguments) == 5
    assert len(SGE.submit("tt-1", "wrapper", plain, "/d/tt-1").arguments) == 13


@pytest.mark.parametrize(
    ("status", "ending"), [(0, (0, None)), (1280, (5, None)), (139, (None, 11))]
)
def test_a_status_of_wait(status: int, ending: tuple[int | None, int | None]) -> None:
    """An exit status or a signal; a core dump is neither."""
    result = result_of_wait(JobState.FAILED, status)
    assert (result.exit_status, result.signal) == ending


async def test_a_program_that_is_not_there() -> None:
    """Its reply has exit status 127, as in a shell."""
    reply = await run_command(Command(["/no/such/program"]))
    assert reply.status == 127
    assert "No such file" in reply.said


def test_what_grid_engine_is_asked() -> None:
    """Its commands may be in another directory."""
    engine = SgeEngine(programs="/usr/lib/gridengine")
    assert engine.poll().arguments == ["/usr/lib/gridengine/qstat", "-xml", "-r"]
    assert SGE.poll().arguments == ["qstat", "-xml", "-r"]
    assert SGE.cancel(["1", "2"]).arguments == ["qdel", "1", "2"]
    assert SGE.account([("5", "tt-1")]).arguments[4:] == ["-e", ":tt-1:5:"]
    assert not list(LOCAL.read_account(Reply(0)))


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (JobResult(state=JobState.COMPLETED, exit_status=0), "completed"),
        (
            JobResult(state=JobState.FAILED, exit_status=3, node="n1"),
            "failed with exit status 3 on n1",
        ),
        (JobResult(state=JobState.FAILED, signal=9), "failed by SIGKILL"),
        (JobResult(state=JobState.FAILED, signal=40), "failed by signal 40"),
        (JobResult(state=JobState.STUCK, reason="Eqw"), "stuck (Eqw)"),
    ],
)
def test_the_text_of_a_result(result: JobResult, text: str) -> None:
    """The text is for people."""
    assert str(result) == text


def test_statuses_that_an_engine_keeps_for_itself() -> None:
    """Grid Engine queues a job again that exits with 99, and stops one that exits with 100."""
    assert SGE.reserved == {99, 100}
    assert SLURM.reserved == LOCAL.reserved == frozenset()
