"""What runs short: file descriptors, processes, threads and room for output."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_turnstile.cli import _launcher
from trio_turnstile.cli._launcher import Launcher, open_shell
from trio_turnstile.cli._output import Stream
from trio_turnstile.cli._process import run_shell
from trio_turnstile.cli._spool import KEPT_IN_MEMORY, Spool
from trio_turnstile.cli._term_seq import TermSeq
from trio_turnstile.cli._time_limit import FixedTime

Call = Callable[..., Any]


def few_files(number: int) -> Callable[[], None]:
    return partial(resource.setrlimit, resource.RLIMIT_NOFILE, (number, number))


def test_with_few_files_fewer_run_and_none_fails(spawn: Any) -> None:
    """Operations wait for files; a note says so, and clean-ups run as well."""
    options = ("--limit", "30", "--cleanup", "echo clean {}", "--work", "sleep 0.02; echo {}")
    result = spawn("run", *options, "--", *range(60), preexec_fn=few_files(60)).finish()
    assert (result.status, len(result.lines)) == (0, 120)
    assert "turnstile: delaying commands because the system is short: Too many open" in result.err


def test_retries_with_few_files_do_not_wait_for_each_other(spawn: Any) -> None:
    """An operation that waits for another attempt keeps no files, so that others can finish."""
    options = ("-q", "--limit", "30", "--retries", "1")
    work = "test $TURNSTILE_ATTEMPT = 2 && echo {}"
    result = spawn("run", *options, "--work", work, "--", *range(60), preexec_fn=few_files(60))
    result = result.finish()
    assert (result.status, len(result.lines)) == (0, 60)


def test_much_output_with_few_files_stays_in_memory(spawn: Any) -> None:
    """If no temporary file can be opened, nothing is lost."""
    size = 3 * KEPT_IN_MEMORY
    work = f"head -c {size} /dev/zero | tr '\\0' x; : {{}}"
    result = spawn(
        "run", "-q", "--limit", "20", "--work", work, "--", *range(20), preexec_fn=few_files(50)
    ).finish()
    assert (result.status, len(result.out)) == (0, 20 * size)


class Scarce:
    """Starts commands where processes are scarce: the first starts fail."""

    def __init__(self, failures: int, error: Exception) -> None:
        self._failures = failures
        self._error = error
        self.asked: list[str] = []

    def __call__(self, command: str, *rest: Any) -> subprocess.Popen[bytes]:
        self.asked.append(command)
        if len(self.asked) <= self._failures:
            raise self._error
        return open_shell(command, *rest)


async def run(command: str, launcher: Launcher, streams: list[Stream], cleanup: bool) -> int:
    exit_ = await run_shell(
        command,
        launcher=launcher,
        streams=streams,
        env={},
        time_limit=FixedTime(None),
        term_seq=TermSeq(((signal.SIGTERM, 60.0),)),
        cleanup=cleanup,
    )
    return exit_.returncode


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM])
async def test_a_command_that_cannot_start_now_starts_later(
    number: int, launcher: Launcher, streams: list[Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run waits out a lack of processes or memory, even if it has nothing running."""
    scarce = Scarce(3, OSError(number, "scarce"))
    monkeypatch.setattr(_launcher, "_PAUSES", (0.001,) * 3)
    monkeypatch.setattr(_launcher, "open_shell", scarce)
    assert await run("exit 3", launcher, streams, False) == 3
    assert scarce.asked == ["exit 3"] * 4


async def test_a_lack_that_stays_is_an_error(
    launcher: Launcher, streams: list[Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If nothing runs that could give something back, the wait ends."""
    monkeypatch.setattr(_launcher, "_PAUSES", (0.001,) * 3)
    monkeypatch.setattr(_launcher, "open_shell", Scarce(9, OSError(errno.EAGAIN, "scarce")))
    with pytest.raises(OSError, match="scarce"):
        await run("exit 3", launcher, streams, False)


async def test_a_lack_of_threads_is_no_obstacle(
    launcher: Launcher, streams: list[Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command is started without a thread if no thread is available."""

    async def none_left(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(trio.to_thread, "run_sync", none_left)
    assert await run("exit 3", launcher, streams, False) == 3


async def test_clean_ups_come_before_others(
    launcher: Launcher, streams: list[Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a clean-up waits for resources, nothing else is started."""
    scarce = Scarce(2, OSError(errno.EAGAIN, "scarce"))
    monkeypatch.setattr(_launcher, "_PAUSES", (0.01,) * 3)
    monkeypatch.setattr(_launcher, "open_shell", scarce)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, "exit 1", launcher, streams, True)
        while not launcher._waiting_cleanups:  # its first attempt ends in a thread
            await trio.lowlevel.checkpoint()
        nursery.start_soon(run, "exit 2", launcher, streams, False)
    assert scarce.asked[-1] == "exit 2"
    assert scarce.asked.count("exit 1") >= 2


@pytest.mark.parametrize("room", [0, KEPT_IN_MEMORY + 1000])
def test_a_spool_keeps_all_or_tells(room: int, soft_limit: Any) -> None:
    """A full disk shows at once, and earlier data stays unchanged."""
    spool = Spool()
    with soft_limit(resource.RLIMIT_FSIZE, room):
        spool.write(b"a" * KEPT_IN_MEMORY)
        with pytest.raises(OSError, match="its output cannot be kept: File too large in '/"):
            spool.write(b"b" * 2000)
    assert b"".join(spool.read()) == b"a" * KEPT_IN_MEMORY
    spool.close()


@pytest.mark.parametrize("stream", ["", " >&2"])
def test_a_disk_that_is_full_for_the_last_bytes_fails_one_operation(
    stream: str, call: Call, soft_limit: Any, here: Path
) -> None:
    """The operation fails with the reason, and the run goes on."""
    size = KEPT_IN_MEMORY + 100
    work = f"test {{}} = b || exec head -c {size} /dev/zero{stream}"
    with soft_limit(resource.RLIMIT_FSIZE, KEPT_IN_MEMORY + 50):
        result = call("run", "-j1", "--work", work, "--", *"abc", stdout=os.open(os.devnull, 1))
    assert result.status == 2
    assert "1 completed, 2 failed in 0:0" in result.err
    assert "'a': work: [Errno 27] its output cannot be kept: File too large in '" in result.err


def test_a_command_that_ended_in_time_while_we_were_stopped_is_not_late(
    spawn: Any, here: Path
) -> None:
    """After a Ctrl-Z, we check whether a command has ended before we call it late."""
    work = "touch begun; read _ < go; touch done; : {}"
    os.mkfifo(here / "go")
    run = spawn("run", "--timeout", "0.5", "--work", work, "--", "a")
    run.watch.wait_until((here / "begun").exists)
    run.watch.signal(signal.SIGSTOP)
    (here / "go").write_text("\n")
    run.watch.wait_until((here / "done").exists)
    subprocess.run(["sleep", "0.7"], check=True)
    run.watch.signal(signal.SIGCONT)
    assert run.finish().status == 0
