"""``turnstile run``: the options for the output."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]


# ---- order ----


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--keep-order", "-k"])
def test_outputs_can_come_in_the_order_of_the_inputs(
    option: str, call: Call, gate: Any, here: Path
) -> None:
    """With --keep-order the output of a slow operation comes before that of later ones."""
    work = f"case {{}} in a) {gate.wait};; esac; echo {{}}; echo err {{}} >&2; echo >>ended"
    inputs = ["a", *map(str, range(300))]

    def operate(watch: Any) -> None:
        gate.arrivals(1)
        ended = here / "ended"
        watch.wait_until(lambda: ended.exists() and ended.stat().st_size == 300)
        gate.let(1)

    result = call("run", option, "-j2", "--work", work, "--", *inputs, operator=operate)
    assert (result.status, result.lines) == (0, inputs)
    errors = [line for line in result.err.splitlines() if line.startswith("err ")]
    assert errors == [f"err {each}" for each in inputs]


def test_a_failed_operation_keeps_its_place(call: Call) -> None:
    """With --keep-order an operation without output or with an error holds nobody up."""
    work = "test {} != 2 && echo {}"
    result = call("run", "-k", "-j4", "--work", work, "--", "0", "2", "1", "3")
    assert (result.status, result.lines) == (1, ["0", "1", "3"])


# ---- line by line ----


def test_lines_can_be_printed_as_they_come(call: Call, gate: Any, read_pipe: Any) -> None:
    """With --line-buffer whole lines of running operations come at once, the rest at the end."""
    out, stdout = read_pipe
    work = f"echo one {{}}; printf half; {gate.wait}; echo two {{}}; printf end"

    def operate(watch: Any) -> None:
        for name in ("a", "b"):
            out.wait_for(f"one {name}\n")
        assert "half" not in out.so_far
        gate.let(2)

    options = ("--line-buffer", "-j2")
    call("run", *options, "--work", work, "--", "a", "b", stdout=stdout, operator=operate)
    assert sorted(out.all().replace("end", "").splitlines()) == [
        "halftwo a",
        "halftwo b",
        "one a",
        "one b",
    ]
    assert out.all().count("end") == 2


def test_lines_in_order_come_from_one_operation_at_a_time(
    call: Call, gate: Any, read_pipe: Any, here: Path
) -> None:
    """With --keep-order only the first running operation prints; then it is the next one's turn."""
    out, stdout = read_pipe
    work = (
        f"echo one {{}}; touch {{}}; case {{}} in c) ;; *) {gate.wait};; esac; echo two {{}}; "
        "test {} != a || read _ <next"
    )
    os.mkfifo("next")

    def operate(watch: Any) -> None:
        gate.arrivals(2)
        out.wait_for("one a\n")
        watch.wait_until((here / "c").exists)
        assert out.so_far == "one a\n"
        gate.let(2)
        out.wait_for("two a\n")
        assert out.so_far == "one a\ntwo a\n"
        (here / "next").write_text("\n")

    options = ("--line-buffer", "-k", "-j3")
    call("run", *options, "--work", work, "--", "a", "b", "c", stdout=stdout, operator=operate)
    assert out.all() == "".join(f"one {each}\ntwo {each}\n" for each in "abc")


def test_many_lines_are_printed_whole(call: Call) -> None:
    """Lines of several operations are never mixed, and none is lost or doubled."""
    work = "i=0; while [ $i -lt 3000 ]; do i=$((i + 1)); echo {} $i; done"
    result = call("run", "--lb", "-j4", "--work", work, "--", *"abcd")
    for name in "abcd":
        lines = [line for line in result.lines if line.startswith(name)]
        assert lines == [f"{name} {number}" for number in range(1, 3001)]
    assert len(result.lines) == 4 * 3000


def test_lines_of_failed_attempts_stay(call: Call, log_entries: Any) -> None:
    """What was printed cannot be taken back; the job log counts the last attempt alone."""
    work = "echo attempt $TURNSTILE_ATTEMPT; false"
    options = ("--lb", "--retries", "1", "--joblog", "log", "--work", work)
    result = call("run", *options, "--", "a")
    assert result.lines == ["attempt 1", "attempt 2"]
    assert log_entries()[0][5] == "10"


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_cancelled_operation_prints_the_rest(call: Call, gate: Any, stop: int) -> None:
    """A run that is cancelled while lines are printed keeps what was written until then."""

    def operate(watch: Any) -> None:
        gate.arrivals(1)
        watch.signal(stop)
        watch.err.wait_for("starting nothing more")
        watch.signal(stop)

    work = f"echo line; printf rest; {gate.wait}"
    result = call("run", "--lb", "--work", work, "--", "a", operator=operate)
    assert (result.status, result.out) == (128 + stop, "line\nrest")


# ---- ungrouped ----


@pytest.mark.parametrize("option", ["--ungroup", "-u"])
def test_commands_can_write_themselves(option: str, call: Call, gate: Any, read_pipe: Any) -> None:
    """With --ungroup parts of lines come at once, and the commands see where they go."""
    out, stdout = read_pipe
    work = f"printf half; echo err >&2; {gate.wait}; echo {{}}"

    def operate(watch: Any) -> None:
        out.wait_for("half")
        watch.err.wait_for("err\n")
        gate.let(1)

    result = call("run", option, "--work", work, "--", "a", stdout=stdout, operator=operate)
    assert (result.status, out.all()) == (0, "halfa\n")


def test_ungrouped_commands_see_the_terminal(call: Call) -> None:
    """With --ungroup a command is at the terminal, and no live line gets in its way."""
    result = call("run", "-u", "--work", "test -t 1 && echo yes {}", "--", "a", terminal=True)
    assert (result.status, "yes a" in result.err, "limit" in result.err) == (0, True, False)


def test_ungrouped_commands_keep_their_clean_up_and_retries(call: Call) -> None:
    """Retries and clean-ups write to the same place."""
    options = ("-u", "--retries", "1", "--work", "echo $TURNSTILE_ATTEMPT; false")
    result = call("run", *options, "--cleanup", "echo cleanup", "--", "a", "b")
    assert (result.status, sorted(result.lines)) == (2, ["1", "1", "2", "2", "cleanup", "cleanup"])


def test_ungrouped_commands_without_a_reader_end_the_run(call: Call) -> None:
    """If nobody reads standard output, no more operations start."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    work = "trap '' PIPE; echo {} 2>/dev/null; true"
    result = call("run", "-u", "-j1", "--work", work, "--", *range(50), stdout=write_end)
    assert result.status == 141
    assert "standard output cannot be written: Broken pipe" in result.err
    assert "not started" in result.err


@pytest.mark.parametrize("option", ["--keep-order", "--line-buffer", "--tag", "--tagstring=x"])
def test_what_needs_collected_output_is_refused(option: str, call: Call) -> None:
    """Options that contradict --ungroup are a usage error that names both."""
    result = call("run", "-u", option, "--work", "echo", "--", "a")
    assert (result.status, result.out) == (2, "")
    assert f"--ungroup and {option.split('=')[0]} do not go together" in result.err


# ---- tags and titles ----


@pytest.mark.parametrize("more", [[], ["--line-buffer"], ["-k"]])
def test_lines_can_have_the_input_before_them(more: list[str], call: Call) -> None:
    """With --tag the input and a tab come before each line, on both streams."""
    work = "printf '1\n\n2'; echo err {} >&2"
    result = call("run", "--tag", *more, "--work", work, "--", "a b")
    assert result.out == "a b\t1\na b\t\na b\t2"
    assert "a b\terr a b\n" in result.err


def test_the_text_before_the_lines_can_have_placeholders(call: Call) -> None:
    """Placeholders in --tagstring are filled as they are, without quotes."""
    options = ("-k", "--tagstring", "'{/.}' {#}:", "--work", "echo")
    result = call("run", *options, "--", "d/a.txt", "it's")
    assert result.lines == ["'a' 1:\td/a.txt", "'it's' 2:\tit's"]


def test_long_output_has_a_tag_before_every_line(call: Call) -> None:
    """Wherever long output is cut into pieces, each line has one tag."""
    result = call("run", "--tagstring", "T", "--work", "seq 100000; true {}", "--", "")
    assert result.lines == [f"T\t{number}" for number in range(1, 100_001)]


def test_there_is_one_tag(call: Call) -> None:
    """--tag and --tagstring contradict each other."""
    result = call("run", "--tag", "--tagstring", "x", "--work", "echo", "--", "a")
    assert (result.status, "--tag is short for --tagstring {}" in result.err) == (2, True)


@pytest.mark.parametrize("more", [["-j1"], ["--lb", "-j1"], ["-k", "-j4"], ["-k", "--lb", "-j4"]])
@pytest.mark.parametrize("option", ["-v", "--verbose"])
def test_the_command_can_come_before_its_output(option: str, more: list[str], call: Call) -> None:
    """With --verbose the work command is printed, even if there is no output."""
    work = "test {} = b || echo out {}"
    result = call("run", option, *more, "--work", work, "--", *"abc")
    assert result.lines == [
        "test 'a' = b || echo out 'a'",
        "out a",
        "test 'b' = b || echo out 'b'",
        "test 'c' = b || echo out 'c'",
        "out c",
    ]


def test_the_command_of_an_ungrouped_operation_is_shown(call: Call) -> None:
    """With --ungroup the command is printed as well."""
    result = call("run", "-uv", "--work", "echo out {}", "--", "a")
    assert sorted(result.lines) == ["echo out 'a'", "out a"]


def test_a_command_is_shown_at_its_start_with_line_buffer(
    call: Call, gate: Any, read_pipe: Any
) -> None:
    """With --line-buffer a command is shown before it has written anything."""
    out, stdout = read_pipe

    def operate(watch: Any) -> None:
        gate.arrivals(1)
        out.wait_for("read _")
        gate.let(1)

    call("run", "-v", "--lb", "--work", gate.wait, "--", "a", stdout=stdout, operator=operate)
    assert out.all().count("\n") == 1


# ---- at the end ----


def test_a_command_runs_when_all_is_over(call: Call, here: Path) -> None:
    """--on-finish is told how the run has ended, and does not change the exit status."""
    tell = (
        'echo "$TURNSTILE_COMPLETED $TURNSTILE_FAILED $TURNSTILE_STATUS"; '
        'case $TURNSTILE_SECONDS in *.???) ;; *) echo "no: $TURNSTILE_SECONDS";; esac; exit 7'
    )
    options = ("-j1", "--on-finish", tell, "--work", "echo {}; test {} != b")
    result = call("run", *options, "--", *"abc")
    assert (result.status, result.lines) == (1, ["a", "b", "c", "2 1 1"])
    assert "--on-finish: exit status 7" in result.err


def test_a_stop_signal_ends_the_last_command(call: Call) -> None:
    """A command of --on-finish that hangs does not keep the run from being ended."""

    def operate(watch: Any) -> None:
        watch.err.wait_for("hangs")
        watch.signal(signal.SIGTERM)

    options = ("--on-finish", "echo hangs >&2; sleep 1000", "--work", "true")
    assert call("run", *options, "--", "a", operator=operate).status == 0
