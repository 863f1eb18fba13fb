"""``turnstile run -X``, ``-m`` and ``--xargs``: as many inputs for an operation as fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]

MANY = "".join(f"a {number}\n" for number in range(40_000)).encode()


@pytest.mark.parametrize(
    ("options", "groups"),
    [
        (["-X", "-j2"], ["a1 a2 a3", "a4 a5"]),
        (["-X", "-j9"], ["a1", "a2", "a3", "a4", "a5"]),
        (["-X", "-j1"], ["a1 a2 a3 a4 a5"]),
        (["-X", "-N2"], ["a1 a2", "a3 a4", "a5"]),
        (["-X", "-j1", "-s", "18"], ["a1 a2", "a3 a4", "a5"]),
        (["-N2"], ["a1 a2", "a3 a4", "a5"]),
    ],
)
def test_words_are_repeated_for_each_input(
    options: list[str], groups: list[str], call: Call
) -> None:
    """As many inputs are taken as fit, and the last ones are shared out."""
    result = call("run", "-k", *options, "--work", "echo a{}", ":::", *"12345")
    assert (result.status, result.lines) == (0, groups)


@pytest.mark.slow
def test_all_inputs_get_to_a_command_once(call: Call, here: Path) -> None:
    """No command is too long for the system, and few commands are needed."""
    file = here / "in"
    file.write_bytes(MANY)
    options = ("-a", "in", "-k", "-j2", "--joblog", "log", "--prepare", "true", "--cleanup", ":")
    result = call("run", "-X", *options, "--work", "printf '%s\\n' {}")
    assert (result.status, result.out) == (0, MANY.decode())
    commands = [line.split("\t", 8)[8] for line in (here / "log").read_text().splitlines()[1:]]
    assert max(map(len, commands)) <= 130_000
    assert 3 <= len(commands) <= 6


def test_the_longest_command_counts(call: Call) -> None:
    """A clean-up with longer words leaves room for fewer inputs."""
    commands = ("--work", "echo {}", "--cleanup", ": 12345{}")
    result = call("run", "-j1", "-k", "-X", "-s", "25", *commands, ":::", *"abcd")
    assert result.lines == ["a b", "c d"]


def test_a_column_from_the_end_may_be_long(call: Call) -> None:
    """A column that is counted from the end is measured before its command starts."""
    options = ("-j1", "-X", "-s", "30", "--work", "echo {} {-1}")
    result = call("run", *options, ":::", "a", "b", "long-one", "c")
    assert [line.split() for line in result.lines] == [["a", "b", "b"], ["long-one"] * 2, ["c"] * 2]


@pytest.mark.parametrize("option", ["-m", "--xargs"])
def test_a_joined_word_is_refused(option: str, call: Call) -> None:
    """The message says which option repeats the word."""
    result = call("run", option, "--work", "echo a{}", ":::", "1")
    assert result.status == 2
    assert "-X and -N repeat the word" in result.err


def test_xargs_does_not_share_out(call: Call) -> None:
    """The last inputs stay together; -m shares them out."""
    for option, count in {"-m": 3, "--xargs": 1}.items():
        result = call("run", "-j3", option, "--work", "echo", ":::", *"abcdef")
        assert len(result.lines) == count


def test_an_input_that_is_too_long_ends_the_run(call: Call) -> None:
    """The inputs before it are done; the message has the length and the room."""
    result = call("run", "-j1", "-X", "-s", "20", "--work", "echo", ":::", "a", "b" * 30, "c")
    assert (result.status, result.out) == (1, "a\n")
    assert "input 2 makes a command of 37 bytes, but a command may have 19" in result.err


def test_numbers_and_slots_in_repeated_words(call: Call) -> None:
    """They belong to the operation, and braces in an input are not placeholders."""
    result = call("run", "-j1", "-X", "--work", "echo {#}-{}-{%}.{2}", ":::", "{#}", "b c")
    assert result.out == "1-{#}-1.b c 1-b c-1.b c\n"


def test_failed_groups_are_tried_again(call: Call) -> None:
    """All inputs of a group are tried again; only the first hundred have variables."""
    variables = "$TURNSTILE_INPUT_100 $TURNSTILE_INPUT_101"
    work = f"test $TURNSTILE_ATTEMPT = 2 && echo {variables} && : {{}}"
    inputs = range(1, 103)
    result = call("run", "-j1", "-X", "--retries", "1", "--work", work, ":::", *inputs)
    assert (result.status, result.out) == (0, "100\n")


def test_a_ledger_knows_groups(call: Call, here: Path) -> None:
    """Completed groups are skipped, and failed groups are done again."""
    options = ("-j2", "-X", "--ledger", "db", "--work", "ls {}")
    (here / "a").touch()
    (here / "b").touch()
    first = call("run", *options, ":::", *"abcd")
    assert (first.status, first.lines) == (1, ["a", "b"])
    shown = call("ledger", "db", "--failed", "--json")
    assert json.loads(shown.out)["columns"] == ["c", "d"]
    (here / "c").touch()
    (here / "d").touch()
    again = call("run", "--retry-failed", *options, ":::", *"abcd")
    assert (again.status, again.lines) == (0, ["c", "d"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-X", "-m"], "-X and -m do not go together"),
        (["-s", "99"], "--max-chars is only for -X, -m and --xargs"),
        (["-X", "--colsep", ","], "-X goes with neither several sources nor --colsep"),
        (["-X", "-s", "999999999"], "--max-chars must be at most"),
        (["-X", "--work", "echo {1}"], "-X puts any number of inputs in place of {}"),
        (["-X", "--pipe"], "none of the options that read inputs"),
    ],
)
def test_what_makes_no_sense_is_refused(options: list[str], message: str, call: Call) -> None:
    """A wrong option is named, and nothing runs."""
    work = () if "--work" in options else ("--work", "echo")
    result = call("run", *options, *work)
    assert (result.status, result.out) == (2, "")
    assert message in result.err
