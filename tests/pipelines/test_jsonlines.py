"""JSON Lines files as sources and sinks, and dead letters in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_turnstile import (
    Aborted,
    Batch,
    ConcurrentError,
    Consumer,
    DeadLetter,
    JsonLinesBatchWriter,
    JsonLinesReader,
    JsonLinesWriter,
    Producer,
    Skip,
    dead_letter_to_dict,
)
from trio_turnstile.testing import assert_conserved

ITEMS: list[Any] = [1, "zwei\nzeilen", {"drei": [3, None]}, "\u2028 \U0001f600", ""]


async def collect(path: Path, **options: Any) -> list[Any]:
    async with Producer(JsonLinesReader(path, **options)).open() as results:
        return [item async for item in results]


@pytest.mark.parametrize("batched", [False, True])
async def test_what_is_written_is_read_again(tmp_path: Path, batched: bool) -> None:
    """What is written is read back unchanged, and a second run appends."""
    path = tmp_path / "items.jsonl"
    sink = (
        Consumer(JsonLinesBatchWriter(path), batch=Batch(2), limiter=1)
        if batched
        else Consumer(JsonLinesWriter(path), limiter=1)
    )
    for runs in (1, 2):
        assert_conserved(await (Producer(ITEMS) | sink).run())
        assert len(path.read_text(encoding="utf-8").splitlines()) == runs * len(ITEMS)
    assert await collect(path) == ITEMS * 2


async def test_many_writers_do_not_mix_lines(tmp_path: Path) -> None:
    """Concurrent writers do not mix their lines."""
    path = tmp_path / "items.jsonl"
    report = await (Producer(range(300)) | Consumer(JsonLinesWriter(path), limiter=20)).run()
    assert report.steps[0].completed == 300
    assert sorted(await collect(path)) == list(range(300))


async def test_a_line_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """A cancelled write leaves no partial line behind."""
    path = tmp_path / "items.jsonl"
    async with trio.open_nursery() as nursery:
        run = await nursery.start(
            (Producer(range(100_000)) | Consumer(JsonLinesWriter(path), limiter=5)).run
        )
        while run.steps[0].completed < 20:
            await trio.lowlevel.checkpoint()
        run.cancel()
    assert_conserved(run)
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    assert len([json.loads(line) for line in text.splitlines()]) >= run.steps[0].completed


async def test_what_cannot_be_encoded_fails_alone(tmp_path: Path) -> None:
    """An item that JSON cannot represent fails; the others of its batch are written."""
    for number, sink in enumerate(
        (
            Consumer(JsonLinesWriter(tmp_path / "0"), on_error=[Skip(on=TypeError)]),
            Consumer(JsonLinesBatchWriter(tmp_path / "1"), batch=Batch(3), on_error=[Skip()]),
        )
    ):
        report = await (Producer([1, object(), 2]) | sink).run()
        assert (report.steps[0].completed, report.steps[0].failed) == (2, 1)
        assert sorted(await collect(tmp_path / str(number))) == [1, 2]


async def test_encodings_of_one_s_own(tmp_path: Path) -> None:
    """``encode`` and ``decode`` can be replaced."""
    path = tmp_path / "items.txt"
    await (Producer([1, 2]) | Consumer(JsonLinesWriter(path, encode=hex), limiter=1)).run()
    batch_writer = JsonLinesBatchWriter(path, encode=hex)
    await (Producer([3]) | Consumer(batch_writer, batch=Batch(9))).run()
    assert path.read_text(encoding="utf-8") == "0x1\n0x2\n0x3\n"
    assert await collect(path, decode=lambda line: int(line, 16)) == [1, 2, 3]


async def test_long_files_are_read_lazily_and_whole(tmp_path: Path) -> None:
    """A file longer than the read buffer gives every line except the empty ones."""
    path = tmp_path / "items.jsonl"
    lines = [str(number) * 300 for number in range(500)]
    path.write_text("".join(f'"{line}"\n\n' for line in lines), encoding="utf-8")
    assert await collect(path) == lines
    async with Producer(JsonLinesReader(path)).open() as results:
        assert await anext(results) == lines[0]


async def test_a_file_is_read_from_the_beginning_in_each_run(tmp_path: Path) -> None:
    """Each run reads the file from its beginning; an empty file gives no items."""
    path = tmp_path / "items.jsonl"
    path.write_text("1\n2", encoding="utf-8")
    assert [item async for item in aiter(JsonLinesReader(path))] == [1, 2]
    producer = Producer(JsonLinesReader(path))
    for _ in range(2):
        async with producer.open() as results:
            assert [item async for item in results] == [1, 2]
    path.write_text("", encoding="utf-8")
    assert await collect(path) == []


async def test_a_line_that_is_no_json_fails_the_source(tmp_path: Path) -> None:
    """The error names the file and the line number; empty lines count."""
    path = tmp_path / "items.jsonl"
    path.write_text("1\n\n{\n2\n", encoding="utf-8")
    with pytest.raises(Aborted) as caught:
        await collect(path)
    (error,) = caught.value.exceptions
    assert isinstance(error.__cause__, ValueError)
    assert str(error.__cause__).startswith(f"{path}, line 3: ")


async def test_a_file_that_is_not_there_fails_the_source(tmp_path: Path) -> None:
    """A missing file is an error of the source."""
    with pytest.raises(Aborted) as caught:
        await collect(tmp_path / "none")
    assert isinstance(caught.value.exceptions[0].__cause__, FileNotFoundError)


def test_a_letter_says_all_that_json_can_hold() -> None:
    """A dead letter becomes a dictionary; an error without a cause stands for itself."""
    letter = ConcurrentError("m", identifiers=["a"], item=5, phase="fetch", attempt=2, notes=["n"])
    assert dead_letter_to_dict(letter)["error"] == "ConcurrentError('m')"
    letter.__cause__ = OSError("disk full")
    assert dead_letter_to_dict(letter) == {
        "item": 5,
        "identifiers": ["a"],
        "step": "fetch",
        "attempt": 2,
        "notes": ["n"],
        "error": "OSError('disk full')",
    }


@pytest.mark.parametrize("batched", [False, True])
async def test_letters_are_kept_in_a_file_and_driven_again(tmp_path: Path, batched: bool) -> None:
    """Dead letters are written to a file, and their items can be read back as a source."""
    path = tmp_path / "dead.jsonl"
    mended = False
    stored: list[int] = []

    async def store(number: int) -> None:
        await trio.lowlevel.checkpoint()
        if number % 2 and not mended:
            raise OSError(number)
        stored.append(number)

    letters, dead = trio.open_memory_channel[ConcurrentError](10)
    sink = (
        Consumer(JsonLinesBatchWriter(path), batch=Batch(2))
        if batched
        else Consumer(JsonLinesWriter(path))
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon((Producer(dead) | sink).run)
        with letters:
            report = await (
                Producer(range(6)) | Consumer(store, on_error=[DeadLetter(letters)])
            ).run()
    assert report.steps[0].diverted == 3
    mended = True
    reader = JsonLinesReader(path, decode=lambda line: json.loads(line)["item"])
    await (Producer(reader) | Consumer(store)).run()
    assert sorted(stored) == list(range(6))
