"""``turnstile run``: inputs, commands, outputs and exit statuses."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]


# ---- inputs ----


def test_the_work_command_runs_for_every_input(call: Call) -> None:
    """The work command runs once for each input."""
    result = call("run", "--work", "printf '%s\n' {}", "--", "a", "b c", "d'e", "-n")
    assert (result.status, sorted(result.lines)) == (0, ["-n", "a", "b c", "d'e"])
    assert "4 completed, 0 failed" in result.err


def test_inputs_may_come_before_the_end_of_the_options(call: Call) -> None:
    """Inputs may stand before and after the ``--``."""
    result = call("run", "--work", "printf '%s\n'", "a", "b", "--", "-c", "--")
    assert sorted(result.lines) == ["--", "-c", "a", "b"]


@pytest.mark.parametrize("options", [["--"], []])
def test_no_inputs_are_no_error(options: list[str], call: Call) -> None:
    """A ``--`` without inputs does not read standard input; an empty one has no inputs."""
    result = call("run", "--work", "echo", *options, stdin=b"no\n" if options else b"")
    assert (result.status, result.out) == (0, "")
    assert "0 completed, 0 failed" in result.err


def test_inputs_come_from_standard_input(call: Call) -> None:
    """Each line of standard input is an input, and commands cannot read it."""
    result = call("run", "-j1", "--work", "cat; echo {#}={}", stdin=b"a b\n\n  c\n\xff")
    assert result.out == "1=a b\n2=\n3=  c\n4=\udcff\n"


def test_names_that_cannot_be_shown_are_shown_by_escapes(call: Call) -> None:
    """Bytes that are not text and control characters are escaped in messages."""
    result = call("run", "-q", "--work", "exit 1 # {#}", stdin=b"a\xff\xc3\xa9\x1b[1m\t\n")
    assert result.err == "turnstile: 1 'a\\xffé\\x1b[1m\\t': work: exit status 1\n"


@pytest.mark.parametrize("dash", [True, False])
def test_inputs_come_from_a_file(dash: bool, call: Call, here: Path) -> None:
    """Inputs are the lines of a file, or with --null its texts; a dash is standard input."""
    (here / "lines").write_text("a\nb\n")
    (here / "nulls").write_bytes(b"c\nd\0e\0")
    stdin = [os.open(name, os.O_RDONLY) for name in ("lines", "nulls")]
    lines = call("run", "-j1", "-a", "-" if dash else "lines", "--work", "echo", stdin=stdin[0])
    nulls = call(
        "run", "-j1", "-0", "-a", "-" if dash else "nulls", "--work", "echo", stdin=stdin[1]
    )
    assert (lines.out, nulls.out) == ("a\nb\n", "c\nd\ne\n")


def test_inputs_that_cannot_be_read_on_are_a_failure(call: Call, here: Path) -> None:
    """The inputs before the bad one run, and the message says what to do."""
    (here / "nulls").write_bytes(b"a\nb\0c\0")
    result = call("run", "-a", "nulls", "--halt", "soon,fail=9", "--work", "echo")
    assert (result.status, result.out) == (1, "a\n")
    assert "cannot read the rest of the inputs: input 2 has a NUL in it" in result.err
    assert "--null" in result.err
    assert "1 completed, 0 failed" in result.err
    assert "halting" not in result.err


def test_arguments_and_a_file_do_not_go_together(call: Call, here: Path) -> None:
    """Inputs from both are a usage error, and nothing runs."""
    (here / "file").write_text("a\n")
    for inputs in (["b"], ["--"]):
        result = call("run", "-a", "file", "--work", "echo", *inputs)
        assert (result.status, result.out) == (2, "")
        assert "not both" in result.err


# ---- phases ----


def test_the_phases_run_in_turn(call: Call) -> None:
    """The phases run in order, each with the input."""
    result = call(
        *("run", "-j1", "--prepare", "echo prepare {}", "--work", "echo work"),
        *("--monitor", "echo monitor {/}", "--cleanup", "echo cleanup {}", "--", "x/a"),
    )
    assert result.lines == ["prepare x/a", "work x/a", "monitor a", "cleanup x/a"]


@pytest.mark.parametrize(
    ("failing", "ran"),
    [
        ("prepare", ["prepare", "cleanup"]),
        ("work", ["prepare", "work", "cleanup"]),
        ("monitor", ["prepare", "work", "monitor", "cleanup"]),
        ("cleanup", ["prepare", "work", "monitor", "cleanup"]),
    ],
)
def test_a_failed_phase_is_the_last_but_for_cleanup(
    failing: str, ran: list[str], call: Call, log_entries: Any
) -> None:
    """Later phases are skipped except for the clean-up, and the summary shows the failure."""
    options: list[str] = []
    for phase in ("prepare", "work", "monitor", "cleanup"):
        ending = "exit 3" if phase == failing else "true"
        options += [f"--{phase}", f"echo {phase}; echo 'oh no, {phase}' >&2; {ending} # {{#}}"]
    result = call("run", *options, "--joblog", "log", "--", "in\tput")
    assert (result.status, result.lines) == (1, ran)
    error = f"turnstile: 1 'in\\tput': {failing}: exit status 3\nturnstile: "
    assert error in result.err
    assert log_entries()[0][6] == "3"


def test_commands_know_what_they_run_for(call: Call) -> None:
    """Commands find phase, number, attempt and input in their environment."""
    command = 'echo "$TURNSTILE_PHASE $TURNSTILE_SEQ $TURNSTILE_ATTEMPT $TURNSTILE_INPUT"; exit 1'
    result = call(
        "run", "-j1", "--retries", "1", "--work", command, "--cleanup", command, "--", "a b"
    )
    assert result.lines == ["work 1 2 a b", "cleanup 1 2 a b"]


def test_only_the_work_command_gets_the_input_at_its_end(call: Call) -> None:
    """Other commands do not get the input: rm -rf scratch must not."""
    result = call(
        "run", "--prepare", "echo p", "--work", "echo w", "--cleanup", "echo c", "--", "in"
    )
    assert result.lines == ["p", "w in", "c"]


@pytest.mark.parametrize("phase", ["prepare", "work", "monitor", "cleanup"])
def test_a_phase_that_takes_too_long_is_ended(phase: str, call: Call, log_entries: Any) -> None:
    """--timeout applies to each phase on its own, and --grace to the clean-up."""
    options = ["--timeout", "0.2s", "--grace", "0.2s", "--joblog", "log"]
    if phase != "work":
        options += ["--work", "true {}"]
    result = call(
        "run", *options, f"--{phase}", "echo waiting >&2; exec sleep 1000 # {#}", "--", "a"
    )
    assert result.status == 1
    assert f"1 'a': {phase}: timed out, ended by SIGTERM\n" in result.err
    assert log_entries()[0][6:8] == ["-1", "15"]


def test_a_command_that_cannot_start_is_a_failure(call: Call, here: Path, log_entries: Any) -> None:
    """The operation fails, and the log has -1 for its exit status."""
    result = call("run", "--work", "true {}", "--joblog", "log", stdin=os.open(long(here), 0))
    assert result.status == 1
    assert "Argument list too long" in result.err
    assert log_entries()[0][5:8] == ["0", "-1", "0"]


def long(folder: Path) -> Path:
    (folder / "long").write_text("x" * 200_000)
    return folder / "long"


# ---- output ----


def test_outputs_are_not_mixed(call: Call, here: Path) -> None:
    """The outputs of concurrent operations are printed one after the other."""
    command = "for i in 1 2 3 4 5 6 7 8 9; do echo {}; echo {} >&2; done"
    result = call("run", "-j8", "-q", "--work", command, "--", *range(30))
    for text in (result.out, result.err):
        lines = text.splitlines()
        assert sorted(lines[::9], key=int) == [str(number) for number in range(30)]
        assert lines == [line for line in lines[::9] for _ in range(9)]


def test_much_output_is_printed_whole(call: Call) -> None:
    """More output than is kept in memory is complete."""
    result = call("run", "--work", "head -c 1000000 /dev/zero | tr '\\0' {}", "--", "a", "b")
    assert result.out in ("a" * 10**6 + "b" * 10**6, "b" * 10**6 + "a" * 10**6)


def test_output_that_cannot_be_kept_fails_the_operation(
    call: Call, monkeypatch: pytest.MonkeyPatch, here: Path, log_entries: Any
) -> None:
    """A full disk fails the operation but does not disturb its command."""
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    command = "head -c 1000000 /dev/zero; touch done; exit 0 # {#}"
    result = call("run", "--work", command, "--joblog", "log", "--", "a")
    assert result.status == 1
    assert "its output cannot be kept: No such file or directory in '/nowhere'" in result.err
    assert (here / "done").exists()
    assert log_entries()[0][6] == "-1"


def test_standard_error_is_shown_once(call: Call) -> None:
    """What a failed command wrote is printed with its output; the summary names the input."""
    result = call("run", "-q", "--work", "echo oh no >&2; exit 1 # {#}", "--", "x" * 200)
    assert result.err == f"oh no\nturnstile: 1 '{'x' * 100}...': work: exit status 1\n"


def test_the_error_summary_is_bounded(call: Call) -> None:
    """The summary shows 20 errors and the number of the others."""
    result = call("run", "--work", "exit {#}", "--", *range(25))
    assert result.status == 25
    assert result.err.count(": work: exit status") == 20
    assert "turnstile: and 5 more errors\nturnstile: 0 completed, 25 failed" in result.err


def test_over_a_hundred_failures_are_101(call: Call) -> None:
    """The exit status is at most 101, as with GNU parallel."""
    assert call("run", "-q", "--work", "false", "--", *range(120)).status == 101


def test_a_quiet_run_tells_of_errors_alone(call: Call) -> None:
    """With --quiet there is neither progress nor a final count."""
    assert call("run", "-q", "--work", "test {} = a", "--", "a").err == ""
    assert call("run", "--work", "test {} = a", "--", "a").err != ""
    assert call("run", "-q", "--work", "test {} = a", "--", "b").err.startswith("turnstile: 1 'b'")


def test_the_job_log_has_a_line_for_each_operation(call: Call, log_entries: Any) -> None:
    """Entries have the columns of GNU parallel and are appended."""
    options = ("run", "-j1", "--joblog", "log", "--work")
    call(*options, "echo {}; exit {#}", "--", "a", "b\nc")
    call(*options, "sleep 0.05; kill -KILL $$; echo {}", "--", "d")
    first, second, third = log_entries()
    assert (first[:2], first[4:]) == (["1", ":"], ["0", "2", "1", "0", "echo 'a'; exit 1"])
    assert (second[:2], second[4:]) == (["2", ":"], ["0", "4", "2", "0", "echo 'b\0c'; exit 2"])
    assert third[4:] == ["0", "0", "0", "9", "sleep 0.05; kill -KILL $$; echo 'd'"]
    assert float(third[3]) >= 0.05
    assert float(first[2]) <= float(second[2])


def test_a_job_log_that_cannot_be_opened_is_refused(call: Call, here: Path) -> None:
    """The exit status is 2, and nothing runs."""
    result = call("run", "--joblog", here, "--work", "touch", "--", "ran")
    assert result.status == 2
    assert "--joblog: [Errno 21] Is a directory" in result.err
    assert not (here / "ran").exists()


def test_a_full_disk_ends_the_job_log_and_not_the_run(
    call: Call, here: Path, soft_limit: Any
) -> None:
    """A single note says that the log is not written any more, and so does the exit status."""
    (here / "log").write_text("header\n")
    with soft_limit(resource.RLIMIT_FSIZE, 7):
        result = call("run", "--joblog", "log", "--work", ":", "--", *"abc", stdout=os.dup(1))
    assert result.status == 1
    assert "3 completed, 0 failed" in result.err
    assert result.err.count("stopped writing the job log: File too large") == 1


# ---- retries and halting ----


def test_what_failed_is_tried_again_from_prepare_on(
    call: Call, here: Path, log_entries: Any
) -> None:
    """A retry starts at prepare; the clean-up runs once; only the last output is printed."""
    result = call(
        *("run", "--retries", "2", "--joblog", "log", "--prepare", "echo prepare >>trace"),
        *("--work", 'echo "$TURNSTILE_ATTEMPT"; echo work >>trace; test $TURNSTILE_ATTEMPT = 3'),
        *("--cleanup", "echo cleanup >>trace", "--", "a"),
    )
    assert (result.status, result.lines) == (0, ["3"])
    assert (here / "trace").read_text().split() == ["prepare", "work"] * 3 + ["cleanup"]
    assert [fields[6] for fields in log_entries()] == ["0"]


def test_attempts_end_with_the_retries(call: Call) -> None:
    """The error shows the attempt, and the operation counts once."""
    result = call("run", "--retries", "1", "--work", "false", "--", "a")
    assert result.status == 1
    assert "1 'a': work, attempt 2: exit status 1" in result.err


def test_halting_soon_begins_nothing_more(call: Call, gate: Any) -> None:
    """Running operations finish and count; no others start."""

    def operate(watch: Any) -> None:
        gate.arrivals(3)
        gate.let(1)
        watch.err.wait_for("halting soon: 1 failed")
        gate.let(2)

    result = call(
        *("run", "-j3", "--halt", "soon,fail=1", "--work", f"{gate.wait}; exit 1"),
        *("--", *range(10)),
        operator=operate,
    )
    assert result.status == 3
    assert "0 completed, 3 failed in " in result.err
    assert result.err.endswith("; 7 not started\n")


def test_halting_is_announced_after_the_last_input_too(call: Call, gate: Any) -> None:
    """A halt is shown at once although all inputs are taken."""

    def operate(watch: Any) -> None:
        gate.arrivals(2)
        gate.let(1)
        watch.err.wait_for("halting soon: 1 failed")
        gate.let(1)

    result = call(
        *("run", "-j2", "--halt", "soon,fail=1", "--work", f"{gate.wait}; exit 1", "--", *"ab"),
        operator=operate,
    )
    assert result.status == 2


def test_halting_now_ends_what_runs(call: Call, gate: Any, here: Path) -> None:
    """Running operations are cancelled and cleaned up, and do not count as failures."""

    def operate(watch: Any) -> None:
        gate.arrivals(3)
        gate.let(1)

    result = call(
        *("run", "-j3", "--halt", "now,fail=1", "--cleanup", "touch cleaned-{}"),
        *("--work", f"{gate.wait}; exit 1", "--", *"abcde"),
        operator=operate,
    )
    assert result.status == 1
    assert "0 completed, 1 failed, 2 cancelled" in result.err
    assert {path.name for path in here.iterdir()} == {"cleaned-a", "cleaned-b", "cleaned-c"}


def test_halting_waits_for_its_share(call: Call) -> None:
    """A share is of the operations that ended, and needs three failures."""
    result = call(
        "run", "-j1", "--halt", "now,fail=50%", "--work", "test {} = y", "--", *"yyynnnnyy"
    )
    assert result.status == 3
    assert "halting now: 3 failed\n" in result.err
    assert "3 completed, 3 failed" in result.err


# ---- the limit ----


def test_no_more_run_than_the_limit_allows(call: Call, gate: Any) -> None:
    """As many operations run as the limit allows, while there are inputs."""

    def operate(watch: Any) -> None:
        assert gate.arrivals(2) == ["1", "2"]
        for number in range(3, 7):
            gate.let(1)
            assert gate.arrivals(1) == [str(number)]
        gate.let(2)

    result = call("run", "--limit", "2", "--work", gate.wait, "--", *range(1, 7), operator=operate)
    assert result.status == 0


def test_a_high_limit_raises_the_limit_of_open_files(
    call: Call, gate: Any, soft_limit: Any
) -> None:
    """A hundred operations need more files than the 256 that the process may open at first."""

    def operate(watch: Any) -> None:
        gate.arrivals(100)
        gate.let(100)

    with soft_limit(resource.RLIMIT_NOFILE, 256):
        result = call("run", "-j100", "--work", gate.wait, "--", *range(100), operator=operate)
    assert result.status == 0


# ---- dry runs ----


def test_a_dry_run_prints_the_commands(call: Call) -> None:
    """The commands of all phases are printed, ready for a shell, and none runs."""
    result = call(
        *("run", "--dry-run", "--joblog", "/nowhere/log", "--cleanup", "rm {}.tmp"),
        *("--work", "sort {} >{/}.tmp", "--", "x/a b", "-"),
    )
    assert (result.status, result.err) == (0, "")
    assert result.lines == [
        "sort 'x/a b' >'a b'.tmp",
        "rm 'x/a b'.tmp",
        "sort '-' >'-'.tmp",
        "rm '-'.tmp",
    ]


def test_a_dry_run_reads_its_inputs_as_a_run_does(call: Call) -> None:
    """A dry run reports bad inputs as a run does."""
    result = call("run", "--dry-run", "--work", "echo", stdin=b"a\nb\0c\n")
    assert (result.status, result.lines) == (1, ["echo 'a'"])
    assert "cannot read the rest of the inputs" in result.err


def test_a_dry_run_that_nobody_reads_ends_quietly(call: Call) -> None:
    """The exit status of a dry run into a closed pipe is 141, without a message."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    result = call("run", "--dry-run", "--work", "echo", "--", "a", stdout=write_end)
    assert (result.status, result.err) == (141, "")
