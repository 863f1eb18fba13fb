"""The options of ``turnstile run`` that say how outputs are printed."""

from __future__ import annotations

from typing import Annotated, final

import attrs
from cyclopts import Parameter

from ._in_order import InOrder
from ._options import OUTPUT
from ._printer import AsTheyEnd, Order


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

    def make_order(self) -> Order:
        """Return the order in which to print."""
        return InOrder() if self.keep_order else AsTheyEnd()
