"""The job log has the format of GNU parallel's."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import attrs
import pytest

from trio_turnstile.cli._joblog import Entry, JobLog

HEADER = b"Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"

ENTRY = Entry(
    seq=3,
    started=1_700_000_000.1234,
    runtime=2.5,
    received=12,
    exitval=1,
    signal=15,
    command="gzip 'a'",
)


def test_a_new_log_gets_a_header_and_an_old_one_does_not(tmp_path: Path) -> None:
    """Entries are appended in the order in which they are added."""
    for _ in range(2):
        log = JobLog(tmp_path / "log")
        log.add(ENTRY)
        log.close()
    line = b"3\t:\t1700000000.123\t     2.500\t0\t12\t1\t15\tgzip 'a'\n"
    assert (tmp_path / "log").read_bytes() == HEADER + line + line


def test_an_entry_is_in_the_file_as_soon_as_it_is_added(tmp_path: Path) -> None:
    """The log can be read while the run goes on, and after it was killed."""
    log = JobLog(tmp_path / "log")
    log.add(ENTRY)
    assert (tmp_path / "log").read_bytes().count(b"\n") == 2
    log.close()


def test_a_log_that_failed_once_is_left_alone(tmp_path: Path, soft_limit: Any) -> None:
    """The first failure raises; later entries are dropped, even if there is room again."""
    log = JobLog(tmp_path / "log")
    with soft_limit(resource.RLIMIT_FSIZE, len(HEADER)), pytest.raises(OSError, match="large"):
        log.add(ENTRY)
    log.add(ENTRY)
    log.close()
    assert (tmp_path / "log").read_bytes() == HEADER


@pytest.mark.parametrize("room", [0, 1, 20])
def test_a_line_is_whole_or_absent(room: int, tmp_path: Path, soft_limit: Any) -> None:
    """What a full disk took of a line is taken back."""
    log = JobLog(tmp_path / "log")
    with (
        soft_limit(resource.RLIMIT_FSIZE, len(HEADER) + room),
        pytest.raises(OSError, match="large"),
    ):
        log.add(ENTRY)
    log.close()
    assert (tmp_path / "log").read_bytes() == HEADER


def test_a_header_is_whole_or_absent(tmp_path: Path, soft_limit: Any) -> None:
    """A log that cannot even take its header stays empty."""
    with soft_limit(resource.RLIMIT_FSIZE, 10), pytest.raises(OSError, match="large"):
        JobLog(tmp_path / "log")
    assert (tmp_path / "log").read_bytes() == b""


def test_a_torn_line_stays_a_line_of_its_own(tmp_path: Path) -> None:
    """A run that was killed while it wrote does not spoil the first line of the next."""
    (tmp_path / "log").write_bytes(HEADER + b"3\t:\t17")
    log = JobLog(tmp_path / "log")
    log.add(ENTRY)
    log.close()
    assert (tmp_path / "log").read_bytes() == HEADER + b"3\t:\t17\n" + ENTRY.line()


def test_a_command_stays_on_its_line() -> None:
    """Newlines in a command become NULs; bytes that are not text are kept."""
    command = "echo 'a\tb\nc'\udcff"
    assert attrs.evolve(ENTRY, command=command).line().endswith(b"\techo 'a\tb\0c'\xff\n")
