"""The options of ``turnstile run`` that say how outputs are printed."""

from __future__ import annotations

from typing import Annotated, final

import attrs
from cyclopts import Parameter

from ._in_order import InOrder
from ._options import OUTPUT
from ._outlet import Collected, LineByLine, Outlet
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

    def make_outlet(self, printer: Printer, order: Order) -> Outlet:
        """Return where the output of operations goes."""
        return LineByLine(printer, order) if self.line_buffer else Collected(printer)

    def make_order(self) -> Order:
        """Return the order in which to print."""
        return InOrder() if self.keep_order else AsTheyEnd()
