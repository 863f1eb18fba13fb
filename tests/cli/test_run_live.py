"""``turnstile run`` while it runs: signals, late inputs, terminals, early ends."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from trio_turnstile import Retry
from trio_turnstile.cli._printer import MOST_WAITING

Call = Callable[..., Any]


# ---- retuning ----


def test_signals_move_the_limit_while_it_runs(call: Call, gate: Any) -> None:
    """SIGUSR2 lowers the limit and SIGUSR1 raises it, at once, within --min and --max."""

    def operate(watch: Any) -> None:
        gate.arrivals(4)
        watch.signal(signal.SIGUSR2)
        watch.err.wait_for("limit 4 -> 2")
        gate.let(3)
        assert gate.arrivals(1) == ["4"]  # two of the four had no successor
        watch.signal(signal.SIGUSR1)
        watch.err.wait_for("limit 2 -> 3")
        assert gate.arrivals(1) == ["5"]
        watch.signal(signal.SIGUSR2)
        watch.err.wait_for("limit 3 -> 1")
        watch.signal(signal.SIGUSR2)
        watch.err.wait_for("limit stays 1: down refused, that is --min")
        gate.let(9)

    result = call(
        *("run", "--limit", "4", "--hold", "0", "--work", gate.wait, "--", *range(9)),
        operator=operate,
    )
    assert result.status == 0


def test_the_limit_comes_back_to_where_it_began(call: Call, gate: Any) -> None:
    """By default SIGUSR1 does not raise the limit above --limit."""

    def operate(watch: Any) -> None:
        gate.arrivals(1)
        watch.signal(signal.SIGUSR1)
        watch.err.wait_for("limit stays 1: up refused, that is --max")
        gate.let(1)

    assert call("run", "-j1", "--work", gate.wait, "--", "a", operator=operate).status == 0


def test_with_max_the_limit_can_go_beyond(call: Call, gate: Any) -> None:
    """SIGUSR1 raises the limit by --up; a new run does not hold."""

    def operate(watch: Any) -> None:
        gate.arrivals(1)
        watch.signal(signal.SIGUSR1)
        watch.err.wait_for("limit 1 -> 3")
        gate.arrivals(2)
        watch.signal(signal.SIGUSR1)
        watch.err.wait_for("limit stays 3: up refused, --hold lasts ")
        gate.let(3)

    result = call(
        *("run", "-j1", "--max", "9", "--up", "2", "--work", gate.wait, "--", *"abc"),
        operator=operate,
    )
    assert result.status == 0


def test_a_limit_of_none_begins_nothing_until_it_is_raised(call: Call, gate: Any) -> None:
    """With --min 0 signals can pause the run and resume it."""

    def operate(watch: Any) -> None:
        gate.arrivals(1)
        watch.signal(signal.SIGUSR2)
        watch.err.wait_for("limit 1 -> 0")
        gate.let(1)
        watch.signal(signal.SIGUSR1)
        watch.err.wait_for("limit 0 -> 1")
        gate.arrivals(1)
        gate.let(1)

    result = call(
        *("run", "-j1", "--min", "0", "--hold", "0", "--work", gate.wait, "--", *"ab"),
        operator=operate,
    )
    assert result.status == 0


# ---- the end before the end ----


STOPS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.mark.parametrize(("signum", "status"), STOPS)
def test_the_first_stop_signal_lets_what_runs_finish(
    signum: int, status: int, call: Call, gate: Any, here: Path
) -> None:
    """Running operations finish and no others start, whichever of the signals it is."""

    def operate(watch: Any) -> None:
        gate.arrivals(2)
        watch.signal(signum)
        watch.err.wait_for("starting nothing more")
        gate.let(2)

    result = call(
        *("run", "-j2", "--joblog", "log", "--work", f"{gate.wait}; echo {{}}", "--", *"abcdefg"),
        operator=operate,
    )
    assert (result.status, sorted(result.lines)) == (status, ["a", "b"])
    assert "2 completed, 0 failed in " in result.err
    assert result.err.endswith("; 5 not started\n")
    assert (here / "log").read_text().count("\n") == 3


def test_a_drained_run_with_failures_tells_their_number(call: Call, gate: Any) -> None:
    """The exit status of a drained run is the number of failures, if there are any."""

    def operate(watch: Any) -> None:
        gate.arrivals(2)
        watch.signal(signal.SIGINT)
        watch.err.wait_for("starting nothing more")
        gate.let(2)

    result = call(*("run", "-j2", "--work", f"{gate.wait}; exit 1", "--", *"abc"), operator=operate)
    assert result.status == 2


def test_a_stop_signal_that_comes_late_changes_nothing(call: Call, gate: Any) -> None:
    """The exit status is 0 if all inputs are completed in spite of the signal."""

    def operate(watch: Any) -> None:
        gate.arrivals(1)
        watch.signal(signal.SIGINT)
        watch.err.wait_for("starting nothing more")
        gate.let(1)

    assert call("run", "--work", gate.wait, "--", "a", operator=operate).status == 0


def test_the_second_stop_signal_cancels_and_cleans_up(
    call: Call, gate: Any, log_entries: Any
) -> None:
    """Running commands are ended; operations that started are cleaned up and logged."""

    def operate(watch: Any) -> None:
        gate.arrivals(2)
        watch.signal(signal.SIGINT)
        watch.err.wait_for("starting nothing more")
        watch.signal(signal.SIGTERM)
        watch.err.wait_for("cancelled; clean-ups may take 30s each")

    result = call(
        *("run", "-j2", "--joblog", "log", "--prepare", "echo began"),
        *("--work", gate.wait, "--cleanup", "echo clean {}", "--", *"abcdef"),
        operator=operate,
    )
    assert (result.status, sorted(result.lines)) == (130, ["began", "began", "clean a", "clean b"])
    assert "0 completed, 0 failed, 2 cancelled in " in result.err
    assert result.err.endswith("; 4 not started\n")
    assert [fields[6:8] for fields in log_entries()] == [["-1", "15"]] * 2


def test_a_cancelled_run_does_not_wait_for_a_clean_up_for_ever(call: Call, gate: Any) -> None:
    """A clean-up is ended after --grace, and the summary says so."""

    def operate(watch: Any) -> None:
        gate.arrivals(1)
        watch.signal(signal.SIGINT)
        watch.err.wait_for("starting nothing more")
        watch.signal(signal.SIGINT)

    result = call(
        *("run", "--grace", "0.2", "--cleanup", "exec sleep 1000", "--work", gate.wait, "--", "a"),
        operator=operate,
    )
    assert result.status == 130
    assert "1 'a': cleanup: timed out, ended by SIGTERM" in result.err


def test_a_run_that_waits_for_inputs_can_be_ended(call: Call) -> None:
    """If no operation runs, the first signal ends the run."""
    read_end, write_end = os.pipe()

    def operate(watch: Any) -> None:
        os.write(write_end, b"a\n")
        watch.err.wait_for("ready")
        watch.signal(signal.SIGINT)

    result = call("run", "--work", "echo ready {} >&2", stdin=read_end, operator=operate)
    os.write(write_end, b"\n")  # so that the thread that reads can end
    os.close(write_end)
    assert result.status == 130
    assert "1 completed, 0 failed" in result.err
    assert result.err.endswith("; not all inputs were read\n")


def test_a_hang_up_that_is_to_be_ignored_is(call: Call, gate: Any) -> None:
    """Under nohup(1), SIGHUP has no effect."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def operate(watch: Any) -> None:
        gate.arrivals(1)
        watch.signal(signal.SIGHUP)
        gate.let(1)
        gate.arrivals(1)
        gate.let(1)

    result = call("run", "-j1", "--work", gate.wait, "--", *"ab", operator=operate)
    assert (result.status, "SIGHUP" in result.err) == (0, False)


# ---- inputs and outputs that are slow, or go away ----


def test_an_input_starts_when_it_comes_though_the_pipe_stays_open(call: Call, gate: Any) -> None:
    """An open pipe delays neither the inputs that have come nor running operations."""
    read_end, write_end = os.pipe()

    def operate(watch: Any) -> None:
        for name in "abc":
            os.write(write_end, f"{name}\n".encode())
            assert gate.arrivals(1) == [name]
        gate.let(3)
        for name in "abc":
            watch.err.wait_for(f"done {name}\n")
        os.close(write_end)

    result = call(
        *("run", "-j4", "--work", f"{gate.wait}; echo done {{}} >&2"),
        stdin=read_end,
        operator=operate,
    )
    assert result.status == 0
    assert "3 completed" in result.err


def test_a_closed_standard_output_stops_the_run(call: Call, gate: Any) -> None:
    """The run drains without a traceback and exits with 141."""
    read_end, write_end = os.pipe()

    def operate(watch: Any) -> None:
        gate.arrivals(2)
        os.close(read_end)
        gate.let(1)
        watch.err.wait_for("standard output cannot be written: Broken pipe")
        gate.let(2)  # a third may have begun before that was known

    result = call(
        *("run", "-j2", "--work", f"{gate.wait}; echo {{}}", "--", *range(20)),
        stdout=write_end,
        operator=operate,
    )
    assert result.status == 141
    assert re.search(r"[23] completed, 0 failed in .*; 1[78] not started\n", result.err)
    assert "Traceback" not in result.err


def test_a_run_whose_output_nobody_takes_can_be_cancelled(
    call: Call, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancelled run gives up the output that it cannot print."""
    monkeypatch.setattr("trio_turnstile.cli._command_run.PRINT_TIMEOUT", 0.1)
    read_end, write_end = os.pipe()
    os.mkfifo("log")
    log = os.open("log", os.O_RDWR)

    def operate(watch: Any) -> None:
        ended = b""
        while ended.count(b"\n") < 1 + 3:
            ended += os.read(log, 1000)
        for text in ("starting nothing more", "cancelled; ending all commands"):
            watch.signal(signal.SIGINT)
            watch.err.wait_for(text)

    result = call(
        *("run", "--joblog", "log", "--work", "head -c 1000000 /dev/zero # {#}", "--", *"abc"),
        stdout=write_end,
        operator=operate,
    )
    os.close(read_end)
    os.close(log)
    assert result.status == 0
    assert "3 completed, 0 failed" in result.err


def test_operations_wait_while_their_output_is_not_taken(call: Call, here: Path) -> None:
    """Back-pressure: a slow reader holds up the start of operations."""
    read_end, write_end = os.pipe()
    taken = 0

    def began() -> int:
        return len(list(here.iterdir()))

    def operate(watch: Any) -> None:
        nonlocal taken
        watch.wait_until(lambda: began() > MOST_WAITING)
        for number in range(1, 50):  # all the while more could begin
            watch.signal(signal.SIGUSR1)
            watch.err.wait_for("that is --max", number)
        assert began() <= MOST_WAITING + 4
        while chunk := os.read(read_end, 100_000):
            taken += len(chunk)

    result = call(
        *("run", "-j2", "--work", "touch {}; head -c 100000 /dev/zero", "--", *range(90)),
        stdout=write_end,
        operator=operate,
    )
    os.close(read_end)
    assert (result.status, taken) == (0, 90 * 100_000)


def test_a_stop_while_output_is_not_taken_starts_nothing_more(call: Call, here: Path) -> None:
    """The next operation waited for the reader; when the reader goes on it does not start."""
    read_end, write_end = os.pipe()
    least = MOST_WAITING + 1  # one is being printed; another one may have been ahead of it

    def operate(watch: Any) -> None:
        watch.wait_until(lambda: len(list(here.iterdir())) >= least)
        watch.signal(signal.SIGINT)
        watch.err.wait_for("starting nothing more")
        while os.read(read_end, 100_000):
            pass

    result = call(
        *("run", "-j1", "--work", "touch {}; head -c 100000 /dev/zero", "--", *range(90)),
        stdout=write_end,
        operator=operate,
    )
    os.close(read_end)
    begun = len(list(here.iterdir()))
    assert (result.status, begun - least in (0, 1)) == (130, True)
    assert f"{begun} completed, 0 failed in " in result.err


# ---- a real process, a real terminal ----


def test_the_command_is_a_program(spawn: Any, here: Path) -> None:
    """A process of its own has exit status, output and job log."""
    options = ("--joblog", "log", "--work", "echo {}; test {} = a")
    result = spawn("run", *options, "--", "a", "b", "c").finish()
    assert (result.status, sorted(result.lines)) == (2, ["a", "b", "c"])
    assert "2 'b': work: exit status 1" in result.err
    assert (here / "log").read_text().count("\n") == 4


def test_signals_reach_the_program_and_not_its_commands(spawn: Any, gate: Any) -> None:
    """A Ctrl-C to the process group does not reach the commands."""
    run = spawn(
        *("run", "-j2", "--hold", "0", "--work", f"{gate.wait}; echo {{}}", "--", *"abcd"),
        start_new_session=True,
    )
    gate.arrivals(2)
    run.watch.signal(signal.SIGUSR2)
    run.watch.err.wait_for("limit 2 -> 1")
    os.killpg(run.watch.pid, signal.SIGINT)
    run.watch.err.wait_for("starting nothing more")
    gate.let(2)
    result = run.finish()
    assert (result.status, sorted(result.lines)) == (130, ["a", "b"])


def test_without_the_extra_the_program_says_so(spawn: Any) -> None:
    """A fresh interpreter prints the message without a traceback."""
    hide = "import sys; sys.modules['cyclopts'] = None"
    code = f"{hide}; from trio_turnstile.cli import main; main()"
    result = spawn("run", "--work", "true", options=("-c", code)).finish()
    assert result.status == 2
    assert result.err == "turnstile: cyclopts is missing; pip install 'trio-turnstile[cli]'\n"


def test_a_program_without_standard_streams_runs_all_the_same(spawn: Any, here: Path) -> None:
    """Files that the program opens do not take the place of closed standard streams."""
    close = "import os; [os.close(fd) for fd in (0, 1, 2)]; "
    code = f"{close}from trio_turnstile.cli import main; import sys; main(sys.argv[1:])"
    options = ("--joblog", "log", "--work", "echo out; echo err >&2; touch {}")
    assert spawn("run", *options, "--", "a", options=("-c", code)).finish().status == 0
    assert (here / "a").exists()
    assert "out" not in (here / "log").read_text().splitlines()[1].partition("echo")[0]


@pytest.mark.parametrize("also_stderr", [False, True])
def test_a_reader_that_has_enough_ends_the_program_quietly(spawn: Any, also_stderr: bool) -> None:
    """``turnstile run ... | head`` exits with 141 and without a traceback."""
    read_end, write_end = os.pipe()
    run = spawn(
        *("run", "--work", "echo", "--", *range(1000)),
        stdout=write_end,
        **({"stderr": write_end} if also_stderr else {}),
    )
    os.close(write_end)
    os.read(read_end, 1)
    os.close(read_end)
    assert run.finish().status == 141


# ---- a terminal ----


def test_a_terminal_shows_how_far_the_run_has_come(call: Call, gate: Any) -> None:
    """The line at the bottom makes room for output, and nothing of it remains."""

    def operate(watch: Any) -> None:
        gate.arrivals(2)
        watch.err.wait_for("limit 2, running 2, done 0 of 4, failed 0, 0/s, ETA ?")
        gate.let(1)
        gate.arrivals(1)
        watch.err.wait_for("running 2, done 1 of 4, failed 0, ")
        watch.signal(signal.SIGUSR2)
        watch.err.wait_for("turnstile: limit 2 -> 1\r\n")
        watch.err.wait_for("limit 1, running 2, done 1 of 4")
        gate.let(3)

    command = f"{gate.wait}; printf 'out %s' {{}}; test {{}} != d"
    result = call(
        *("run", "-j2", "--hold", "0", "--work", command, "--", *"abcd"),
        operator=operate,
        terminal=True,
    )
    assert result.status == 1
    shown = screen(result.err)
    outputs = ["out a", "out b", "out c", "out d"]
    assert sorted(shown[:-2]) == [*outputs, "turnstile: limit 2 -> 1"]
    assert shown[-2] == "turnstile: 4 'd': work: exit status 1"
    assert shown[-1].startswith("turnstile: 3 completed, 1 failed in ")


def screen(written: str) -> list[str]:
    """Return the lines that a terminal finally shows; it knows only the codes that matter here."""
    lines = [""]
    for part in re.findall(r"\r\n|\r|\x1b\[[?0-9;]*[A-Za-z]|[^\r\x1b]+", written):
        if part == "\r\n":
            lines.append("")
        elif part == "\x1b[2K":
            lines[-1] = ""
        elif part == "\x1b[1A":
            lines.pop()
        elif part[0] not in "\r\x1b":
            lines[-1] += part
    return [line for line in lines if line]


def test_a_quiet_run_shows_no_line(call: Call) -> None:
    """With --quiet a terminal shows only output and errors."""
    assert call("run", "-q", "--work", "echo", "--", "a", terminal=True).err == "a\r\n"


def test_the_cursor_is_never_hidden(call: Call, gate: Any) -> None:
    """A process that is stopped, by Ctrl-Z, or killed could not bring it back."""

    def operate(watch: Any) -> None:
        gate.arrivals(1)
        watch.err.wait_for("running 1")
        gate.let(1)

    result = call("run", "--work", gate.wait, "--", "a", operator=operate, terminal=True)
    assert "\x1b[?25l" not in result.err


def test_inputs_may_be_typed(call: Call) -> None:
    """A hint says that the program waits for inputs from the terminal."""

    def operate(watch: Any) -> None:
        watch.err.wait_for("turnstile: reading inputs, one per line; Ctrl-D ends them")
        watch.type("one\n")
        watch.err.wait_for("input one")
        watch.type("\x04")

    result = call("run", "--work", "echo input", operator=operate, terminal=True)
    assert result.status == 0


def test_ctrl_c_drains_and_a_second_one_cancels(spawn: Any, gate: Any) -> None:
    """Ctrl-C at a terminal reaches the program and not its commands."""
    code = (
        "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
        "from trio_turnstile.cli import main; main(sys.argv[1:])"
    )
    run = spawn(
        *("run", "-j2", "--cleanup", "echo clean {}", "--work", gate.wait, "--", *"abc"),
        options=("-c", code),
        terminal=True,
    )
    gate.arrivals(2)
    run.watch.type("\x03")
    run.watch.err.wait_for("SIGINT: starting nothing more")
    run.watch.err.wait_for("draining, limit 2, running 2")
    run.watch.type("\x03")
    result = run.finish()
    assert result.status == 130
    shown = screen(result.err)
    assert sorted(shown[-3:-1]) == ["clean a", "clean b"]
    assert shown[-1].startswith("turnstile: 0 completed, 0 failed, 2 cancelled in ")
    assert shown[-1].endswith("; 1 not started")


# ---- standard error that nobody reads ----


def test_a_run_goes_on_though_nobody_reads_standard_error(spawn: Any, here: Path) -> None:
    """Notes wait in a queue; when somebody reads, all is there, and the run ends."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    stuffing = 0
    with suppress(BlockingIOError):
        while True:
            stuffing += os.write(write_end, b"x" * 4096)
    os.set_blocking(write_end, True)
    run = spawn("run", "-j1", "--work", "touch {}", "--", *"abc", stderr=write_end)
    os.close(write_end)
    run.watch.wait_until((here / "a").exists)
    for _ in range(5):
        run.watch.signal(signal.SIGUSR1)
    run.watch.wait_until((here / "c").exists)
    text = b""
    while chunk := os.read(read_end, 1 << 16):
        text += chunk
    os.close(read_end)
    assert run.finish().status == 0
    assert b"3 completed, 0 failed" in text[stuffing:]


def test_a_run_whose_standard_error_nobody_reads_can_be_ended(
    spawn: Any, gate: Any, here: Path
) -> None:
    """Stop signals are acted on, and another one ends the wait for the reader."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write_end, b"x" * 4096)
    os.set_blocking(write_end, True)
    run = spawn("run", "-j1", "--work", gate.wait, "--", *"abc", stderr=write_end)
    os.close(write_end)
    gate.arrivals(1)
    run.watch.signal(signal.SIGTERM)
    gate.let(1)
    ended = run.ends_by(signal.SIGTERM)
    os.close(read_end)
    assert ended == 143


# ---- what a drain gives up ----


def test_nothing_is_tried_again_after_the_first_stop_signal(call: Call, gate: Any) -> None:
    """An operation that fails while the run drains has failed, in spite of its retries."""

    def operate(watch: Any) -> None:
        gate.arrivals(2)
        watch.signal(signal.SIGINT)
        watch.err.wait_for("starting nothing more")
        gate.let(2)

    result = call(
        *("run", "-j2", "--retries", "99", "--work", f"{gate.wait}; exit 1", "--", *"abc"),
        operator=operate,
    )
    assert result.status == 2
    assert "0 completed, 2 failed in " in result.err
    assert result.err.endswith("; 1 not started\n")


def test_what_waits_for_another_attempt_is_given_up_by_a_stop_signal(
    call: Call, gate: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is cleaned up, and counts and is shown as failed."""
    monkeypatch.setattr("trio_turnstile.cli._command_run.Retry", waiting_long)

    def operate(watch: Any) -> None:
        gate.arrivals(2)
        gate.let(2)
        watch.wait_until(lambda: len([*here.glob("failed-*")]) == 2)
        watch.signal(signal.SIGINT)
        watch.err.wait_for("starting nothing more")

    work = f"{gate.wait}; touch failed-{{}}; exit 3"
    result = call(
        *("run", "-j2", "--retries", "99", "--cleanup", "touch clean-{}", "--work", work),
        *("--", *"ab"),
        operator=operate,
    )
    assert result.status == 2
    assert "1 'a': work: exit status 3" in result.err
    assert "0 completed, 2 failed in " in result.err
    assert sorted(path.name for path in here.glob("clean-*")) == ["clean-a", "clean-b"]


def waiting_long(times: int, **more: Any) -> Retry:
    return Retry(times, backoff=lambda _: 1000.0, **more)


def test_a_paused_run_can_be_drained(call: Call, gate: Any) -> None:
    """At limit 0 what has not begun is given up, and what runs may finish."""

    def operate(watch: Any) -> None:
        gate.arrivals(2)
        watch.signal(signal.SIGUSR2)
        watch.err.wait_for("limit 2 -> 0")
        gate.let(1)
        watch.signal(signal.SIGINT)
        watch.err.wait_for("starting nothing more")
        gate.let(1)

    result = call(
        *("run", "-j2", "--min", "0", "--hold", "0", "--work", gate.wait, "--", *"abcd"),
        operator=operate,
    )
    assert result.status == 130
    assert "2 completed, 0 failed in " in result.err
    assert result.err.endswith("; 2 not started\n")


def test_all_phases_of_what_runs_may_finish(call: Call, gate: Any) -> None:
    """A drain comes between no two commands of an attempt."""

    def operate(watch: Any) -> None:
        gate.arrivals(1)
        watch.signal(signal.SIGINT)
        watch.err.wait_for("starting nothing more")
        gate.let(1)

    result = call(
        *("run", "-j1", "--prepare", gate.wait, "--work", "echo work", "--monitor"),
        *("echo monitor", "--cleanup", "echo cleanup", "--", *"ab"),
        operator=operate,
    )
    assert (result.status, result.lines) == (130, ["work a", "monitor", "cleanup"])


def test_failures_still_halt_a_run_that_drains(call: Call, gate: Any) -> None:
    """With --halt now, a failure cancels what runs, though a signal has come before."""

    def operate(watch: Any) -> None:
        assert gate.arrivals(2) == ["a", "b"]
        watch.signal(signal.SIGINT)
        watch.err.wait_for("starting nothing more")
        gate.let(1)

    result = call(
        *("run", "-j2", "--halt", "now,fail=1", "--work", f"{gate.wait}; exit 1", "--", *"abc"),
        operator=operate,
    )
    assert result.status == 1
    assert "0 completed, 1 failed, 1 cancelled in " in result.err
