"""Jobs that are tasks of arrays, on a Slurm that runs them as processes of this machine."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from testkit import slurm_program
from trio_turnstile import read_ledger
from trio_turnstile.cli import _jobs

pytestmark = pytest.mark.slow

RUN = ("run", "--engine", "slurm", "--arrays")


@attrs.frozen
class Programs:
    """The commands of that Slurm, and what it knows."""

    folder: Path

    @property
    def arrays(self) -> list[dict[str, Any]]:
        known = self.folder / "jobs.json"
        return [*json.loads(known.read_text()).values()] if known.exists() else []

    @property
    def sizes(self) -> list[int]:
        """How many tasks each array has."""
        return [len(array["tasks"]) for array in self.arrays]

    def told(self, word: str) -> bool:
        """Whether the controller was told something with that word in it."""
        log = self.folder / "scontrol.log"
        return log.exists() and word in log.read_text()


@pytest.fixture
def slurm(here: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Its commands, in the path."""
    folder = here / "bin"
    folder.mkdir()
    source = Path(slurm_program.__file__).read_text()
    for name in ("sbatch", "squeue", "scancel", "scontrol"):
        (folder / name).write_text(f"#!{sys.executable} -IS\n{source}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return Programs(folder)


def left_files(here: Path) -> list[str]:
    """The files that jobs have left; ``here`` stays, by which the folder is known."""
    return sorted({path.name for path in (here / "turnstile-jobs").iterdir()} - {"here"})


def lines(path: str) -> list[str]:
    return sorted(Path(path).read_text().splitlines())


def test_inputs_become_tasks_of_one_array(
    call: Any, slurm: Programs, here: Path, log_entries: Callable[[], list[list[str]]]
) -> None:
    """One call submits them; each has its own output, exit status and signal, in order."""
    work = "echo {#} {}; ulimit -c 0; case {} in i3) exit 7 ;; i5) kill -SEGV $$ ;; esac"
    names = [f"i{number}" for number in range(1, 13)]
    options = ("-k", "-j", "4", "--joblog", "log", "--work", work)
    result = call(*RUN, 20, *options, "--", *names)
    assert result.status == 2
    assert result.lines == [f"{number} i{number}" for number in range(1, 13)]
    assert slurm.sizes == [12]
    assert "--array=1-12%4" in slurm.arrays[0]["arguments"]
    entries = {entry[8].split("'")[1]: entry for entry in log_entries()}
    assert {entry[1] for entry in entries.values()} == {
        f"1_{number}@{os.uname().nodename}" for number in range(1, 13)
    }
    assert [entries[name][6:8] for name in ("i1", "i3", "i5")] == [
        *(["0", "0"], ["7", "0"], ["0", "11"])
    ]
    assert left_files(here) == []


def test_tasks_run_as_the_limit_says(
    call: Any, spawn: Any, gate: Any, slurm: Programs, here: Path
) -> None:
    """Signals and ctl move the limit; no waiting task is cancelled, and a pause lets none start."""

    def operate(watch: Any) -> None:
        assert len(gate.arrivals(3)) == 3
        watch.err.wait_for("jobs 9 (3 running), limit 3, running 3")
        watch.signal(signal.SIGUSR2)
        watch.err.wait_for("limit 3 -> 1")
        watch.wait_until(lambda: slurm.told("update jobid=1 arraytaskthrottle=1"))
        gate.let(3)
        gate.arrivals(1)
        watch.err.wait_for("jobs 6 (1 running), limit 1, running 1")
        assert ctl("pause") == 0
        watch.wait_until(lambda: slurm.told("hold 1"))
        gate.let(1)
        watch.err.wait_for("jobs 5 (0 running), limit 0, running 0")
        assert ctl("resume") == 0
        gate.arrivals(1)
        assert ctl("set", "work", "5") == 0
        gate.arrivals(4)
        gate.let(9)

    def ctl(*words: str) -> int:
        status: int = spawn("ctl", *words).finish().status
        return status

    options = ("-j3", "--hold", "0", "--work", gate.wait)
    result = call(*RUN, 20, *options, "--", *"abcdefghi", operator=operate, terminal=True)
    assert result.status == 0
    assert slurm.sizes == [9]
    assert set(slurm.arrays[0]["tasks"].values()) == {"COMPLETED"}


def test_the_next_array_comes_when_less_than_one_waits(
    call: Any, gate: Any, slurm: Programs
) -> None:
    """So few calls submit many inputs, and they do not fill the queue all at once."""

    def operate(watch: Any) -> None:
        gate.arrivals(2)
        watch.err.wait_for("jobs 6 (2 running), limit 2, running 2")
        assert slurm.sizes == [3, 3]
        gate.let(2)
        gate.arrivals(2)
        watch.err.wait_for("jobs 7 (2 running), limit 2, running 2")
        assert slurm.sizes == [3, 3, 3]
        gate.let(10)

    options = ("-j2", "--work", gate.wait)
    result = call(*RUN, 3, *options, "--", *"abcdefghijkl", operator=operate, terminal=True)
    assert result.status == 0
    assert slurm.sizes == [3, 3, 3, 3]


def test_inputs_that_need_different_things_are_in_different_arrays(
    call: Any, slurm: Programs
) -> None:
    """All tasks of an array need the same resources."""
    options = ("--colsep", ",", "--cpus", "{2}", "--submit-args", "--qos={3}")
    inputs = ("a,1,x", "b,2,x", "c,1,x", "d,1,y")
    assert call(*RUN, 20, *options, "--work", "true {1}", "--", *inputs).status == 0
    needs = {tuple(array["arguments"][-2:]): len(array["tasks"]) for array in slurm.arrays}
    assert needs == {
        ("--cpus-per-task=1", "--qos=x"): 2,
        ("--cpus-per-task=2", "--qos=x"): 1,
        ("--cpus-per-task=1", "--qos=y"): 1,
    }


def test_what_tasks_share_is_kept_while_one_goes_on(
    call: Any, gate: Any, slurm: Programs, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late task still finds its script; the files of ended tasks are removed."""
    monkeypatch.setattr(_jobs, "_SWEEP", 0.05)

    def operate(watch: Any) -> None:
        gate.arrivals(1)
        gate.let(1)
        gate.arrivals(1)
        watch.wait_until(lambda: not names("1", "out") and names("2", "out"))
        assert names("1", "tasks")
        gate.let(2)

    def names(index: str, kind: str) -> list[str]:
        return [name for name in left_files(here) if name.endswith(f".{index}.{kind}")]

    result = call(*RUN, 9, "-j1", "--work", gate.wait, "--", *"abc", operator=operate)
    assert result.status == 0
    assert left_files(here) == []


def test_an_array_that_is_refused_fails_each_of_its_inputs(
    call: Any, slurm: Programs, here: Path
) -> None:
    """It leaves no files."""
    (slurm.folder / "sbatch").write_text("#!/bin/sh\necho 'invalid qos' >&2\nexit 1\n")
    result = call(*RUN, 9, "--work", "true {}", "--", *"ab")
    assert result.status == 2
    assert "2 'b': work: the cluster refuses the job: invalid qos" in result.err
    assert left_files(here) == []


def test_a_second_signal_cancels_tasks(spawn: Any, gate: Any, slurm: Programs, here: Path) -> None:
    """Running and waiting tasks are cancelled; then the clean-ups run."""
    run = spawn(*RUN, 9, "-j1", "--cleanup", "echo clean {}", "--work", gate.wait, "--", *"abc")
    gate.arrivals(1)
    run.watch.signal(signal.SIGTERM)
    run.watch.err.wait_for("SIGTERM")
    run.watch.signal(signal.SIGTERM)
    result = run.finish()
    assert (result.status, sorted(result.lines)) == (143, ["clean a", "clean b", "clean c"])
    assert set(slurm.arrays[0]["tasks"].values()) == {"CANCELLED"}


@pytest.mark.parametrize("end", ["kill", "detach"])
def test_another_run_goes_on_with_the_tasks(
    end: str, call: Any, spawn: Any, gate: Any, slurm: Programs, here: Path
) -> None:
    """The first run was killed, or detached them; waiting tasks still find their scripts."""
    work = f"echo {{}} >>ran; {gate.wait}; echo end {{}}"
    command = (*RUN, 9, "--ledger", "db", "--detach", "-j2", "--work", work, "--")
    first = spawn(*command, *"abcde")
    gate.arrivals(2)
    first.watch.wait_until(lambda: sum("job" in facts for facts in known().values()) == 5)
    first.watch.signal(signal.SIGKILL if end == "kill" else signal.SIGTERM)
    result = first.finish()
    assert end == "kill" or "0 completed, 0 failed, 5 left running" in result.err
    before = {name: facts["job"] for name, facts in known().items()}
    assert sorted(before.values()) == [f"1_{number}" for number in range(1, 6)]
    gate.let(9)
    second = call(*command, *"edcbaf")
    assert second.status == 0, second.err
    assert sorted(second.lines) == [f"end {name}" for name in "abcdef"]
    assert lines("ran") == [*"abcdef"]
    after = {name: facts["job"] for name, facts in known().items()}
    assert {name: after[name] for name in before} == before
    assert re.fullmatch(r"2_\d", after["f"])
    assert left_files(here) == []


def known() -> dict[str, dict[str, Any]]:
    """What the ledger remembers of each input."""
    if not Path("db").exists():
        return {}
    with read_ledger("db") as entries:
        return {entry.identity: dict(entry.facts) for entry in entries}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--prepare", "x"), "--arrays and --prepare do not go together: it would run at the same"),
        (("--weight", "2"), "--arrays and --weight do not go together: the cluster counts"),
        (("--arrays", "0"), "--arrays"),
        (("--engine", "local"), "--engine local submits no arrays: leave out --arrays"),
    ],
)
def test_what_makes_no_sense_with_arrays_is_refused(
    options: tuple[str, ...], message: str, call: Any, slurm: Programs
) -> None:
    """They are refused before anything is submitted."""
    arguments = ("run", *options, "--work", "true {}", "--", "a")
    engine = () if "--engine" in options else ("--engine", "slurm")
    arrays = () if "--arrays" in options else ("--arrays", "9")
    result = call(arguments[0], *engine, *arrays, *arguments[1:])
    assert result.status == 2
    assert message in " ".join(result.err.split())
    assert not slurm.arrays


def test_without_what_sets_the_throttle_arrays_are_refused(
    call: Any, slurm: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the program."""
    (slurm.folder / "scontrol").unlink()
    (slurm.folder / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(slurm.folder))
    result = call(*RUN, 9, "--work", "true {}", "--", "a")
    assert result.status == 2
    assert "--engine slurm calls scontrol, which is not in PATH" in " ".join(result.err.split())
