"""What a JSON Lines file holds when something goes wrong."""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_turnstile import (
    Aborted,
    Batch,
    Consumer,
    JsonLinesBatchWriter,
    JsonLinesReader,
    JsonLinesWriter,
    PipelineReport,
    Producer,
    Retry,
    Skip,
)
from trio_turnstile._engine.files import Chunks
from trio_turnstile.testing import assert_conserved


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


async def write(path: Path, *items: Any, **options: Any) -> PipelineReport:
    report = await (Producer(items) | Consumer(JsonLinesWriter(path), **options)).run()
    assert_conserved(report)
    return report


# ---- lines are written whole or not at all ----


@contextmanager
def small_disk(size: int) -> Iterator[Callable[[], None]]:
    """Bound how large a file may grow, as a full disk would; gives a function that makes room.

    This is not a fixture, because then the limit would hold for pytest's own files, too.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def make_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield make_room
    finally:
        make_room()
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("room", [17, 18, 25])
async def test_a_line_that_does_not_fit_leaves_nothing_behind(tmp_path: Path, room: int) -> None:
    """The item fails, whether part of the line would fit or none of it."""
    path = tmp_path / "out.jsonl"
    with small_disk(room):
        report = await write(path, "0123456789", "ab", "0123456789", limiter=1, on_error=[Skip()])
    completed = report.steps[0].completed
    assert lines(path) == ['"0123456789"', '"ab"'][:completed]
    assert report.steps[0].failed == 3 - completed > 0


async def test_a_line_that_failed_is_written_once_by_a_retry(tmp_path: Path) -> None:
    """Nothing of the first attempt is written later."""
    path = tmp_path / "out.jsonl"
    with small_disk(5) as make_room:

        def backoff(failures: int) -> float:
            make_room()
            return 0.0

        policies = [Retry(1, on=OSError, backoff=backoff)]
        report = await write(path, "0123456789", on_error=policies)
    assert report.steps[0].completed == 1
    assert lines(path) == ['"0123456789"']


async def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    """The rest that a killed program left at the end of the file stays a line of its own."""
    path = tmp_path / "out.jsonl"
    path.write_text('{"a": 1}\n{"torn')
    await write(path, 2)
    assert lines(path) == ['{"a": 1}', '{"torn', "2"]


async def test_a_torn_line_that_others_have_added_to_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cutting it off would cut off the additions too, so the next line begins on a new line."""
    path = tmp_path / "out.jsonl"
    size_of = os.fstat

    def added_to(fd: int) -> os.stat_result:
        real = size_of(fd)
        if not real.st_size:
            return real
        monkeypatch.undo()
        return os.stat_result((*real[:6], real.st_size + 1, *real[7:]))

    async with JsonLinesWriter(path) as writer:
        with small_disk(5):
            monkeypatch.setattr(os, "fstat", added_to)
            with pytest.raises(OSError, match="large"):
                await writer("0123456789")
        await writer(1)
    assert lines(path) == ['"0123', "1"]


# ---- encoders ----


@pytest.mark.parametrize(
    "encode",
    [lambda item: None, partial(json.dumps, indent=1), lambda item: item],
    ids=["nothing", "lines", "object"],
)
@pytest.mark.parametrize("batched", [False, True])
async def test_what_is_no_line_is_refused(
    tmp_path: Path, encode: Callable[[Any], Any], batched: bool
) -> None:
    """An encoder fails its item if it returns nothing, several lines or another type."""
    path = tmp_path / "out.jsonl"
    step: Consumer[Any]
    if batched:
        writer = JsonLinesBatchWriter(path, encode=encode)
        step = Consumer(writer, batch=Batch(2), on_error=[Skip()])
    else:
        step = Consumer(JsonLinesWriter(path, encode=encode), on_error=[Skip()])
    report = await (Producer([{"a": 1}]) | step).run()
    assert report.steps[0].failed == 1
    assert path.read_text() == ""


async def test_an_encoder_may_return_bytes(tmp_path: Path) -> None:
    """An encoder may return bytes, as `orjson.dumps` does."""
    path = tmp_path / "out.jsonl"
    writer = JsonLinesWriter(path, encode=lambda item: json.dumps(item).encode())
    await (Producer([{"a": 1}]) | Consumer(writer)).run()
    assert lines(path) == ['{"a": 1}']


# ---- one writer, several runs ----


async def test_runs_side_by_side_share_the_file(tmp_path: Path) -> None:
    """The first run to end does not close it for the other."""

    async def numbers() -> AsyncIterator[int]:
        for number in range(3):
            await wanted.wait()
            yield number

    wanted = trio.Event()
    path = tmp_path / "out.jsonl"
    writer = Consumer(JsonLinesWriter(path), limiter=1)
    async with trio.open_nursery() as nursery:
        late = await nursery.start((Producer(numbers) | writer).run)
        await (Producer(range(3)) | writer).run()
        wanted.set()
    assert late.steps[0].completed == 3
    assert sorted(lines(path)) == ["0", "0", "1", "1", "2", "2"]


async def test_a_writer_that_nobody_opened_opens_the_file_each_time(tmp_path: Path) -> None:
    """Without a block, each line opens the file anew, and nothing stays open."""
    path = tmp_path / "out.jsonl"
    writer = JsonLinesWriter(path)
    for number in range(3):
        await writer(number)
        assert lines(path)[number] == str(number)


async def test_a_file_may_be_written_and_not_read(tmp_path: Path) -> None:
    """In that case nobody can see whether the last line is whole, so lines are just added."""
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        await write(tmp_path / "pipe", 1, 2)
        assert os.read(reading, 100) == b"1\n2\n"
    finally:
        os.close(reading)


# ---- reading ----


async def read(path: Path) -> tuple[list[Any], str]:
    """Return the items that came through, and the error that ended the reading."""
    came: list[Any] = []

    async def store(item: Any) -> None:
        came.append(item)

    try:
        await (Producer(JsonLinesReader(path)) | Consumer(store)).run()
    except Aborted as aborted:
        return came, str(aborted.exceptions[0].__cause__)
    return came, ""


async def test_a_bad_byte_names_its_line_and_loses_no_other(tmp_path: Path) -> None:
    """The good lines before the bad byte come through."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"1\n" * 100 + b'"caf\xe9"\n')
    came, why = await read(path)
    assert came == [1] * 100
    assert "line 101" in why


async def test_line_ends_of_all_kinds_are_understood(tmp_path: Path) -> None:
    """Windows line ends, empty lines, and a last line without an end are understood."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"1\r\n\n \n2\n3")
    assert await read(path) == ([1, 2, 3], "")


async def test_a_line_may_be_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    """The reader joins the parts of a line that is longer than what is read at once."""
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps("x" * 200_000) + "\n1\n")
    came, _ = await read(path)
    assert came == ["x" * 200_000, 1]


async def test_lines_of_a_pipe_come_as_they_are_written(tmp_path: Path) -> None:
    """Lines do not wait for the pipe to be closed, and a run that waits can be cancelled."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    came = trio.Event()

    async def store(item: Any) -> None:
        came.set()

    opened: list[int] = []

    def write_one() -> None:
        opened.append(os.open(path, os.O_WRONLY))
        os.write(opened[0], b"1\n")

    writer = threading.Thread(target=write_one)
    writer.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon((Producer(JsonLinesReader(path)) | Consumer(store)).run)
        await came.wait()
        nursery.cancel_scope.cancel()  # while the next line is waited for
    writer.join()
    os.close(opened[0])


def test_a_file_that_was_never_read_can_be_closed(tmp_path: Path) -> None:
    """A reader that is stopped before its first item has not opened anything."""
    Chunks(tmp_path / "in.jsonl").close()


def test_a_file_that_is_being_read_is_closed_after_the_read(tmp_path: Path) -> None:
    """The thread of a cancelled read is the last to use it."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    chunks = Chunks(path)
    reader = threading.Thread(target=chunks.read)
    reader.start()
    writing = os.open(path, os.O_WRONLY)  # waits until the pipe is being read
    chunks.close()
    os.write(writing, b"1\n")
    reader.join()
    os.close(writing)
    with pytest.raises(OSError, match="No such device"):  # because nobody has it open for reading
        os.open(path, os.O_WRONLY | os.O_NONBLOCK)


async def test_lines_that_are_encoded_already_can_be_written(tmp_path: Path) -> None:
    """Several lines can be written at once, each without its line end."""
    path = tmp_path / "out.jsonl"
    async with JsonLinesWriter(path) as writer:
        await writer.write(["1", "2"])
    assert lines(path) == ["1", "2"]
