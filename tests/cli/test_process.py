"""One shell command: its exit status, its output, and the end of all its processes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_turnstile.cli._launcher import Launcher
from trio_turnstile.cli._output import Stream
from trio_turnstile.cli._process import Exit, run_shell
from trio_turnstile.cli._spool import KEPT_IN_MEMORY
from trio_turnstile.cli._term_seq import TermSeq
from trio_turnstile.cli._time_limit import FixedTime


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


async def run(
    command: str, streams: Sequence[Stream], seconds: float | None = None, kill_after: float = 60
) -> Exit:
    return await run_shell(
        command,
        launcher=Launcher(lambda _: None),
        streams=streams,
        env=dict(os.environ),
        time_limit=FixedTime(seconds),
        term_seq=TermSeq(((signal.SIGTERM, kill_after),)),
    )


def collected(streams: Sequence[Stream]) -> list[bytes]:
    return [b"".join(stream._spool.read()) for stream in streams]


@pytest.mark.parametrize(
    ("command", "exit_", "shown"),
    [
        ("true", Exit(0), "exit status 0"),
        ("exit 7", Exit(7), "exit status 7"),
        ("kill -KILL $$", Exit(-9), "ended by SIGKILL"),
        ("kill -40 $$", Exit(-40), "ended by signal 40"),
        ("no-such-command", Exit(127), "exit status 127"),
    ],
)
async def test_how_a_command_ends(
    command: str, exit_: Exit, shown: str, streams: list[Stream]
) -> None:
    """A command ends with an exit status or by a signal; only status 0 is a success."""
    result = await run(command, streams)
    assert (result, str(result), result.ok) == (exit_, shown, command == "true")


async def test_output_is_collected_apart(streams: list[Stream]) -> None:
    """Standard output and standard error are apart; opening /dev/stderr truncates nothing."""
    await run("echo one >&2; echo two; echo three >/dev/stderr; echo four >&2", streams)
    assert collected(streams) == [b"two\n", b"one\nthree\nfour\n"]


async def test_much_output_is_collected_whole(streams: list[Stream]) -> None:
    """More output than a pipe or the memory holds is complete."""
    size = 4 * KEPT_IN_MEMORY
    await run(f"head -c {size} /dev/zero; head -c {size} /dev/zero >&2", streams)
    assert [len(data) for data in collected(streams)] == [size, size]


async def test_commands_get_no_input_and_their_own_session(
    streams: list[Stream], fifo: Path
) -> None:
    """A command cannot read our inputs, and a Ctrl-C does not reach it."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, f"cat; echo $$ >{fifo}; read _ <{fifo}", streams)
        process = int(await trio.to_thread.run_sync(fifo.read_text))
        assert os.getsid(process) == process
        await trio.to_thread.run_sync(fifo.write_text, "\n")


async def test_what_is_left_in_the_background_goes_on(streams: list[Stream], fifo: Path) -> None:
    """Processes in the background survive the command and do not block us."""
    command = f"{{ read _; echo late; }} <{fifo} & echo early"
    assert (await run(command, streams)).ok
    assert collected(streams)[0] == b"early\n"
    await trio.to_thread.run_sync(fifo.write_text, "\n")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(streams[0].collect)
        while streams[0].size < len(b"early\nlate\n"):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert collected(streams)[0] == b"early\nlate\n"


async def test_a_command_that_takes_too_long_is_ended(streams: list[Stream]) -> None:
    """The output until the end is kept, and the exit is marked as timed out."""
    command = "trap 'echo told; exit 3' TERM; echo begun; while :; do sleep 0.01; done"
    result = await run(command, streams, seconds=0.2)
    assert result == Exit(3, timed_out=True)
    assert (result.ok, result.status, result.signal) == (False, -1, 0)
    assert str(result) == "timed out, exit status 3"
    assert str(Exit(-9, timed_out=True)) == "timed out, ended by SIGKILL"
    assert collected(streams)[0] == b"begun\ntold\n"


@pytest.mark.parametrize(
    ("command", "exit_"),
    [
        ("sleep 1000 & wait", Exit(-signal.SIGTERM, timed_out=True)),
        ("trap '' TERM; while :; do sleep 0.01; done", Exit(-signal.SIGKILL, timed_out=True)),
        ("(trap '' TERM; while :; do sleep 0.01; done) & wait", Exit(-15, timed_out=True)),
    ],
)
async def test_the_whole_process_group_is_ended(
    command: str, exit_: Exit, streams: list[Stream], fifo: Path
) -> None:
    """SIGTERM goes to the command and its children, then SIGKILL if they ignore it."""
    ended = trio.Event()

    async def wait_for_all() -> None:
        await trio.to_thread.run_sync(fifo.read_bytes)  # until nobody has it open
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_all)
        result = await run(f"exec 3>{fifo}; {command}", streams, seconds=0.2, kill_after=0.2)
        assert result == exit_
        await ended.wait()


async def test_a_cancelled_command_is_ended_as_well(streams: list[Stream]) -> None:
    """Cancellation waits for the end of the command and keeps all of its output."""
    say = "head -c 300000 /dev/zero"
    command = f"trap '{say}; exit' TERM; echo begun; while :; do sleep 0.01; done"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, command, streams)
        while not streams[0].size:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    streams[0].take_in()
    assert streams[0].size == len("begun\n") + 300_000


async def test_a_command_that_cannot_start_is_an_error(streams: list[Stream]) -> None:
    """An overlong argument raises `OSError`."""
    with pytest.raises(OSError, match="Argument list too long"):
        await run("x" * 10_000_000, streams)


def test_orphans_are_reaped_where_they_come_to_us(spawn: Any) -> None:
    """As the first process of a container, the command reaps orphans of its commands."""
    if sys.platform != "linux":
        pytest.skip("there is no way to adopt orphans but to be the first process")
    code = (
        "import ctypes, sys; from trio_turnstile.cli import main; "
        "assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0; main(sys.argv[1:])"
    )
    options = ("--timeout", "0.1", "--kill-after", "1h", "--work", ": {}; sleep 1000 & wait")
    result = spawn("run", *options, "--", "a", options=("-c", code)).finish()
    assert "'a': work: timed out, ended by SIGTERM" in result.err
