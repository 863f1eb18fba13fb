"""Inputs from arguments and files: they are read lazily."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_turnstile.cli._inputs import LONGEST, FileInputs, GivenInputs, Inputs


async def everything(inputs: Inputs[str]) -> list[str]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inputs.read)
        return [text async for text in inputs]
    raise AssertionError


def file_of(data: bytes, path: Path) -> Path:
    path.write_bytes(data)
    return path


async def test_arguments_are_given_in_turn() -> None:
    """The inputs come in order, and their number is known from the start."""
    inputs = GivenInputs(["a", "", "a\nb"])
    assert (inputs.taken, inputs.total) == (0, 3)
    assert await everything(inputs) == ["a", "", "a\nb"]
    assert (inputs.taken, inputs.total) == (3, 3)


@pytest.mark.parametrize(
    ("data", "null", "texts"),
    [
        (b"", False, []),
        (b"a\nb\n", False, ["a", "b"]),
        (b"a\nb", False, ["a", "b"]),
        (b"\n\n a \n", False, ["", "", " a "]),
        (b"a\nb\0'\0", True, ["a\nb", "'"]),
        (b"a\0b", True, ["a", "b"]),
        (b"\xff\xfe\xc3\xa9\r\n", False, ["\udcff\udcfe\xe9\r"]),
        (b"x" * 200_000 + b"\ny", False, ["x" * 200_000, "y"]),
    ],
)
async def test_a_file_holds_an_input_a_line(
    data: bytes, null: bool, texts: list[str], tmp_path: Path
) -> None:
    """Each line is an input, or each text before a NUL; bytes that are not text are kept."""
    inputs = FileInputs(file_of(data, tmp_path / "file"), end=b"\0" if null else b"\n")
    assert await everything(inputs) == texts
    assert (inputs.taken, inputs.total) == (len(texts), len(texts))


async def test_an_input_is_given_as_soon_as_it_has_come(tmp_path: Path) -> None:
    """A pipe that stays open blocks neither the inputs that have come nor other tasks."""
    os.mkfifo(tmp_path / "fifo")
    inputs = FileInputs(tmp_path / "fifo")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inputs.read)
        writer = await trio.to_thread.run_sync(os.open, tmp_path / "fifo", os.O_WRONLY)
        os.write(writer, b"one\ntw")
        assert await anext(inputs) == "one"
        assert inputs.total is None
        os.write(writer, b"o\n")
        assert await anext(inputs) == "two"
        os.close(writer)
        with pytest.raises(StopAsyncIteration):
            await anext(inputs)
    assert inputs.total == 2


async def test_reading_can_be_cancelled_while_nothing_comes(tmp_path: Path) -> None:
    """Cancellation abandons the thread that waits for the pipe."""
    os.mkfifo(tmp_path / "fifo")
    writer = os.open(tmp_path / "fifo", os.O_RDWR)
    inputs = FileInputs(tmp_path / "fifo")
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inputs.read)
            os.write(writer, b"one\n")
            assert await anext(inputs) == "one"
            scope.cancel()
            await anext(inputs)
    assert scope.cancelled_caught
    os.write(writer, b"\n")  # so that the thread can end
    os.close(writer)


async def test_only_a_little_is_read_ahead(tmp_path: Path) -> None:
    """A writer to a pipe blocks while nobody takes the inputs."""
    os.mkfifo(tmp_path / "fifo")
    writer = os.open(tmp_path / "fifo", os.O_RDWR | os.O_NONBLOCK)
    inputs = FileInputs(tmp_path / "fifo")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inputs.read)
        written, threads = 0, trio.to_thread.current_default_thread_limiter()
        while True:
            try:
                written += os.write(writer, b"line\n" * 10)
            except BlockingIOError:
                await wait_all_tasks_blocked()
                if not threads.borrowed_tokens:
                    break  # the pipe is full, and nobody reads it
            assert written < 400_000
        for _ in range(written // 5):
            assert await anext(inputs) == "line"
        nursery.cancel_scope.cancel()
    os.write(writer, b"\n")
    os.close(writer)


async def test_empty_lines_are_read_ahead_no_further_than_others(tmp_path: Path) -> None:
    """They hold no bytes, but many of them take memory."""
    inputs = FileInputs(file_of(b"\n" * 1_000_000, tmp_path / "file"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inputs.read)
        assert await anext(inputs) == ""
        for _ in range(1000):
            await trio.lowlevel.checkpoint()
        while trio.to_thread.current_default_thread_limiter().borrowed_tokens:
            await trio.lowlevel.checkpoint()
        assert len(inputs._records) < 200_000
        nursery.cancel_scope.cancel()


async def test_a_pipe_that_somebody_made_non_blocking_is_waited_for(tmp_path: Path) -> None:
    """An empty pipe is neither the end nor an error."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    inputs = FileInputs(None)
    with replaced_stdin(read_end):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inputs.read)
            await trio.sleep(0.05)
            os.write(write_end, b"one\n")
            assert await anext(inputs) == "one"
            os.close(write_end)
            with pytest.raises(StopAsyncIteration):
                await anext(inputs)


@contextmanager
def replaced_stdin(fd: int) -> Iterator[None]:
    saved = os.dup(0)
    os.dup2(fd, 0)
    os.close(fd)
    try:
        yield
    finally:
        os.dup2(saved, 0)
        os.close(saved)


async def test_a_short_pipe_is_known_to_be_short_before_it_is_worked_through(
    tmp_path: Path,
) -> None:
    """The number of inputs is known once the pipe ends, so that the time left can be shown."""
    read_end, write_end = os.pipe()
    os.write(write_end, b"a\nb\nc\n")
    os.close(write_end)
    inputs = FileInputs(Path(f"/dev/fd/{read_end}"))
    await inputs.read()
    os.close(read_end)
    assert (inputs.taken, inputs.total) == (0, 3)


@pytest.mark.parametrize("end", ["", "\n"])
async def test_the_inputs_of_a_regular_file_are_counted_ahead(end: str, tmp_path: Path) -> None:
    """A long file is counted while its first inputs run, with or without a last newline."""
    lines = [f"{number:09}" for number in range(30_000)]
    path = file_of(("\n".join(lines) + end).encode(), tmp_path / "file")
    inputs = FileInputs(path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inputs.read)
        assert await anext(inputs) == lines[0]
        while inputs.total is None:
            await trio.lowlevel.checkpoint()
        assert (inputs.taken, inputs.total) == (1, 30_000)
        assert [text async for text in inputs] == lines[1:]


@pytest.mark.parametrize("data", [b"good\nb\0d\nnever\n", b"good\n" + b"x" * (LONGEST + 1)])
async def test_what_no_argument_can_be_ends_the_inputs(data: bytes, tmp_path: Path) -> None:
    """A NUL or an overlong input is an error; the inputs before it are given."""
    inputs = FileInputs(file_of(data, tmp_path / "file"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inputs.read)
        assert await anext(inputs) == "good"
        with pytest.raises(ValueError, match=r"input 2 has a NUL .*--null"):
            await anext(inputs)


async def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """Taking an input raises the error of the file, and `error` keeps it."""
    inputs = FileInputs(tmp_path)
    with pytest.RaisesGroup(IsADirectoryError):
        await everything(inputs)
    assert isinstance(inputs.error, IsADirectoryError)


async def test_an_error_that_nobody_came_to_is_not_reported(tmp_path: Path) -> None:
    """A run that stops before the bad input has read everything that it needed."""
    inputs = FileInputs(file_of(b"good\nb\0d\n", tmp_path / "file"))
    await inputs.read()
    assert await anext(inputs) == "good"
    assert inputs.error is None
