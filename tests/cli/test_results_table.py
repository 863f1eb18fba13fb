"""``--results FILE.csv``: a row for each operation that has ended."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

Call = Callable[..., Any]

ROW = ["Seq", "Host", "Starttime", "JobRuntime", "Send", "Receive", "Exitval", "Signal", "Command"]


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows, as any program reads them."""
    csv.field_size_limit(1 << 24)
    with path.open(newline="", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def test_each_operation_has_a_row(call: Call, here: Path) -> None:
    """The row has the fields of the job log, the columns of the input, and the outputs."""
    work = "printf '%s\\n' 'a \"b\", c' {1}; echo err >&2; test {2} = 0"
    options = ("-j1", "--results", "out.csv", "--joblog", "log", "--work", work)
    result = call("run", *options, ":::", "x y", ":::", "0", "3")
    assert result.out == 'a "b", c\nx y\n' * 2
    first, second = read(here / "out.csv")
    assert list(first) == [*ROW, "V1", "V2", "Stdout", "Stderr"]
    assert (first["Seq"], first["V1"], first["V2"], first["Exitval"]) == ("1", "x y", "0", "0")
    assert (second["Seq"], second["V2"], second["Exitval"]) == ("2", "3", "1")
    assert first["Stdout"] == 'a "b", c\nx y\n'
    assert first["Stderr"] == "err\n"
    logged = [line.split("\t") for line in (here / "log").read_text().splitlines()]
    assert [value.strip() for value in logged[1]] == [first[name] for name in ROW]


def test_rows_are_appended(call: Call, here: Path) -> None:
    """A second run appends to the same file, and there is one header."""
    for word in ("a", "b"):
        call("run", "--results", "out.csv", "--work", "echo", "--", word)
    assert [row["V1"] for row in read(here / "out.csv")] == ["a", "b"]


def test_only_the_last_attempt_has_a_row(call: Call, here: Path) -> None:
    """The output of failed attempts is dropped."""
    work = "echo attempt $TURNSTILE_ATTEMPT; : {}; false"
    call("run", "--results", "out.csv", "--retries", "2", "--work", work, "--", "a")
    assert [row["Stdout"] for row in read(here / "out.csv")] == ["attempt 3\n"]


def test_long_outputs_and_any_bytes_are_kept(call: Call, here: Path) -> None:
    """Output from a temporary file gets into the row, and so do bytes that are not text."""
    work = "head -c 600000 /dev/zero | tr '\\0' '\"'; printf '\\377\\r\\n'; : {}"
    call("run", "--results", "out.csv", "--work", work, "--", "a")
    (row,) = read(here / "out.csv")
    assert os.fsencode(row["Stdout"]) == b'"' * 600_000 + b"\xff\r\n"


def test_columns_have_their_names(call: Call, here: Path) -> None:
    """With --header the columns have the names from the inputs."""
    options = ("--header", "--colsep", ",", "--results", "out.csv", "--work", "echo {name}")
    call("run", *options, stdin=b"name,size\nham,3\neggs\n")
    rows = read(here / "out.csv")
    assert {(row["name"], row["size"]) for row in rows} == {("ham", "3"), ("eggs", "")}


def test_the_first_row_says_how_many_columns_there_are(call: Call, here: Path) -> None:
    """If the number is unknown before, later rows are cut to it, even in later runs."""
    options = ("-j1", "--colsep", ",", "--results", "out.csv", "--work", "echo")
    call("run", *options, stdin=b"a,b\nc\nd,e,f\n")
    call("run", *options, stdin=b"g,h,i\n")
    columns = [(row["V1"], row["V2"], row["Stdout"]) for row in read(here / "out.csv")]
    assert columns == [
        ("a", "b", "a b\n"),
        ("c", "", "c\n"),
        ("d", "e", "d e f\n"),
        ("g", "h", "g h i\n"),
    ]


def test_a_table_with_other_columns_stays_as_it_is(call: Call, here: Path) -> None:
    """A file that is not such a table is a usage error, and nothing runs."""
    (here / "out.csv").write_text("name,size\nham,3\n")
    result = call("run", "--results", "out.csv", "--work", "echo", "--", "a")
    assert (result.status, result.out) == (2, "")
    assert "--results cannot append rows to 'out.csv': it has other columns" in result.err
    assert (here / "out.csv").read_text() == "name,size\nham,3\n"


def test_a_table_that_cannot_be_opened_is_refused(call: Call, here: Path) -> None:
    """A folder at the path is a usage error."""
    (here / "out.csv").mkdir()
    result = call("run", "--results", "out.csv", "--work", "echo", "--", "a")
    assert (result.status, result.out) == (2, "")
    assert "--results cannot append rows to 'out.csv': Is a directory" in result.err


def test_lines_that_are_printed_as_they_come_make_no_row(call: Call, here: Path) -> None:
    """--line-buffer does not keep what it has printed, so the two cannot be combined."""
    result = call("run", "--lb", "--results", "out.csv", "--work", "echo", "--", "a")
    assert (result.status, result.out) == (2, "")
    assert "--line-buffer and --results FILE.csv do not go together" in result.err


def test_a_table_that_cannot_be_written_counts_as_a_failure(call: Call, here: Path) -> None:
    """The user is told once, the operations go on, and the exit status is not 0."""
    (here / "out.csv").symlink_to("/dev/full")
    result = call("run", "--results", "out.csv", "--work", "echo", "--", "a", "b")
    assert sorted(result.lines) == ["a", "b"]
    assert result.status == 1
    assert result.err.count("stopped writing --results: No space left on device") == 1


def test_a_table_can_have_tabs(call: Call, here: Path) -> None:
    """If the name ends with .tsv, tabs separate the values."""
    for word in ("a", "b,c"):
        call("run", "--results", "out.tsv", "--work", "printf '%s\\t\\n'", "--", word)
    with (here / "out.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [(row["V1"], row["Stdout"]) for row in rows] == [("a", "a\t\n"), ("b,c", "b,c\t\n")]


def test_each_operation_can_be_a_line_of_json(call: Call, here: Path) -> None:
    """If the name ends with .json, a line has the fields of a row; later runs append to it."""
    work = "printf '\\377 %s' {}; printf '\\303' >&2; test {} != b"
    for word in ("a", "b"):
        call("run", "--results", "out.json", "--work", work, "--", word, stdin=b"")
    first, second = map(json.loads, (here / "out.json").read_text().splitlines())
    assert list(first) == [*ROW, "V", "Stdout", "Stderr"]
    assert (first["Seq"], first["Host"], first["V"]) == (1, ":", ["a"])
    assert (os.fsencode(first["Stdout"]), os.fsencode(first["Stderr"])) == (b"\xff a", b"\xc3")
    assert (first["Exitval"], second["Exitval"]) == (0, 1)
    assert isinstance(first["JobRuntime"], float)


def test_long_letters_are_not_cut_in_json(call: Call, here: Path) -> None:
    """Output comes in pieces, and a character may be split between two of them."""
    work = "printf x; for i in $(seq 1000); do printf '\u20ac%.0s' $(seq 100); done; : {}"
    result = call("run", "--results", "out.json", "--work", work, "--", "a")
    assert json.loads((here / "out.json").read_text())["Stdout"] == result.out
    assert len(result.out) == 100_001


def test_another_file_gets_no_lines_of_json(call: Call, here: Path) -> None:
    """A file with other content is a usage error, and stays unchanged."""
    (here / "out.json").write_text("[1, 2]\n")
    result = call("run", "--results", "out.json", "--work", "echo", "--", "a")
    assert (result.status, result.out) == (2, "")
    assert "--results cannot append rows to 'out.json'" in result.err
    assert (here / "out.json").read_text() == "[1, 2]\n"
