"""The output of commands is kept whole, printed whole, and never mixed."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path

import pytest
import trio

from trio_turnstile.cli._output import Stream, write_all
from trio_turnstile.cli._spool import KEPT_IN_MEMORY


@pytest.fixture
def stream(streams: list[Stream]) -> Stream:
    return streams[0]


def copied(stream: Stream, path: Path) -> bytes:
    with path.open("wb") as file:
        file.writelines(stream.pieces())
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
