"""The options of ``turnstile run`` that say how outputs are printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, final

import attrs
from cyclopts import Parameter

from ._arguments import UsageError
from ._in_order import InOrder
from ._options import OUTPUT
from ._outlet import Collected, LineByLine, Outlet, PassedOn
from ._printer import AsTheyEnd, Order, Printer


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
    """Print whole lines as they come, and not when an operation has ended. With --keep-order
    the lines of one operation at a time. The output of failed attempts is printed too."""

    ungroup: Annotated[
        bool, Parameter(name=["--ungroup", "-u"], negative=(), show_default=False)
    ] = False
    """Let the commands write to standard output themselves. Outputs are mixed; commands see
    a terminal if there is one. The job log shows 0 bytes received."""

    def check(self) -> None:
        """Check that the options go together.

        Raises:
          UsageError: if they do not.
        """
        others = {"--keep-order": self.keep_order, "--line-buffer": self.line_buffer}
        for name, given in others.items():
            if self.ungroup and given:
                raise UsageError(
                    f"--ungroup and {name} do not go together: with --ungroup the commands write "
                    "to standard output themselves, so leave out one of the two"
                )

    def make_order(self) -> Order:
        """Return the order in which to print."""
        return InOrder() if self.keep_order else AsTheyEnd()

    def make_outlet(
        self, printer: Printer, order: Order, on_lost: Callable[[OSError], object]
    ) -> Outlet:
        """Return where the output of operations goes.

        Args:
          printer: prints it.
          order: the order of the printer.
          on_lost: called if standard output has no reader any more.
        """
        if self.ungroup:
            return PassedOn(on_lost)
        return LineByLine(printer, order) if self.line_buffer else Collected(printer)
