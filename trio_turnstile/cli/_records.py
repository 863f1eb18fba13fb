"""The records that a run writes of its operations: the job log, and the table of results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import final

from ._joblog import Entry, JobLog
from ._output import Pipe, Stream
from ._results_table import ResultsTable


@final
class Records:
    """Writes entries of operations. A file that cannot be written is given up, with a note.

    Args:
      joblog: the job log, if the user wants one.
      table: the table of results, if the user wants one.
      note: shows a line to the user.
    """

    def __init__(
        self, joblog: JobLog | None, table: ResultsTable | None, note: Callable[[str], object]
    ) -> None:
        self.lost = False
        """Whether some entry could not be written."""
        self._joblog = joblog
        self._table = table
        self._note = note

    def add(self, entry: Entry, columns: Sequence[str], streams: Sequence[Pipe]) -> None:
        """Write an operation that has ended.

        Args:
          entry: the entry to write.
          columns: the columns of its input.
          streams: its output.
        """
        outputs = [stream.pieces() for stream in streams if isinstance(stream, Stream)]
        with self._told("--results"):
            if self._table is not None:
                self._table.add(entry, columns, outputs)
        with self._told("the job log"):
            if self._joblog is not None:
                self._joblog.add(entry)

    def close(self) -> None:
        """Close the files."""
        with self._told("--results"):
            if self._table is not None:
                self._table.close()
        with self._told("the job log"):
            if self._joblog is not None:
                self._joblog.close()

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.lost = True
            self._note(f"stopped writing {name}: {error.strerror}")
