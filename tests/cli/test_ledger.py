"""A run with a ledger goes on after its end, whatever ended it."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from trio_turnstile import LedgerEntry, read_ledger

WORK = "echo {} >>done; test ! -e bad/{}"
CLEAN = "echo {}:$TURNSTILE_ATTEMPT >>cleaned"


def run(call: Any, *inputs: object, options: tuple[str, ...] = (), work: str = WORK) -> Any:
    return call("run", "--ledger", "db", *options, "--work", work, "--", *inputs)


def entries(path: str = "db") -> dict[str, LedgerEntry]:
    with read_ledger(path) as read:
        return {entry.identity: entry for entry in read}


def lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def test_what_has_ended_is_skipped(call: Any, here: Path) -> None:
    """Inputs are known by their texts, so they may be shuffled, added and removed."""
    (here / "bad").mkdir()
    (here / "bad" / "3").touch()
    first = run(call, 1, 2, 3, 4)
    assert first.status == 1
    second = run(call, 5, 3, 4, 1)
    assert second.status == 0
    assert "1 completed, 0 failed, 3 skipped" in second.err
    assert sorted(lines("done")) == ["1", "2", "3", "4", "5"]


def test_what_has_failed_is_done_again_if_asked(call: Any, here: Path) -> None:
    """This needs --retry-failed; the operation keeps its number."""
    (here / "bad").mkdir()
    (here / "bad" / "2").touch()
    run(call, 1, 2, 3)
    number = entries()["2"].number
    (here / "bad" / "2").unlink()
    again = run(call, 1, 2, 3, options=("--retry-failed", "--joblog", "log"))
    assert "1 completed, 0 failed, 2 skipped" in again.err
    assert entries()["2"].outcome == "completed"
    assert lines("log")[1].split("\t")[0] == str(number)


def test_other_commands_are_refused(call: Any, here: Path) -> None:
    """The message shows the difference and what to do; nothing is run."""
    run(call, 1)
    other = run(call, 1, 2, work="echo other {} >>done")
    assert other.status == 2
    assert WORK in other.err
    assert "echo other {}" in other.err
    assert "--accept-changes" in other.err
    assert "--fresh" in other.err
    assert lines("done") == ["1"]
    accepted = run(call, 1, 2, work="echo other {} >>done", options=("--accept-changes",))
    assert accepted.status == 0
    assert lines("done") == ["1", "other 2"]


def test_fresh_forgets(call: Any, here: Path) -> None:
    """With --fresh everything is done again; on a terminal the user is asked first."""
    run(call, 1, 2)
    assert "2 completed" in run(call, 1, 2, options=("--fresh",)).err

    def say(answer: str) -> Any:
        def type_it(watch: Any) -> None:
            watch.err.wait_for("forget 2 operations in db? [y/N]")
            watch.type(f"{answer}\n")

        return type_it

    options = ("run", "--ledger", "db", "--fresh", "--work", WORK, "--", "1")
    refused = call(*options, terminal=True, operator=say("n"))
    assert refused.status == 2
    assert "left unchanged" in refused.err
    assert len(entries()) == 2
    assert call(*options, terminal=True, operator=say("y")).status == 0
    assert len(entries()) == 1


@pytest.mark.parametrize("option", ["--retry-failed", "--fresh", "--accept-changes"])
def test_options_of_a_ledger_need_one(call: Any, option: str) -> None:
    """They are refused without it."""
    refused = call("run", option, "--work", "true", "--", "a")
    assert refused.status == 2
    assert f"{option} is only for a ledger: give --ledger FILE too" in refused.err


def test_a_file_that_is_no_ledger_is_refused(call: Any, here: Path) -> None:
    """The file is left unchanged, and nothing is run."""
    (here / "db").write_text("a table of mine")
    refused = run(call, 1)
    assert refused.status == 2
    assert "db is not a ledger" in refused.err
    assert (here / "db").read_text() == "a table of mine"
    assert not (here / "done").exists()


def test_a_second_run_on_one_ledger_is_refused(
    call: Any, spawn: Any, gate: Any, here: Path
) -> None:
    """While another run uses it, it can still be read."""
    first = spawn("run", "--ledger", "db", "--work", gate.wait, "--", "a")
    gate.arrivals(1)
    refused = run(call, 1)
    assert refused.status == 2
    assert "db is in use" in refused.err
    shown = call("ledger", "db")
    assert "open (work)" in shown.out
    gate.let(1)
    assert first.finish().status == 0


def test_a_killed_run_is_cleaned_up_and_goes_on(
    call: Any, spawn: Any, gate: Any, here: Path
) -> None:
    """Interrupted inputs come first, even if they are given last, or not any more."""
    wait = f"{gate.wait}; echo {{}} >>done"
    clean = f"echo clean {{}} >>order; {CLEAN}"
    options = ("--cleanup", clean, "-j2")
    first = spawn("run", "--ledger", "db", *options, "--work", wait, "--", *"abcd")
    gate.arrivals(2)
    gate.let(2)
    assert gate.arrivals(2) == ["c", "d"]
    first.watch.wait_until(lambda: sum(not entry.is_open for entry in entries().values()) == 2)
    first.watch.signal(signal.SIGKILL)
    first.finish()
    gate.let(2)  # the commands outlive the run that was killed
    first.watch.wait_until(lambda: len(lines("done")) == 4)
    assert sorted(lines("cleaned")) == ["a:1", "b:1"]
    (here / "cleaned").unlink()
    (here / "order").unlink()
    options = ("--accept-changes", "--cleanup", clean, "-j3")
    second = run(call, *"eba", options=options, work=f"echo work {{}} >>order; {WORK}")
    assert second.status == 0
    assert "3 completed, 0 failed, 2 skipped" in second.err
    assert sorted(lines("order")[:2]) == ["clean c", "clean d"]  # before any work
    assert sorted(lines("cleaned")) == ["c:1", "c:1", "d:1", "d:1", "e:1"]
    assert {entry.outcome for entry in entries().values()} == {"completed"}


def test_a_run_killed_in_a_clean_up_only_cleans_up(
    call: Any, spawn: Any, gate: Any, here: Path
) -> None:
    """The work is not done again, and the job log gets its line."""
    options = ("--work", "echo {} >>done", "--cleanup", gate.wait, "--joblog", "log")
    first = spawn("run", "--ledger", "db", *options, "--", "a")
    gate.arrivals(1)
    first.watch.wait_until(lambda: entries()["a"].outcome == "completed")
    first.watch.signal(signal.SIGKILL)
    first.finish()
    gate.let(2)
    second = call("run", "--ledger", "db", *options, "--", "a")
    assert second.status == 0
    assert lines("done") == ["a"]
    assert lines("log")[1].split("\t")[6] == "0"
    assert entries()["a"].outcome == "completed"


def test_a_stopped_run_names_what_is_left(call: Any, gate: Any, here: Path) -> None:
    """They are the known inputs that did not begin, and the cancelled ones."""

    def stop(watch: Any) -> None:
        gate.arrivals(2)
        watch.signal(signal.SIGTERM)
        watch.err.wait_for("SIGTERM")
        watch.signal(signal.SIGTERM)

    inputs = [chr(n) for n in range(ord("a"), ord("k"))]
    work = f"{gate.wait}"
    stopped = call("run", "--ledger", "db", "-j2", "--work", work, "--", *inputs, operator=stop)
    assert stopped.status == 143
    shown = call("ledger", "db", "--left", "--json")
    left = {line["input"]: line["outcome"] for line in map(json.loads, shown.lines)}
    assert left.keys() == set(inputs)
    assert sorted(left.values()) == ["cancelled"] * 2 + ["left"] * 8
    assert "8 not begun" in call("ledger", "db").out


def test_numbers_go_on(call: Any, here: Path) -> None:
    """A later run numbers its operations after those of the earlier ones."""
    for inputs in ("ab", "abc", "dabc"):
        run(call, *inputs, options=("--joblog", "log", "-j1"), work="test {#} = {#} || echo {}")
    assert [line.split("\t")[0] for line in lines("log")[1:]] == ["1", "2", "3", "4"]


def test_an_input_that_is_given_twice_is_an_error_of_its_own(call: Any, here: Path) -> None:
    """A ledger knows inputs by their texts; the other inputs go on."""
    doubled = run(call, 1, 2, 1, 3)
    assert doubled.status == 1
    assert "identity '1' came before in this run" in doubled.err
    assert sorted(lines("done")) == ["1", "2", "3"]


def test_any_bytes_can_be_an_input(call: Any, here: Path) -> None:
    """So can the empty text, and bytes that are not UTF-8."""
    inputs = ("", "a\nb", "\udcff", "'\"$x")
    work = "printf '%s,' {} >>done"
    assert run(call, *inputs, work=work).status == 0
    again = run(call, *inputs, work=work)
    assert "4 skipped" in again.err
    assert set((here / "done").read_bytes().split(b",")[:-1]) == {
        b"",
        b"a\nb",
        b"\xff",
        b"'\"$x",
    }
    assert "\\xff" in call("ledger", "db").out


def test_a_ledger_that_cannot_be_written_stops_the_run(call: Any, here: Path) -> None:
    """Nothing more is started, running operations may finish, and the ledger is intact."""
    work = "if [ {} = 3 ]; then mv db away; fi; echo {} >>done"
    lost = run(call, *range(1, 40), options=("-j1",), work=work)
    assert lost.status == 1
    assert lost.err.count("the ledger db cannot be written any more") == 1
    assert len(lines("done")) <= 5
    with sqlite3.connect("away") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_the_table_shows_outcomes_and_reasons(call: Any, here: Path) -> None:
    """There is a line for each operation and a line of counts; --failed selects lines."""
    (here / "bad").mkdir()
    (here / "bad" / "2").touch()
    run(call, 1, 2, options=("-j1",))
    shown = call("ledger", "db")
    assert shown.status == 0
    assert "1 completed" in shown.lines[0]
    assert shown.lines[1].endswith("2  (exit status 1)")
    assert shown.lines[2] == "1 completed, 1 failed"
    assert len(call("ledger", "db", "--failed").lines) == 2
    missing = call("ledger", "db", "--run", "x")
    assert missing.status == 2
    assert "has no run 'x'" in missing.err


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_any_number_of_kills_loses_nothing(spawn: Any, call: Any, here: Path, seed: int) -> None:
    """Each input is done, and is cleaned up after each time that it began."""
    draw = random.Random(seed)
    inputs = [str(number) for number in range(120)]
    work = "echo {} >>begun; sleep 0.02; : >out/{}"
    (here / "out").mkdir()
    options = ("run", "-j6", "-q", "--ledger", "db", "--cleanup", "echo {} >>cleaned")
    for _ in range(6):
        draw.shuffle(inputs)
        before = len(lines("begun")) if (here / "begun").exists() else 0
        killed = spawn(*options, "--work", work, "--", *inputs)
        more = draw.randrange(1, 20)
        killed.watch.wait_until(
            lambda: (here / "begun").exists() and len(lines("begun")) >= before + more  # noqa: B023
        )
        killed.watch.signal(signal.SIGKILL)
        killed.finish()
        inputs += [f"more-{len(inputs)}-{n}" for n in range(3)]
    assert call(*options, "--work", work, "--", *inputs).status == 0
    assert {path.name for path in (here / "out").iterdir()} == set(inputs)
    assert {entry.outcome for entry in entries().values()} == {"completed"}
    assert set(lines("cleaned")) == set(inputs)


def test_outputs_in_order_do_not_wait_for_what_is_skipped(call: Any, gate: Any, here: Path) -> None:
    """With --keep-order, output after skipped inputs is printed as soon as it is complete."""
    run(call, 1, 2, 4, work="echo {}")
    options = ("--keep-order", "-j2")
    assert run(call, 5, 1, 3, 2, 4, 6, options=options, work="echo {}").lines == ["5", "3", "6"]
