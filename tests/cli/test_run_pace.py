"""``turnstile run``: the options that say when operations may start."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trio_turnstile.cli import _room
from trio_turnstile.cli._rates import Load, Rate, Size, parse_limit

Call = Callable[..., Any]


# ---- rates ----


@pytest.mark.parametrize(
    ("text", "per_second"),
    [("5/s", 5), ("100/m", 100 / 60), ("900/h", 0.25), (" .5/s ", 0.5), ("86400/d", 1)],
)
def test_a_rate_is_a_number_in_a_time(text: str, per_second: float) -> None:
    """Rates are per second, minute, hour or day."""
    assert Rate.parse(text).per_second == per_second


@pytest.mark.parametrize("text", ["", "5", "0/s", "-1/s", "5/w", "5 / s", "1e3/s", "nan/s", "/s"])
def test_anything_else_is_no_rate(text: str) -> None:
    """The error shows the text, and what a rate looks like."""
    with pytest.raises(ValueError, match="as in 5/s, 100/m, 1000/h or 10000/d") as error_info:
        Rate.parse(text)
    assert repr(text) in str(error_info.value)


@pytest.mark.parametrize("options", [["--rate", "10/s"], ["--delay", "100ms"], ["--rate", "600/m"]])
def test_operations_start_at_a_rate(options: list[str], call: Call, log_entries: Any) -> None:
    """With --rate or --delay the starts are spread out, whatever the limit; retries count."""
    retry = ("--retries", "1", "--joblog", "log", "--work", "test $TURNSTILE_ATTEMPT = 2 # ")
    began = time.time()
    result = call("run", "-j8", *options, *retry, "--", *"abcde", stdin=b"")
    assert result.status == 0
    # Ten starts. A busy machine makes each of them later, and none earlier.
    assert max(float(entry[2]) for entry in log_entries()) - began > 0.88


def test_the_slower_of_rate_and_delay_counts(call: Call, log_entries: Any) -> None:
    """With both options, both apply."""
    options = ("--rate", "1000/s", "--delay", "100ms", "--joblog", "log")
    began = time.time()
    call("run", "-j8", *options, "--work", "true", "--", *"abcdefghij")
    assert max(float(entry[2]) for entry in log_entries()) - began > 0.88


def test_what_waits_for_the_rate_does_not_start_after_a_stop(call: Call, gate: Any) -> None:
    """A stop signal gives up the operations that wait for their time."""

    def operate(watch: Any) -> None:
        gate.arrivals(1)
        watch.signal(signal.SIGINT)
        watch.err.wait_for("starting nothing more")
        gate.let(1)

    options = ("-j2", "--rate", "1/h", "--work", gate.wait)
    result = call("run", *options, "--", *"abc", operator=operate)
    assert result.status == 130
    assert "1 completed, 0 failed" in result.err
    assert "2 not started" in result.err


# ---- costs ----

HEADER = ["--colsep", ",", "--header"]


@pytest.mark.parametrize(
    "cost",
    [
        ["--cost", "5"],
        [*HEADER, "--cost", "{n}"],
        [*HEADER, "--cost", "n"],
        [*HEADER, "--cost", "{2}", "--delay", "1ms"],
    ],
)
def test_operations_wait_for_what_they_cost(cost: list[str], call: Call, log_entries: Any) -> None:
    """The first two use up the rate; each of the others waits until its cost is available."""
    named = [] if "5" in cost else ["name,n"]
    options = ("-j8", "--rate", "10/s", "--joblog", "log", "--work", "true", *cost)
    result = call("run", *options, stdin="".join(f"{x}\n" for x in [*named, *ROWS]).encode())
    assert result.status == 0
    starts = sorted(float(entry[2]) for entry in log_entries())
    assert starts[1] - starts[0] < 0.4
    assert starts[3] - starts[0] > 0.9


ROWS = ("a,5", "b,5", "c,5", "d,5")


def test_an_operation_of_unknown_cost_fails(call: Call) -> None:
    """An operation that costs more than the rate ever gives fails too; the others run."""
    options = ("--rate", "10/s", "--colsep", ",", "--cost", "{2}", "--work", "echo {1}")
    result = call("run", *options, stdin=b"a,1\nb,x\nc,11\nd,2\n")
    assert result.status == 2
    assert sorted(result.out.split()) == ["a", "d"]
    assert "--cost {2} is not a number of 0 or more for this input" in result.err
    assert "--cost {2} is 11 for this input, but --rate never gives more than 10" in result.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cost", "3"], "--cost is how much of --rate an operation takes: give --rate too"),
        (["--rate", "5/s", "--cost", "6"], "--cost: 6 is more than the 5 that --rate ever gives"),
        (["--rate", "5/s", "--cost", "{tokens}"], "--cost: it must be a number, or a column"),
        (["--rate", "5/s", "--cost", "-1"], "--cost: it must be a number, or a column"),
    ],
)
def test_a_wrong_cost_is_refused(options: list[str], message: str, call: Call) -> None:
    """It is refused before anything runs."""
    result = call("run", *options, "--work", "true", "--", "a")
    assert result.status == 2
    assert message in " ".join(result.err.replace("│", " ").split())


# ---- load and memory ----


@pytest.mark.parametrize(("text", "average"), [("8", 8), ("2.5", 2.5), ("90%", 3.6), ("200%", 8)])
def test_a_load_is_a_number_or_a_share_of_the_cores(text: str, average: float) -> None:
    """A share is a percentage of the load that all cores can take."""
    assert Load.parse(text, cores=4).average == pytest.approx(average)


@pytest.mark.parametrize("text", ["", "0", "-1", "much", "%", "1e3", "nan"])
def test_anything_else_is_no_load(text: str) -> None:
    """The error shows the text, and what a load looks like."""
    with pytest.raises(ValueError, match="as in 8, or a share of the cores, as in 90%"):
        Load.parse(text, cores=4)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("64k", 1 << 16), ("500M", 500 << 20), ("1.5G", 3 << 29), ("2t", 2 << 40)],
)
def test_a_size_is_a_number_of_bytes(text: str, size: int) -> None:
    """Units are powers of 1024, in either case."""
    assert Size.parse(text).bytes == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1MB", "1 G", "nan"])
def test_anything_else_is_no_size(text: str) -> None:
    """The error shows the text, and what a size looks like."""
    with pytest.raises(ValueError, match=r"like 4096, 64k, 500M or 1\.5G"):
        Size.parse(text)


def test_nothing_starts_while_the_load_is_high(
    call: Call, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Operations wait, the user is told once, and they start when the load is low."""
    load = 9.0
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))

    def operate(watch: Any) -> None:
        nonlocal load
        watch.err.wait_for("the load average is above --load 8")
        assert not [*here.iterdir()]
        load = 8.0

    result = call("run", "--load", "8", "--work", "touch", "--", *"abc", operator=operate)
    assert (result.status, len([*here.iterdir()])) == (0, 3)
    assert result.err.count("--load") == 1


def test_nothing_starts_while_memory_is_short(
    call: Call, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Available memory counts; a stop signal ends the wait."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9999999 kB\nMemAvailable: 2047 kB\n")
    monkeypatch.setattr(_room, "_MEMINFO", meminfo)

    def operate(watch: Any) -> None:
        watch.err.wait_for("less memory is free than --memfree 2M")
        watch.signal(signal.SIGINT)

    result = call("run", "--memfree", "2M", "--work", "touch", "--", *"abc", operator=operate)
    assert (result.status, [*here.iterdir()]) == (130, [])
    assert call("run", "--memfree", "2047k", "--work", "true", "--", "a").status == 0


def test_this_machine_has_some_free_memory() -> None:
    """The figure is the system's own, whether or not there is /proc/meminfo."""
    assert _room.free_memory() > 1 << 20


# ---- when to stop ----


def test_a_run_can_stop_after_a_success(call: Call, here: Path) -> None:
    """now,success=1 cancels running operations, cleans them up, and starts nothing more."""
    work = "test {} = b || exec sleep 1000"
    options = ("-j2", "--halt", "now,success=1", "--cleanup", "touch cleaned-{}")
    result = call("run", *options, "--work", work, "--", *"abcdef")
    assert result.status == 0
    assert "halting now: 1 of 1 operations completed" in result.err
    assert "1 completed, 0 failed, " in result.err
    cleaned = {each.name for each in here.iterdir()}
    assert {"cleaned-a", "cleaned-b"} <= cleaned  # another may have begun meanwhile
    assert "cleaned-f" not in cleaned


@pytest.mark.parametrize(("success", "status"), [(1, 0), (5, 2)])
def test_failures_do_not_count_once_enough_have_completed(
    success: int, status: int, call: Call
) -> None:
    """The exit status says whether the goal was reached; failures are still listed."""
    work = "test {} != a && test {} != b"
    options = ("-j1", "--halt", f"soon,success={success}", "--work", work)
    result = call("run", *options, "--", *"abcd")
    assert result.status == status
    assert "1 'a': work: exit status 1" in result.err


def test_a_run_can_stop_after_a_number_of_operations(call: Call) -> None:
    """soon,done=3 lets running operations finish; failed operations count."""
    options = ("-j1", "--halt", "soon,done=3", "--work", "echo {}; test {} != b")
    result = call("run", *options, "--", *"abcdef")
    assert (result.status, result.lines) == (1, ["a", "b", "c"])
    assert "halting soon: 2 of 3 operations completed" in result.err


# ---- the limit ----


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("8", 8),
        ("50%", 2),
        ("1%", 1),
        ("150%", 6),
        ("+1", 5),
        ("-1", 3),
        ("-9", 1),
        ("0", 1000),
        ("+0", 4),
    ],
)
def test_a_limit_can_come_from_the_number_of_cores(text: str, limit: int) -> None:
    """A limit is a number, a share of the cores, or the number of cores plus or minus some."""
    assert parse_limit(text, cores=4) == limit


@pytest.mark.parametrize("text", ["", "many", "0%", "%", "1.5", "++1", "1e3", "9" * 30, "-5%"])
def test_anything_else_is_no_limit(text: str) -> None:
    """The error shows the text, and what a limit looks like."""
    with pytest.raises(ValueError, match=r"as in 8, .* as in 50%, \+1 or -1") as error_info:
        parse_limit(text, cores=4)
    assert repr(text) in str(error_info.value)


@pytest.mark.parametrize(
    ("options", "limit"), [(["-j", "-99"], 1), (["-j-99"], 1), (["--limit=3"], 3), (["-j0"], 8)]
)
def test_the_limit_bounds_how_many_run(
    options: list[str], limit: int, call: Call, gate: Any
) -> None:
    """This many operations run at a time, and no more."""

    def operate(watch: Any) -> None:
        gate.arrivals(limit)
        watch.signal(signal.SIGINT)
        watch.err.wait_for("starting nothing more")
        gate.let(limit)

    result = call("run", *options, "--work", gate.wait, "--", *range(8), operator=operate)
    assert f"{limit} completed" in result.err


def test_commands_can_have_less_priority(spawn: Any) -> None:
    """With --nice, commands run with a lower priority."""
    more = os.nice(0) + 3
    result = spawn("run", "--nice", "3", "--work", "nice; true {}", "--", "a").finish()
    assert result.out == f"{min(more, 19)}\n"


@pytest.mark.parametrize("nice", ["0", "-5", "20", "x"])
def test_priority_can_only_be_lowered(nice: str, call: Call) -> None:
    """A value that is out of range is a usage error that names the option."""
    result = call("run", f"--nice={nice}", "--work", "echo", "--", "a")
    assert (result.status, "--nice" in result.err) == (2, True)
