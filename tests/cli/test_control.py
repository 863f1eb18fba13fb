"""A run that is steered from outside: real processes, over their control sockets."""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import socket
import stat
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

ME = pwd.getpwuid(os.getuid()).pw_name


def ctl(call: Any, *arguments: object) -> Any:
    """Ask the only process, and return its answer; it is asked again until it serves."""
    result = call("ctl", *arguments, "--json")
    assert result.status in (0, 1), result.err
    return json.loads(result.out)


def socket_of(run: Any, runtime: Path) -> Path:
    path = runtime / "turnstile" / f"{run.watch.pid}.sock"
    run.watch.wait_until(path.exists)
    return path


def test_a_limit_is_set_and_what_runs_follows(spawn: Any, call: Any, gate: Any) -> None:
    """The limit is set at once, even above the maximum; list and decisions say by whom and why."""
    run = spawn("run", "-j2", "--work", gate.wait, "--", *range(30))
    gate.arrivals(2)
    result = call("ctl", "set", "work", 20, "--note", "night")
    assert result.out == f"work: 2 to 20: set past every rule (by {ME}): night\n"
    gate.arrivals(18)
    (limiter,) = ctl(call, "list")
    assert (limiter["name"], limiter["limit"], limiter["running"]) == ("work", 20, 20)
    assert f"set past every rule (by {ME}): night" in call("ctl", "why", "work").out
    gate.let(30)
    assert run.finish().status == 0


def test_an_override_is_not_moved_by_signals_until_it_is_released(
    spawn: Any, call: Any, gate: Any
) -> None:
    """A refused signal has exit status 1; after the release the limit has its old value."""
    run = spawn("run", "-j4", "--hold", 0, "--work", gate.wait, "--", *range(9))
    gate.arrivals(4)
    ctl(call, "set", "work", 3)
    result = call("ctl", "down", "work")
    assert result.status == 1
    assert f"{ME} has set the limit" in result.out
    assert ctl(call, "release", "work")["limiter"]["limit"] == 4
    assert call("ctl", "down").status == 0
    assert ctl(call, "show", "work")["limit"] == 2
    gate.let(9)
    assert run.finish().status == 0


def test_an_override_ends_by_itself(spawn: Any, call: Any, gate: Any) -> None:
    """It ends after the time of --for."""
    run = spawn("run", "-j1", "--work", gate.wait, "--", *range(3))
    gate.arrivals(1)
    ctl(call, "set", "work", 2, "--for", "10ms")
    run.watch.wait_until(lambda: ctl(call, "show", "work")["limit"] == 1)
    assert ctl(call, "why", "work")[-1]["reason"] == "released"
    gate.let(3)
    assert run.finish().status == 0


def test_a_dry_run_changes_nothing(spawn: Any, call: Any, gate: Any) -> None:
    """It prints the decision that would be made."""
    run = spawn("run", "-j1", "--work", gate.wait, "--", 1)
    gate.arrivals(1)
    answer = ctl(call, "set", "work", 5, "--dry-run")
    assert (answer["decision"]["after"], answer["dry_run"]) == (5, True)
    assert ctl(call, "show", "work")["limit"] == 1
    gate.let(1)
    run.finish()


def test_a_pause_lets_nothing_begin(spawn: Any, call: Any, gate: Any) -> None:
    """Nothing starts until the limiter is resumed."""
    run = spawn("run", "-j1", "--work", gate.wait, "--", *range(2))
    gate.arrivals(1)
    ctl(call, "pause", "--note", "backup")
    gate.let(1)
    run.watch.wait_until(lambda: ctl(call, "runs")[0]["steps"][0]["completed"] == 1)
    assert ctl(call, "show", "work")["paused"]
    ctl(call, "resume")
    gate.arrivals(1)
    gate.let(1)
    assert run.finish().status == 0


def test_a_run_that_is_drained_finishes_what_runs(spawn: Any, call: Any, gate: Any) -> None:
    """Nothing else starts, and the exit status is that of SIGTERM."""
    run = spawn("run", "-j2", "--work", gate.wait, "--", *range(9))
    gate.arrivals(2)
    assert ctl(call, "drain")["state"] == "draining"
    assert ctl(call, "drain")["state"] == "draining"
    run.watch.err.wait_for("turnstile ctl: starting nothing more")
    gate.let(2)
    result = run.finish()
    assert result.status == 143
    assert "2 completed, 0 failed in " in result.err


def test_a_drain_can_have_a_limit_of_time(spawn: Any, call: Any, gate: Any) -> None:
    """After that time, running operations are cancelled."""
    run = spawn("run", "-j2", "--work", gate.wait, "--", *range(9))
    gate.arrivals(2)
    ctl(call, "drain", "--for", "10ms")
    result = run.finish()
    assert result.status == 143
    assert "0 completed, 0 failed, 2 cancelled in " in result.err


def test_a_run_is_cancelled_with_its_clean_ups(spawn: Any, call: Any, gate: Any) -> None:
    """They are cancelled as by a second stop signal."""
    run = spawn("run", "-j1", "--cleanup", "echo clean {}", "--work", gate.wait, "--", *"ab")
    gate.arrivals(1)
    assert ctl(call, "cancel")["state"] == "cancelling"
    result = run.finish()
    assert (result.status, result.lines) == (143, ["clean a"])


def test_the_account_of_a_run_has_its_total_and_its_errors(
    spawn: Any, call: Any, gate: Any
) -> None:
    """It shows how many inputs there are, and why operations failed."""
    run = spawn("run", "-j1", "--work", f"{gate.wait}; exit 3", "--", *range(5))
    gate.arrivals(1)
    gate.let(1)
    gate.arrivals(1)
    (account,) = ctl(call, "runs")
    assert (account["state"], account["total"]) == ("running", 5)
    assert account["steps"][0]["failed"] == 1
    assert "exit status 3" in account["errors"][-1]["text"]
    gate.let(4)
    assert run.finish().status == 5


def test_what_happens_can_be_watched(
    spawn: Any, call: Any, gate: Any, read_pipe: tuple[Any, int]
) -> None:
    """Events are printed until the process ends."""
    lines, write_end = read_pipe
    run = spawn("run", "-j1", "--work", gate.wait, "--", 1)
    gate.arrivals(1)
    watch = spawn("ctl", "watch", stdout=write_end)
    os.close(write_end)

    def is_told() -> bool:
        ctl(call, "up")
        return "work: 1: a signal up was refused" in lines.so_far

    run.watch.wait_until(is_told)
    gate.let(1)
    run.finish()
    assert watch.finish().status == 0
    assert lines.all().endswith("the process has ended\n")


def test_the_socket_is_for_the_user_alone_and_goes_with_the_run(
    spawn: Any, gate: Any, runtime: Path
) -> None:
    """It has mode 0600, in a folder of mode 0700."""
    run = spawn("run", "--work", gate.wait, "--", 1)
    path = socket_of(run, runtime)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    gate.let(1)
    run.finish()
    assert not path.exists()


@pytest.mark.slow
def test_a_run_without_control_has_no_socket(
    spawn: Any, call: Any, gate: Any, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --no-control, ctl finds no process."""
    monkeypatch.setattr("trio_turnstile.cli._processes._SOON", 1.0)
    run = spawn("run", "--no-control", "--work", gate.wait, "--", 1)
    gate.arrivals(1)
    assert call("ctl", "list").status == 3
    gate.let(1)
    assert run.finish().status == 0


@pytest.mark.slow
def test_without_the_extra_a_run_works_and_says_nothing(
    spawn: Any, call: Any, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has no socket."""
    monkeypatch.setattr("trio_turnstile.cli._processes._SOON", 1.0)
    hide = "import sys; sys.modules['starlette'] = None"
    code = f"{hide}; from trio_turnstile.cli import main; main(sys.argv[1:])"
    run = spawn("run", "--work", gate.wait, "--", 1, options=("-c", code))
    gate.arrivals(1)
    assert call("ctl", "list").status == 3
    gate.let(1)
    result = run.finish()
    assert result.status == 0
    assert result.err.count("\n") == 1


@pytest.mark.slow
def test_a_page_is_served_at_a_port(spawn: Any, gate: Any) -> None:
    """Its address is printed with a token, which a client needs to see and to steer the run."""
    run = spawn("run", "-j3", "--hold", 0, "--dashboard", 0, "--work", gate.wait, "--", *range(5))
    gate.arrivals(3)
    run.watch.err.wait_for("dashboard: http://127.0.0.1:")
    found = re.search(r"dashboard: (http://127\.0\.0\.1:\d+/)#token=(\S+)", run.watch.err.so_far)
    assert found
    url, token = found.groups()
    with urlopen(url) as page:
        assert b"page.js" in page.read()
    orders = Request(f"{url}api/v1/limiters/work/down", b"{}", method="POST")
    with pytest.raises(HTTPError, match="401") as refused:
        urlopen(orders)
    refused.value.close()
    orders.add_header("authorization", f"Bearer {token}")
    with urlopen(orders) as answer:
        assert json.load(answer)["limiter"]["limit"] < 3
    gate.let(5)
    assert run.finish().status == 0


@pytest.mark.slow
def test_a_port_that_is_taken_is_told_of(spawn: Any, call: Any, gate: Any) -> None:
    """The run goes on, and turnstile ctl can reach it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = spawn("run", "--dashboard", port, "--work", gate.wait, "--", 1)
        gate.arrivals(1)
        run.watch.err.wait_for(f"there is no page at port {port}: ")
        assert ctl(call, "list")
    gate.let(1)
    assert run.finish().status == 0


def test_a_page_needs_control(call: Any) -> None:
    """--dashboard and --no-control contradict each other."""
    result = call("run", "--dashboard", 0, "--no-control", "--work", "true", "--", 1)
    assert result.status == 2
    assert "--dashboard and --no-control do not go together" in result.err


def test_a_folder_that_cannot_be_used_is_told_of(spawn: Any, gate: Any, runtime: Path) -> None:
    """The run goes on without a socket."""
    (runtime / "turnstile").write_text("no folder")
    run = spawn("run", "--work", gate.wait, "--", 1)
    gate.arrivals(1)
    run.watch.err.wait_for("turnstile ctl cannot reach this run")
    gate.let(1)
    assert run.finish().status == 0


@pytest.mark.slow
def test_what_a_killed_run_has_left_is_no_harm(
    spawn: Any, call: Any, gate: Any, runtime: Path
) -> None:
    """Its socket is still there, but turnstile ctl finds the other process."""
    killed = spawn("run", "--work", gate.wait, "--", 1)
    path = socket_of(killed, runtime)
    killed.watch.signal(signal.SIGKILL)
    killed.finish()
    assert path.exists()
    run = spawn("run", "--work", gate.wait, "--", 1)
    gate.arrivals(2)
    assert ctl(call, "list")[0]["name"] == "work"
    gate.let(2)
    run.finish()


@pytest.mark.slow
def test_an_override_holds_across_a_kill_and_another_start(
    spawn: Any, call: Any, gate: Any, here: Path
) -> None:
    """With a ledger, it holds, and the decisions still say who set it, and why."""
    command = ("run", "-j2", "--ledger", "db", "--work", gate.wait, "--", *range(60))
    killed = spawn(*command)
    gate.arrivals(2)
    ctl(call, "set", "work", 20, "--note", "night")
    gate.arrivals(18)
    killed.watch.signal(signal.SIGKILL)
    killed.finish()
    gate.let(20)
    run = spawn(*command)
    gate.arrivals(20)
    assert ctl(call, "show", "work")["limit"] == 20
    assert f"(by {ME}): night" in call("ctl", "why", "work").out
    gate.let(60)
    assert run.finish().status == 0
