"""``turnstile run --pipe-part``: files, cut into blocks that the commands read themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_turnstile.cli._blocks import Boundary
from trio_turnstile.cli._parts import Parts

Call = Callable[..., Any]

LINES = b"".join(b"line %d\n" % number for number in range(5000))
PARTS = ("run", "--pipe-part", "-a", "data")


@pytest.fixture
def data(here: Path) -> Path:
    """A file of 5000 lines."""
    path = here / "data"
    path.write_bytes(LINES)
    return path


def test_each_block_is_the_input_of_one_operation(call: Call, data: Path) -> None:
    """The blocks are whole lines, and in order they are the whole file."""
    result = call(*PARTS, "--block", "8k", "-k", "--joblog", "log", "--work", "cat")
    assert (result.status, result.out) == (0, LINES.decode())
    lines = [line.split("\t") for line in Path("log").read_text().splitlines()[1:]]
    sizes = [int(line[4]) for line in sorted(lines, key=lambda line: int(line[0]))]
    assert sum(sizes) == len(LINES)
    assert len(sizes) == 6
    assert all(8192 <= size < 8192 + 10 for size in sizes[:-1])


def test_a_block_is_named_by_its_bytes(call: Call, data: Path) -> None:
    """So an error says which part of which file it was."""
    data.write_bytes(b"aaa\nbbb\nccc\n")
    result = call(*PARTS, "--block", "5", "-j1", "--work", "echo {#} {}; ! grep ccc")
    assert result.lines == ["1 data:0-8", "2 data:8-12", "ccc"]
    assert "2 'data:8-12': work: exit status 1" in result.err


def test_another_attempt_gets_the_same_block(call: Call, data: Path) -> None:
    """Each attempt reads its block from the beginning."""
    data.write_bytes(b"a\nb\n")
    result = call(*PARTS, "--retries", "2", "--work", "cat; test $TURNSTILE_ATTEMPT = 3")
    assert (result.status, result.out) == (0, "a\nb\n")


def test_only_the_work_reads_the_block(call: Call, data: Path) -> None:
    """The other commands have an empty standard input."""
    commands = ("--prepare", "cat", "--work", "head -n1", "--cleanup", "cat; echo end")
    assert call(*PARTS, *commands).lines == ["line 0", "end"]


def test_a_command_need_not_read_its_block(call: Call, data: Path) -> None:
    """A command that reads nothing delays nothing, and leaves no process behind."""
    data.write_bytes(b"x" * 999_999 + b"\n")
    result = call(*PARTS, "--work", "true")
    assert result.status == 0


def test_a_ledger_goes_on_after_the_blocks_that_are_done(call: Call, data: Path) -> None:
    """A block is known by its file and its bytes, even when the file has grown."""
    data.write_bytes(b"a\nb\n")
    options = ("--block", "1", "-j1", "--ledger", "db", "--work", "grep -v b")
    first = call(*PARTS, *options)
    assert (first.status, first.out) == (1, "a\n")
    data.write_bytes(b"a\nb\nc\n")
    again = call(*PARTS, "--retry-failed", *options)
    assert again.out == "c\n"
    assert "1 completed, 1 failed, 1 skipped" in again.err
    shown = call("ledger", "db", "--failed", "--json")
    assert json.loads(shown.out)["input"] == "data:2-4"


def test_a_killed_run_reads_its_blocks_again(call: Call, spawn: Any, gate: Any, data: Path) -> None:
    """Interrupted blocks come first, with the same bytes."""
    data.write_bytes(b"a\nb\n")
    work = f"{gate.wait.replace('{}', '{#}')}; cat"
    options = (*PARTS, "--block", "1", "-j1", "--ledger", "db")
    first = spawn(*options, "--work", work)
    gate.arrivals(1)
    first.kill()
    first.finish()
    gate.let(1)
    second = call(*options, "--accept-changes", "--work", "echo {#} {}; cat")
    assert second.lines == ["1 data:0-2", "a", "2 data:2-4", "b"]


def test_a_header_is_read_again_too(call: Call, spawn: Any, gate: Any, data: Path) -> None:
    """An interrupted block has the first line of its file again."""
    data.write_bytes(b"h\na\nb\nc\n")
    work = f"{gate.wait.replace('{}', '{#}')}; cat"
    options = (*PARTS, "--header", "--block", "1", "-j2", "-k", "--ledger", "db")
    first = spawn(*options, "--work", work)
    gate.arrivals(2)
    first.kill()
    first.finish()
    second = call(*options, "--accept-changes", "--work", "echo {}; cat")
    assert second.lines == ["data:2-4", "h", "a", "data:4-6", "h", "b", "data:6-8", "h", "c"]


def test_a_job_log_goes_on_too(call: Call, data: Path) -> None:
    """The job log knows blocks by their numbers, in order."""
    data.write_bytes(b"a\nb\nc\n")
    options = ("--block", "1", "-j1", "--joblog", "log", "--resume-failed")
    call(*PARTS, *options, "--halt", "soon,fail=1", "--work", "test {#} = 1 && cat")
    again = call(*PARTS, *options, "--work", "test {#} = 1 && cat")
    assert "2 failed, 1 skipped" in again.err


def test_several_files_are_cut_one_after_the_other(call: Call, here: Path) -> None:
    """No block has bytes of two files; an empty file has no block."""
    for name, text in {"x": "a\nb", "y": "", "z": "c\n"}.items():
        (here / name).write_text(text)
    result = call("run", "--pipe-part", *["-ax", "-ay", "-az"], "-k", "--work", "cat; echo .")
    assert result.out == "a\nb.\nc\n.\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "name them with --arg-file FILE"),
        (["-a", "data", "--pipe"], "--pipe and --pipe-part do not go together"),
        (["-a", "data", "--null"], "none of the other options that read inputs"),
        (["-a", "data", "-N", "2"], "none of the other options that read inputs"),
        (["-a", "none"], "cannot read 'none': No such file or directory"),
        (["-a", "."], "'.' is not a regular file: use --pipe"),
        (["-a", "data", "--recend", ""], "--recend must not be empty without --recstart"),
        (["-a", "data", "--block", "0"], "--block must be 1 or more"),
        (["-a", "data", "--block", "-1.5"], "written like -1 or -10, not '-1.5'"),
        (["-a", "data", "--engine", "local"], "--pipe-part"),
    ],
)
def test_what_makes_no_sense_is_refused(
    options: list[str], message: str, call: Call, data: Path
) -> None:
    """A wrong option is named, and nothing runs."""
    result = call("run", "--pipe-part", *options, "--work", "touch ran")
    assert result.status == 2
    assert message in result.err
    assert not Path("ran").exists()


def test_a_file_that_goes_away_ends_the_run(call: Call, data: Path) -> None:
    """It counts as one more failure, and the user is told."""
    result = call(*PARTS, "--block", "8k", "-j1", "--work", "rm -f data; cat")
    assert result.status
    assert "No such file" in result.err


@given(
    st.binary(max_size=60).map(lambda data: bytes(b"ab\n>"[byte % 4] for byte in data)),
    st.integers(1, 20),
    st.sampled_from([Boundary(), Boundary(b"", b">"), Boundary(b"\n", b">"), Boundary(b"ab", b"")]),
)
def test_blocks_begin_with_records(data: bytes, size: int, boundary: Boundary) -> None:
    """Together they are the file; each block but the last ends where a record may begin."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "data")
        path.write_bytes(data)
        parts = list(iter(Parts([path], size, boundary).take, None))
    blocks = [data[part.start : part.start + part.size] for part in parts]
    assert b"".join(blocks) == data
    for block, after in pairwise(blocks):
        assert block.endswith(boundary.end)
        assert after.startswith(boundary.start)
        assert len(block) >= size
