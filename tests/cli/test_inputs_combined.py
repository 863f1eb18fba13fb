"""Inputs from several sources, with columns, in groups: what is lazy, counted and refused."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_turnstile.cli._columns import Input, Rows, Separator
from trio_turnstile.cli._combinations import Combinations, Groups, Linked, Shuffled
from trio_turnstile.cli._inputs import FileInputs, GivenInputs, Inputs

Call = Callable[..., Any]

BASH = shutil.which("bash")


def given(*texts: str) -> Inputs[Input]:
    """A source of words."""
    return Rows(GivenInputs(texts))


async def everything(inputs: Inputs[Input]) -> list[tuple[str, ...]]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inputs.read)
        return [each.columns async for each in inputs]
    raise AssertionError


MAKERS: list[tuple[Callable[[Sequence[Inputs[Input]]], Inputs[Input]], list[str]]] = [
    (lambda three: Combinations(three[0], three[1:]), ["ace", "acf", "ade", "adf", "bce", "bcf"]),
    (Linked, ["ace", "bdf"]),
    (lambda three: Groups(three[0], 2), ["ab"]),
    (lambda three: Groups(three[0], 3), ["ab"]),
    (lambda three: Combinations(three[0], [given()]), []),
]


@pytest.mark.parametrize(("make", "first"), MAKERS)
async def test_inputs_are_made_of_others(
    make: Callable[[Sequence[Inputs[Input]]], Inputs[Input]], first: list[str]
) -> None:
    """They are counted before and after, and their columns come in the order of the sources."""
    inputs = make([given("a", "b"), given("c", "d"), given("e", "f")])
    total = inputs.total
    assert inputs.taken == 0
    columns = await everything(inputs)
    assert ["".join(each) for each in columns[:6]] == first
    assert inputs.taken == inputs.total == total == len(columns)
    assert inputs.error is None


async def test_a_shuffled_source_has_the_same_inputs() -> None:
    """No input is lost, and the order differs."""
    texts = list(map(str, range(100)))
    inputs = Shuffled(given(*texts))
    columns = [text for (text,) in await everything(inputs)]
    assert sorted(columns, key=int) == texts != columns
    assert inputs.taken == inputs.total == 100


async def test_only_the_first_source_is_lazy(tmp_path: Path) -> None:
    """A combination is given as soon as the first source has an input; the others must end."""
    os.mkfifo(tmp_path / "fifo")
    first = Rows(FileInputs(tmp_path / "fifo"))
    inputs = Combinations(first, [given("x", "y")])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inputs.read)
        writer = await trio.to_thread.run_sync(os.open, tmp_path / "fifo", os.O_WRONLY)
        os.write(writer, b"a\nb")
        assert [(await anext(inputs)).text, (await anext(inputs)).text] == ["a x", "a y"]
        assert inputs.total is None
        os.close(writer)
        assert [(await anext(inputs)).text, (await anext(inputs)).text] == ["b x", "b y"]
        with pytest.raises(StopAsyncIteration):
            await anext(inputs)
    assert inputs.total == 4


async def test_a_group_that_an_error_cuts_short_is_given(tmp_path: Path) -> None:
    """The inputs before the bad one run, and then the error is raised."""
    (tmp_path / "file").write_bytes(b"a\nb\nc\nd\0e\n")
    inputs = Groups(Rows(FileInputs(tmp_path / "file")), 2)
    await inputs.read()
    assert (await anext(inputs)).columns == ("a", "b")
    assert (await anext(inputs)).columns == ("c",)
    with pytest.raises(ValueError, match="input 4 has a NUL"):
        await anext(inputs)
    assert inputs.error is not None


@pytest.mark.parametrize("length", [1, 2, 3, 4])
async def test_an_end_of_several_bytes_may_lie_anywhere(length: int, tmp_path: Path) -> None:
    """The inputs are split and counted correctly, wherever chunks end."""
    texts = ["x" * length, "y;", "z" * (length + 70_000)] * 20
    (tmp_path / "file").write_text(";:".join(texts))
    inputs = FileInputs(tmp_path / "file", end=b";:")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inputs.read)
        assert await anext(inputs) == texts[0]
        while inputs.total is None:
            await trio.lowlevel.checkpoint()
        assert inputs.total == 60
        assert [text async for text in inputs] == texts[1:]


@pytest.mark.parametrize(
    ("pattern", "text", "columns"),
    [
        (",", "a,,b, c ,", ("a", "", "b", "c", "")),
        (r"\t", "a b\tc\r", ("a b", "c")),
        ("(,)|(;)", "a,b;c", ("a", "b", "c")),
        (r"\s+", "a", ("a",)),
        (",", "", ("",)),
    ],
)
def test_a_regular_expression_separates_columns(
    pattern: str, text: str, columns: tuple[str, ...]
) -> None:
    """Empty columns stay, blanks around columns are dropped, and groups are not columns."""
    assert Separator.parse(pattern).split(text) == columns


# ---- the command ----


def test_the_whole_input_and_its_columns_are_in_the_environment(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The input is as it was given; variables of an enclosing run are not passed on."""
    show = 'echo "$TURNSTILE_INPUT|$TURNSTILE_INPUT_1|$TURNSTILE_INPUT_2|${TURNSTILE_INPUT_3-none}"'
    monkeypatch.setenv("TURNSTILE_INPUT_3", "stray")
    split = call("run", "-q", "--colsep", ",", "--work", show, "--", "a , b")
    combined = call("run", "-q", "--work", show, ":::", "a b", ":::", "c")
    grouped = call("run", "-q", "-N2", "--work", show, "--", "a", "b c")
    assert split.out == "a , b|a|b|none\n"
    assert combined.out == "a b c|a b|c|none\n"
    assert grouped.out == "a b c|a|b c|none\n"


def test_the_header_of_standard_input_is_no_input(call: Call) -> None:
    """Lines that were read with it are not lost; a line may have fewer columns than the header."""
    options = ("run", "-q", "-j1", "--header", "--colsep", ",", "--work", "echo {b}-{a}-{#}")
    result = call(*options, stdin=b"a,b\n1,2\n3\n")
    assert (result.status, result.lines) == (0, ["2-1-1", "-3-2"])


def test_a_line_with_more_columns_than_the_header_ends_the_inputs(call: Call) -> None:
    """Otherwise a comma in a text would move all columns after it."""
    options = ("run", "-q", "-j1", "--header", "--colsep", ",", "--work", "echo {b}")
    result = call(*options, stdin=b"a,b\n1,2\n3,4,5\n6,7\n")
    assert (result.status, result.lines) == (1, ["2"])
    assert "input 2 has 3 columns, but the header has 2" in result.err


def test_a_million_combinations_begin_at_once(call: Call) -> None:
    """They are made as they run: the first failure ends the run."""
    thousand = list(map(str, range(1000)))
    result = call(
        *("run", "-j1", "--halt", "now,fail=1", "--work", "false {1} {2}"),
        *(":::", *thousand, ":::", *thousand),
    )
    assert result.status == 1
    assert "999999 not started" in result.err or "999998 not started" in result.err


def test_a_dry_run_shows_columns(call: Call) -> None:
    """Each placeholder is one quoted word, and the slot is the first."""
    result = call("run", "--dry-run", "--work", "x {2} {1} {%} {}", ":::", "a b", ":::", "c")
    assert result.lines == ["x 'c' 'a b' 1 'a b' 'c'"]


# ---- slots ----


@pytest.mark.parametrize("way", ["{%}", '"$TURNSTILE_SLOT"'])
def test_an_operation_has_the_lowest_free_slot(way: str, call: Call, gate: Any) -> None:
    """Two running operations have 1 and 2; one that ends gives its number to the next."""

    def operate(watch: Any) -> None:
        gate.arrivals(2)
        for _ in range(4):
            gate.let(1)
            gate.arrivals(1)
        gate.let(2)

    result = call(
        *("run", "-q", "-j2", "--work", f"echo {way}; {gate.wait}", "--", *range(6)),
        operator=operate,
    )
    assert result.status == 0
    assert set(result.lines) == {"1", "2"}


def test_a_slot_is_held_until_the_cleanup_has_ended(call: Call, here: Path) -> None:
    """No two operations ever have the same one, retries and clean-ups included."""
    work = "mkdir slot-{%}; test $TURNSTILE_ATTEMPT = 2 || { rmdir slot-{%}; exit 1; }; true {}"
    result = call(
        *("run", "-j2", "--retries", "1", "--prepare", "test ! -e slot-{%}"),
        *("--work", work, "--cleanup", "sleep 0.05; rmdir slot-{%}; echo {%}", "--", *range(8)),
    )
    assert "8 completed, 0 failed" in result.err
    assert set(result.lines) <= {"1", "2"}


def test_a_raised_limit_makes_slots(call: Call, gate: Any) -> None:
    """The next operation does not wait for the end of another."""

    def operate(watch: Any) -> None:
        gate.arrivals(1)
        watch.signal(signal.SIGUSR1)
        gate.arrivals(1)
        gate.let(2)

    result = call(
        *("run", "-j1", "--max", "2", "--work", f"echo {{%}}; {gate.wait}", "--", "a", "b"),
        operator=operate,
    )
    assert sorted(result.lines) == ["1", "2"]


# ---- shells ----


@pytest.mark.skipif(BASH is None, reason="there is no bash")
def test_another_shell_can_run_the_commands(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found by its name or its path, and exported functions of bash reach it."""
    command = "greet {}; x=(1 {}); echo ${#x[@]}"
    monkeypatch.setenv("BASH_FUNC_greet%%", '() { echo "hello ${1^^}"; }')
    results = [
        call("run", "-q", "--shell", shell, "--work", command, "--", "a")
        for shell in ("bash", BASH)
    ]
    assert [result.out for result in results] == ["hello A\n2\n"] * 2
