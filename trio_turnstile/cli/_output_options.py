"""The options of ``turnstile run`` that say how outputs are printed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, final

import attrs
from cyclopts import Parameter

from ._arguments import UsageError
from ._columns import Columns
from ._in_order import InOrder
from ._label import Labels
from ._options import OUTPUT, Cmd
from ._outlet import Collected, LineByLine, Outlet, PassedOn
from ._printer import AsTheyEnd, Order, Printer
from ._results import Results
from ._results_formats import JsonRows, RowFormat, SeparatedRows
from ._results_table import ResultsTable
from ._template import Template

_TABLES: Mapping[str, Callable[[Columns], RowFormat]] = {
    ".csv": lambda columns: SeparatedRows(columns, ","),
    ".tsv": lambda columns: SeparatedRows(columns, "\t"),
    ".json": lambda _: JsonRows(),
}
"""The tables that ``--results`` can write, by the suffix of the file name."""


@Parameter(name="*", group=OUTPUT)
@final
@attrs.frozen(kw_only=True)
class OutputOptions:
    """How to print the outputs of operations."""

    keep_order: Annotated[
        bool, Parameter(name=["--keep-order", "-k"], negative=(), show_default=False)
    ] = False
    """Print the outputs in the order of the inputs. The default is the order in which the
    operations end."""

    line_buffer: Annotated[
        bool, Parameter(name=["--line-buffer", "--lb"], negative=(), show_default=False)
    ] = False
    """Print whole lines as they come, instead of waiting for the operation to end. With
    --keep-order, print the lines of one operation at a time. The output of failed attempts
    is printed too."""

    ungroup: Annotated[
        bool, Parameter(name=["--ungroup", "-u"], negative=(), show_default=False)
    ] = False
    """Let the commands write to standard output directly. Outputs may be mixed, and commands
    see a terminal if there is one. The job log shows 0 bytes received."""

    tag: Annotated[bool, Parameter(negative=(), show_default=False)] = False
    """Put the input and a tab before each line of output."""

    tagstring: str | None = None
    """Put this text and a tab before each line of output. It can contain placeholders."""

    verbose: Annotated[
        bool, Parameter(name=["--verbose", "-v"], negative=(), show_default=False)
    ] = False
    """Print the --work command before its output, to standard output."""

    results: Path | None = None
    """Also write the output into this folder, as it comes. Each operation has a subfolder,
    named after its input, with the files stdout, stderr and seq. If the name ends with .csv,
    .tsv or .json: append a row to this table, or a line of JSON, when an operation ends."""

    on_finish: Cmd | None = None
    """Run this command once, after everything else, with TURNSTILE_COMPLETED,
    TURNSTILE_FAILED, TURNSTILE_STATUS and TURNSTILE_SECONDS in its environment. It does not
    change the exit status."""

    def check(self) -> None:
        """Check that the options can be combined.

        Raises:
          UsageError: if they cannot.
        """
        others = {
            "--keep-order": self.keep_order,
            "--line-buffer": self.line_buffer,
            "--tag": self.tag,
            "--tagstring": self.tagstring is not None,
            "--results": self.results is not None,
        }
        for name, given in others.items():
            if self.ungroup and given:
                raise UsageError(
                    f"--ungroup and {name} do not go together: with --ungroup the commands write "
                    "to standard output directly, so leave out one of the two"
                )
        if self._has_table and self.line_buffer:
            raise UsageError(
                f"--line-buffer and --results FILE{self._suffix} do not go together: a row holds "
                "all the output of an operation; use --results DIR"
            )
        if self.tag and self.tagstring is not None:
            raise UsageError(
                "--tag and --tagstring do not go together: --tag is short for --tagstring {}"
            )

    def make_order(self) -> Order:
        """Return the order in which to print."""
        return InOrder() if self.keep_order else AsTheyEnd()

    def make_outlet(
        self,
        printer: Printer,
        order: Order,
        columns: Columns,
        work: Template,
        on_lost: Callable[[OSError], object],
    ) -> Outlet:
        """Return where the output of operations goes.

        Args:
          printer: prints it.
          order: the order of the printer.
          columns: what is known about the columns of the inputs.
          work: the command that --verbose shows.
          on_lost: called if standard output no longer has a reader.
        """
        tag = "{}" if self.tag else self.tagstring
        labels = Labels(
            tag=None if tag is None else Template.of_text(tag, columns),
            command=work if self.verbose else None,
        )
        if self.ungroup:
            return PassedOn(printer, labels, on_lost)
        folder = None if self._has_table else self.results
        results = None if folder is None else _open_results(folder)
        if self.line_buffer:
            return LineByLine(printer, order, labels, results)
        return Collected(printer, labels, results)

    def open_table(self, columns: Columns) -> ResultsTable | None:
        """Return the table to write rows of operations to, if the user wants one.

        Raises:
          UsageError: if the table cannot be written to.
        """
        if self.results is None or not self._has_table:
            return None
        try:
            return ResultsTable(self.results, _TABLES[self._suffix](columns))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise UsageError(
                f"--results cannot append rows to {str(self.results)!r}: {why}; name another file"
            ) from None

    @property
    def shows_lines(self) -> bool:
        """Whether output is printed as it comes."""
        return self.line_buffer

    @property
    def _has_table(self) -> bool:
        return self._suffix in _TABLES

    @property
    def _suffix(self) -> str:
        return "" if self.results is None else self.results.suffix


def _open_results(folder: Path) -> Results:
    try:
        return Results(folder)
    except OSError as error:
        raise UsageError(
            f"--results must name a folder that can be written to, as in --results out, but "
            f"{str(folder)!r} is not one: {error.strerror}"
        ) from None
