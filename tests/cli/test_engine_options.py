"""What can be asked of jobs, and what is refused with them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

SBATCH = """#!/bin/sh
cat >script
for argument; do echo "$argument"; done >arguments
echo "sbatch: error: invalid partition specified: fast" >&2
exit 1
"""


@pytest.fixture
def sbatch(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Slurm that refuses all jobs; return where the arguments of the last one are."""
    folder = here / "bin"
    folder.mkdir()
    for name in ("sbatch", "squeue", "scancel"):
        path = folder / name
        path.write_text(SBATCH if name == "sbatch" else "#!/bin/sh\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return here / "arguments"


def slurm(call: Any, *arguments: object, **how: Any) -> Any:
    return call("run", "--engine", "slurm", *arguments, **how)


def test_a_job_that_is_refused_says_why(call: Any, sbatch: Path, here: Path) -> None:
    """The run goes on, and does not submit the same job again."""
    options = ("--retries", "3", "--submit-args=--partition=fast", "--joblog", "log")
    result = slurm(call, *options, "--work", "true {}", "--", "a")
    assert result.status == 1
    assert (
        "turnstile: 1 'a': work: the cluster refuses the job: "
        "sbatch: error: invalid partition specified: fast"
    ) in result.err
    assert (here / "log").read_text().splitlines()[1].split("\t")[6] == "-1"


def test_jobs_ask_for_what_they_need(call: Any, sbatch: Path) -> None:
    """The needs are the same for all jobs, or come from columns; an empty column needs nothing."""
    options = ("--cpus", "8", "--mem", "1.5G", "--time", "1-02:00:00")
    slurm(
        call, *options, "--submit-args", "--qos 'a b' --gres={}", "--work", "true {}", "--", "x y"
    )
    arguments = sbatch.read_text().splitlines()
    assert re.fullmatch("--job-name=tt-[0-9a-f]{16}", arguments[1])
    assert arguments[2] == "--comment=x y"
    assert arguments[5:] == [
        *("--cpus-per-task=8", "--mem=1536M", "--time=1560:00"),
        *("--qos", "a b", "--gres=x y"),
    ]
    columns = ("--colsep", ",", "--header", "--cpus", "{cores}", "--mem", "{mem}")
    slurm(call, *columns, "--work", "true {1}", "--", "name,cores,mem", "a,,2G")
    assert sbatch.read_text().splitlines()[5:] == ["--mem=2048M"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--cpus", "{2}"), "--cpus: a number of CPUs is 1 or more, as in 8, not 'many'"),
        (("--mem", "{2}"), "--mem: memory is written with its unit, as in 500M or 8G, not 'many'"),
        (("--time", "{2}"), "--time: a time is written with its unit, as in 30m or 2h, or"),
    ],
)
def test_a_column_that_asks_for_nonsense_fails_its_operation(
    options: tuple[str, ...], why: str, call: Any, sbatch: Path
) -> None:
    """No job is submitted for such an input."""
    result = slurm(call, "--colsep", ",", *options, "--work", "true {1}", "--", "a,many")
    assert result.status == 1
    assert f"1 'a,many': work: {why}" in result.err
    assert not sbatch.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--cpus", "0"), "--cpus: a number of CPUs is 1 or more, as in 8, not '0'"),
        (("--mem", "8"), "--mem: memory is written with its unit, as in 500M or 8G, not '8'"),
        (("--mem", "0G"), "--mem: memory is written with its unit, as in 500M or 8G, not '0G'"),
        (("--time", "30"), "--time: a time is written with its unit, as in 30m or 2h, or as 1-12"),
        (("--time", "10:00"), "--time: a time is written with its unit"),
        (
            ("--mem", "{mem}"),
            "--mem: memory is written with its unit, as in 500M or 8G, not '{mem}'",
        ),
        (("--submit-args", "'"), "--submit-args: No closing quotation"),
        (("--detach",), "--detach leaves jobs for the next run, which finds them in a ledger"),
        (("--nice", "5"), "--engine slurm and --nice do not go together: it is for processes"),
        (("--timeout", "5"), "--engine slurm and --timeout do not go together: it would count"),
        (("--load", "5"), "--engine slurm and --load do not go together: it looks at this"),
        (("--memfree", "5G"), "--engine slurm and --memfree do not go together: it looks at"),
        (("--termseq", "KILL"), "--engine slurm and --termseq do not go together: the cluster"),
        (("--kill-after", "9"), "--engine slurm and --kill-after do not go together: the cluster"),
        (("--adapt",), "--engine slurm and --adapt do not go together: it compares how long"),
        (("-u",), "--engine slurm and --ungroup do not go together: a job cannot write to this"),
        (("--cleanup", "rm {%}"), "--engine slurm and {%} do not go together: two machines may"),
        (("--job-dir", "/dev/null/x"), "--job-dir must name a folder that can be written to"),
        (("--job-dir", "of: me"), "clusters give ':' in the path of an output a meaning"),
        (("--calls", "often"), "a rate is a number above 0 and a unit"),
    ],
)
def test_options_that_are_wrong_or_make_no_sense_are_refused(
    options: tuple[str, ...], message: str, call: Any, sbatch: Path
) -> None:
    """They are refused before anything is submitted; the message says what to do instead."""
    result = slurm(call, *options, "--work", "true {}", "--", "a")
    assert result.status == 2
    assert message in result.err
    assert not sbatch.exists()


def test_an_engine_that_is_not_there_is_refused(call: Any) -> None:
    """The message names the existing engines."""
    result = call("run", "--engine", "lsf", "--work", "true {}", "--", "a")
    assert result.status == 2
    assert all(name in result.err for name in ("slurm", "sge", "local"))


def test_blocks_are_refused(call: Any, sbatch: Path) -> None:
    """A job has no standard input."""
    result = slurm(call, "--pipe", "--work", "cat", stdin=b"a\n")
    assert result.status == 2
    assert "--engine slurm and --pipe do not go together: a job reads nothing" in result.err


@pytest.mark.parametrize(
    "option", ["--submit-args=-x", "--cpus=1", "--mem=1G", "--time=1h", "--detach", "--job-dir=x"]
)
def test_options_of_jobs_need_an_engine(option: str, call: Any, here: Path) -> None:
    """They do not apply to local commands."""
    result = call("run", option, "--work", "true {}", "--", "a")
    assert result.status == 2
    name = option.partition("=")[0]
    assert f"{name} is only for jobs on a cluster: give --engine slurm, sge or local" in result.err


@pytest.mark.parametrize(
    ("engine", "program", "way_out"),
    [
        ("slurm", "sbatch", "start turnstile where jobs can be submitted"),
        ("sge", "qsub", "start turnstile where jobs can be submitted"),
        ("local", "ps", "install it"),
    ],
)
def test_without_its_commands_an_engine_is_refused(
    engine: str,
    program: str,
    way_out: str,
    call: Any,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is run, and no folder is made."""
    (here / "bin").mkdir()
    (here / "bin" / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(here / "bin"))
    result = call("run", "--engine", engine, "--work", "true {}", "--", "a")
    assert result.status == 2
    assert f"--engine {engine} calls {program}, which is not in PATH: {way_out}" in result.err
    assert not (here / "turnstile-jobs").exists()


def test_a_dry_run_needs_no_cluster(call: Any, here: Path) -> None:
    """It prints the commands, but wrong options are still refused."""
    result = slurm(call, "--dry-run", "--cpus", "3", "--work", "align {}", "--", "a")
    assert (result.status, result.out) == (0, "align 'a'\n")
    assert slurm(call, "--dry-run", "--cpus", "x", "--work", "align {}", "--", "a").status == 2


def test_a_hundred_jobs_are_on_a_cluster_by_default(call: Any, sbatch: Path, gate: Any) -> None:
    """A note says so at the start of the run."""

    def operate(watch: Any) -> None:
        watch.err.wait_for("turnstile: up to 100 jobs at a time; --limit changes that")
        gate.arrivals(1)
        watch.err.wait_for("jobs 0 (0 running), limit 100, running 1")
        gate.let(1)

    slurm(
        call,
        *("--prepare", gate.wait, "--work", "true {}", "--", "a"),
        operator=operate,
        terminal=True,
    )
