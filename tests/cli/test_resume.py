"""``--resume`` and ``--resume-failed`` read the job log as GNU parallel does: by number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

WORK = "echo {}; test {} != 2"


def run(call: Any, *inputs: object, option: str = "--resume", work: str = WORK) -> Any:
    return call("run", option, "--joblog", "log", "-j1", "--work", work, "--", *inputs)


def test_what_is_in_the_log_is_skipped(call: Any, here: Path) -> None:
    """Failed operations are skipped too; the first run has no log yet."""
    assert run(call, 1, 2, 3).lines == ["1", "2", "3"]
    second = run(call, 1, 2, 3, 4)
    assert second.lines == ["4"]
    assert second.status == 0
    assert "1 completed, 0 failed, 3 skipped" in second.err


def test_what_failed_is_done_again_if_asked(call: Any, here: Path) -> None:
    """So are inputs that are not in the log; the last line of a number counts."""
    run(call, 1, 2, 3)
    again = run(call, 1, 2, 3, 4, option="--resume-failed")
    assert again.lines == ["2", "4"]
    (here / "log").write_text((here / "log").read_text().replace("\t1\t0\techo", "\t0\t0\techo"))
    assert run(call, 1, 2, 3, 4, option="--resume-failed").lines == []


def test_other_inputs_are_refused(call: Any, here: Path) -> None:
    """If the command of a number differs, the run ends, and the message says what to do."""
    run(call, 1, 2, 3)
    other = run(call, 3, 2, 1)
    assert other.status == 1
    assert other.out == ""
    assert "another command for number 1" in other.err
    assert "--ledger" in other.err


def test_lines_that_are_no_entries_are_passed_over(call: Any, here: Path) -> None:
    """A torn line is skipped; commands with tabs and newlines are read."""
    work = "echo {}\ttwo\nexit 0"
    run(call, 1, 2, work=work)
    with (here / "log").open("a") as log:
        log.write("3\t:\t17")
    assert run(call, 1, 2, 3, work=work).lines == ["3 two"]


@pytest.mark.parametrize("option", ["--resume", "--resume-failed"])
def test_a_job_log_is_needed(call: Any, option: str) -> None:
    """Without one, the options are refused."""
    refused = call("run", option, "--work", "true", "--", "a")
    assert refused.status == 2
    assert "give --joblog FILE too" in refused.err


def test_a_log_that_cannot_be_read_is_refused(call: Any, here: Path) -> None:
    """Nothing is run."""
    (here / "log").mkdir()
    refused = run(call, 1)
    assert refused.status == 2
    assert "--joblog" in refused.err
