"""``turnstile run --pipe``: standard input, cut into blocks of whole records."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_turnstile.cli._blocks import Blocks, Boundary

Call = Callable[..., Any]

LINES = b"".join(b"line %d\n" % number for number in range(5000))


def write(path: Path, data: bytes) -> int:
    """Write a file, and return it open for reading."""
    path.write_bytes(data)
    return os.open(path, os.O_RDONLY)


def test_each_block_is_the_input_of_one_operation(call: Call, here: Path) -> None:
    """The blocks are whole lines, none is longer than asked, and together they are the input."""
    options = ("--pipe", "--block", "8k", "-k", "--joblog", "log")
    result = call("run", *options, "--work", "cat", stdin=write(here / "in", LINES))
    assert (result.status, result.out) == (0, LINES.decode())
    sizes = [int(line.split("\t")[4]) for line in (here / "log").read_text().splitlines()[1:]]
    assert sum(sizes) == len(LINES)
    assert len(sizes) == 6
    assert max(sizes) <= 8192
    assert "6 completed, 0 failed" in result.err


def test_lines_are_not_cut(call: Call, here: Path) -> None:
    """Each operation gets complete lines; the last line may have no newline."""
    options = ("--pipe", "--block", "8", "-j1", "--work", "echo {}: $(cat)")
    result = call("run", *options, stdin=b"one\ntwo\nthree\nlonger than a block\nlast")
    assert result.lines == ["1: one two", "2: three", "3: longer than a block", "4: last"]


@pytest.mark.parametrize(
    ("options", "data", "blocks"),
    [
        (["--recend", ";"], b"aa;bb;cc", ["aa;bb;", "cc"]),
        (["--recend", r"\0"], b"aa\0bbbbbb\0c", ["aa\0", "bbbbbb\0", "c"]),
        (["--recstart", ">"], b">aaa>bb>ccccccc", [">aaa", ">bb", ">ccccccc"]),
        (["--recend", ";", "--recstart", ">"], b">a;b;>c;d;>e", [">a;b;", ">c;d;", ">e"]),
    ],
)
def test_records_can_have_other_boundaries(
    options: list[str], data: bytes, blocks: list[str], call: Call
) -> None:
    """Records are recognized by their end, by their start or by both."""
    work = "printf '[%s]\\n' \"$(tr '\\0' 0)\""
    result = call("run", "--pipe", "--block", "7", *options, "-j1", "--work", work, stdin=data)
    assert result.lines == [f"[{block}]".replace("\0", "0") for block in blocks]


@pytest.mark.parametrize(
    ("data", "outputs"),
    [
        (b"h\na\nb\nc\n", ["h a b", "h c"]),
        (b"head\nlonger than a block\nb", ["head longer than a block", "head b"]),
        (b"h\n", ["h"]),
        (b"no end", ["no end"]),
        (b"", []),
    ],
)
def test_each_block_can_begin_with_the_first_line(
    data: bytes, outputs: list[str], call: Call
) -> None:
    """With --header, each command can read a table; a header alone is a block."""
    options = ("--pipe", "--header", "--block", "4", "-j1")
    result = call("run", *options, "--work", "echo $(cat)", stdin=data)
    assert (result.status, result.lines) == (0, outputs)


def test_another_attempt_gets_the_same_block(call: Call) -> None:
    """A block is kept until its operation has ended."""
    work = "cat; test $TURNSTILE_ATTEMPT = 3"
    result = call("run", "--pipe", "--retries", "2", "--work", work, stdin=b"a\nb\n")
    assert (result.status, result.out) == (0, "a\nb\n")


def test_only_the_work_reads_the_block(call: Call) -> None:
    """The other commands have an empty standard input, so they take nothing away."""
    commands = ("--prepare", "cat", "--work", "head -n1", "--cleanup", "cat; echo end")
    result = call("run", "--pipe", *commands, stdin=b"a\nb\n")
    assert result.lines == ["a", "end"]


def test_a_command_need_not_read_its_block(call: Call, here: Path) -> None:
    """A command that reads nothing delays nothing."""
    options = ("--pipe", "--block", "8k", "--work", "true")
    result = call("run", *options, stdin=write(here / "in", LINES))
    assert result.status == 0


def test_nothing_makes_no_block(call: Call) -> None:
    """Empty standard input gives no operation."""
    result = call("run", "--pipe", "--work", "echo ran", stdin=b"")
    assert (result.status, result.out) == (0, "")


def test_blocks_are_read_as_they_are_needed(call: Call, gate: Any, here: Path) -> None:
    """No more blocks are read than operations may run, so that memory is bounded."""
    size, total = 4096, 12
    file = write(here / "in", (b"x" * 63 + b"\n") * 64 * total)
    ours = os.dup(file)  # it shares the position

    def operate(watch: Any) -> None:
        for begun in range(2, total + 1):
            gate.arrivals(2 if begun == 2 else 1)
            assert os.lseek(ours, 0, os.SEEK_CUR) <= begun * size
            gate.let(1)
        gate.let(1)

    options = ("--pipe", "--block", "4k", "-j2", "--work", gate.wait)
    result = call("run", *options, stdin=file, operator=operate)
    os.close(ours)
    assert result.status == 0
    assert f"{total} completed" in result.err


def test_a_failure_names_the_number_of_the_block(call: Call) -> None:
    """The name of a block is its number."""
    result = call("run", "--pipe", "--work", "exit 3", stdin=b"a\n")
    assert result.status == 1
    assert "1 '1': work: exit status 3" in result.err


def test_an_error_of_reading_ends_the_run(call: Call, here: Path) -> None:
    """It counts as one more failure."""
    result = call("run", "--pipe", "--work", "cat", stdin=os.open(here, os.O_RDONLY))
    assert result.status == 1
    assert "cannot read the rest of the inputs" in result.err


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--block", "2M"], "are only for --pipe"),
        (["--recend", ";"], "are only for --pipe"),
        (["--pipe", "--null"], "--pipe cuts standard input"),
        (["--pipe", "-a", "file"], "--pipe cuts standard input"),
        (["--pipe", "--", "a"], "--pipe cuts standard input"),
        (["--pipe", ":::", "a"], "--pipe cuts standard input"),
        (["--pipe", "--recend", ""], "--recend must not be empty"),
        (["--pipe", "--block", "0"], "--block must be 1 or more"),
        (["--pipe", "--block", "-2"], "--block -2 is a share of a file"),
        (["--pipe", "--block", "-x"], "written like -1 or -10, not '-x'"),
        (["--pipe", "--block", "-0"], "written like -1 or -10, not '-0'"),
        (["--pipe", "--ledger", "db"], "--pipe has none: use --joblog"),
    ],
)
def test_options_that_do_not_go_together(options: list[str], why: str, call: Call) -> None:
    """Nothing runs, and the error names the option."""
    result = call("run", "--work", "echo", *options, stdin=b"a\n")
    assert (result.status, result.out) == (2, "")
    assert why in result.err


def split(
    data: bytes, size: int, boundary: Boundary, folder: Path, records: int | None = None
) -> list[bytes]:
    """Return the blocks of some data."""
    file = write(folder / "data", data)
    blocks = Blocks(file, size, boundary, records=records)
    made = []
    while block := blocks.take():
        made.append(block)
    os.close(file)
    return made


@given(
    words=st.lists(st.sampled_from([b"a", b";", b">", b";>", b"aaaa"]), max_size=40),
    size=st.integers(1, 12),
    boundary=st.sampled_from([Boundary(b";"), Boundary(b"", b">"), Boundary(b";", b">")]),
)
def test_blocks_are_all_of_the_input_cut_at_boundaries(
    words: list[bytes], size: int, boundary: Boundary, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nothing is lost or doubled, and each block ends where a record does."""
    data = b"".join(words)
    blocks = split(data, size, boundary, tmp_path_factory.getbasetemp())
    assert b"".join(blocks) == data
    for block, after in pairwise(blocks):
        assert block.endswith(boundary.end)
        assert after.startswith(boundary.start)
    for block in blocks:  # one is longer than asked only if no record ends before
        assert len(block) <= size or not boundary.find_last(block[:size], 0)


@given(
    words=st.lists(st.sampled_from([b"a", b";", b">", b";>", b"aaaa"]), max_size=40),
    size=st.integers(1, 12),
    records=st.integers(1, 4),
    boundary=st.sampled_from([Boundary(b";"), Boundary(b"", b">"), Boundary(b";", b">")]),
)
def test_blocks_can_be_so_many_records(
    words: list[bytes],
    size: int,
    records: int,
    boundary: Boundary,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The size of reads does not matter; only the last block has fewer."""
    data = b"".join(words)
    folder = tmp_path_factory.getbasetemp()
    each = split(data, size, boundary, folder, records=1)
    assert b"".join(each) == data
    groups = [each[at : at + records] for at in range(0, len(each), records)]
    assert split(data, size, boundary, folder, records) == [b"".join(group) for group in groups]


def test_a_long_record_takes_no_longer_to_find(tmp_path: Path) -> None:
    """Data that was searched for a boundary is not searched again."""
    data = random.Random(1).randbytes(1 << 20).replace(b"\n", b" ")
    assert split(data + b"\nend", 64, Boundary(), tmp_path) == [data + b"\n", b"end"]
