"""The output of commands is kept whole, printed whole, and never mixed."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_turnstile.cli._output import MOST_WAITING, Printer, Stream, write_all
from trio_turnstile.cli._spool import KEPT_IN_MEMORY


@pytest.fixture
def stream(streams: list[Stream]) -> Stream:
    return streams[0]


def copied(stream: Stream, path: Path) -> bytes:
    with path.open("wb") as file:
        stream.copy_to(file.fileno())
    return path.read_bytes()


async def test_a_stream_takes_in_what_is_written_to_its_pipe(
    stream: Stream, tmp_path: Path
) -> None:
    """A stream keeps more than a pipe or its memory holds."""
    data = os.urandom(3 * KEPT_IN_MEMORY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.collect)
        await trio.to_thread.run_sync(write_all, stream.write_end, data)
        nursery.cancel_scope.cancel()
    stream.take_in()
    assert stream.size == len(data)
    assert copied(stream, tmp_path / "copy") == data


def test_taking_in_waits_for_nothing(stream: Stream) -> None:
    """Reading an empty pipe returns at once."""
    stream.take_in()
    assert stream.size == 0


def test_the_last_byte_tells_how_the_output_ends(stream: Stream, tmp_path: Path) -> None:
    """Looking at the end changes nothing."""
    assert stream.last_byte() == b""
    os.write(stream.write_end, b"one\ntwo")
    stream.take_in()
    assert stream.last_byte() == b"o"
    os.write(stream.write_end, b"three\n")
    stream.take_in()
    assert stream.last_byte() == b"\n"
    assert copied(stream, tmp_path / "copy") == b"one\ntwothree\n"


@pytest.mark.parametrize("size", [10, 2 * KEPT_IN_MEMORY])
async def test_a_cleared_stream_starts_anew(size: int, stream: Stream, tmp_path: Path) -> None:
    """Clearing drops what was kept in memory or in a file."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.collect)
        await trio.to_thread.run_sync(write_all, stream.write_end, b"x" * size)
        nursery.cancel_scope.cancel()
    stream.clear()
    os.write(stream.write_end, b"new\n")
    stream.take_in()
    assert stream.size == 4
    assert copied(stream, tmp_path / "copy") == b"new\n"


async def test_what_cannot_be_kept_is_told_later(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk does not stop the command; `check` raises the error afterwards."""
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.collect)
        await trio.to_thread.run_sync(write_all, stream.write_end, b"x" * 4 * KEPT_IN_MEMORY)
        nursery.cancel_scope.cancel()
    with pytest.raises(OSError, match="its output cannot be kept: No such file"):
        stream.check()
    stream.check()  # once is enough


def test_a_stream_that_kept_everything_has_nothing_to_tell(stream: Stream) -> None:
    """`check` raises nothing if all output was kept."""
    stream.check()


def test_all_is_written_even_if_the_reader_is_slow_and_the_pipe_non_blocking() -> None:
    """`write_all` waits for a pipe that another process has made non-blocking."""
    data = os.urandom(1 << 20)
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    writer = threading.Thread(target=write_all, args=(write_end, data))
    writer.start()
    read = b""
    while len(read) < len(data):
        read += os.read(read_end, 1 << 16)
    writer.join()
    os.close(read_end)
    os.close(write_end)
    assert read == data


# ---- the printer ----


@attrs.define(eq=False)
class Screen:
    """A screen that records the calls to it."""

    asked: list[str] = attrs.field(factory=list)

    def hide(self) -> None:
        self.asked.append("hide")

    def flush(self) -> None:
        pass

    def show(self, *, mid_line: bool) -> None:
        self.asked.append("show on a new line" if mid_line else "show")


def output(out: bytes, err: bytes = b"") -> list[Stream]:
    """Return the output of an operation that wrote these."""
    pair = [Stream(), Stream()]
    for stream, data in zip(pair, (out, err), strict=True):
        os.write(stream.write_end, data)
        stream.take_in()
        stream.close_pipe()
    return pair


async def test_outputs_are_printed_one_after_the_other(capfd: pytest.CaptureFixture[str]) -> None:
    """The outputs of operations come in order, and the screen is hidden meanwhile."""
    screen = Screen()
    printer = Printer(screen)
    for number in range(3):
        printer.put(output(b"out %d\n" % number, b"err %d\n" % number))
    printer.put(output(b""))
    printer.end()
    await printer.run(pytest.fail)
    assert capfd.readouterr() == ("out 0\nout 1\nout 2\n", "err 0\nerr 1\nerr 2\n")
    assert screen.asked == ["hide", "show"] * 3


@pytest.mark.parametrize(
    ("out", "err", "asked"),
    [
        (b"whole\n", b"", "show"),
        (b"open", b"", "show on a new line"),
        (b"open", b"whole\n", "show"),
        (b"", b"open", "show on a new line"),
    ],
)
async def test_a_screen_hears_if_a_line_was_left_open(
    out: bytes, err: bytes, asked: str, replaced: Any
) -> None:
    """The screen starts on a new line if the output ends in the middle of one."""
    screen = Screen()
    printer = Printer(screen)
    printer.put(output(out, err))
    printer.end()
    ours, theirs = os.openpty()
    with replaced((1, theirs), (2, theirs)):
        await printer.run(pytest.fail)
    os.close(ours)
    assert screen.asked == ["hide", asked]


async def test_a_line_left_open_elsewhere_is_not_the_screens_business(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """An unfinished line in a file does not matter to the screen."""
    screen = Screen()
    printer = Printer(screen)
    printer.put(output(b"open"))
    printer.end()
    await printer.run(pytest.fail)
    assert screen.asked == ["hide", "show"]


async def test_lost_output_is_reported_once(
    capfd: pytest.CaptureFixture[str], replaced: Any
) -> None:
    """If standard output is closed the rest is dropped; standard error is still printed."""
    lost: list[OSError] = []
    printer = Printer(Screen())
    for _ in range(2):
        printer.put(output(b"out\n", b"err\n"))
    printer.end()
    read_end, write_end = os.pipe()
    os.close(read_end)
    with replaced((1, write_end)):
        await printer.run(lost.append)
    assert [error.errno for error in lost] == [errno.EPIPE]
    assert capfd.readouterr().err == "err\nerr\n"


async def test_there_is_room_until_much_waits(capfd: pytest.CaptureFixture[str]) -> None:
    """`wait_for_room` blocks while many outputs wait to be printed."""
    printer = Printer(Screen())
    got_room = []

    async def begin() -> None:
        await printer.wait_for_room()
        got_room.append(True)

    for _ in range(MOST_WAITING):
        await printer.wait_for_room()
        printer.put(output(b"x\n"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(begin)
        await wait_all_tasks_blocked()
        assert not got_room
        printer.end()
        await printer.run(pytest.fail)
    assert got_room
    assert capfd.readouterr().out == "x\n" * MOST_WAITING
