"""The options of ``turnstile run`` that say how a run can be reached while it goes on."""

from __future__ import annotations

from typing import Annotated, final

import attrs
from cyclopts import Group, Parameter
from cyclopts.validators import Number

from ._arguments import UsageError

CONTROL = Group("Control from outside", sort_key=7)


@Parameter(name="*", group=CONTROL)
@final
@attrs.frozen(kw_only=True)
class ControlOptions:
    """How a run can be reached while it goes on."""

    no_control: Annotated[bool, Parameter(negative=(), show_default=False)] = False
    """Open no control socket. Then turnstile ctl and turnstile top cannot reach the run."""

    dashboard: Annotated[
        int | None,
        Parameter(validator=Number(gte=0, lte=65535)),
    ] = None
    """Serve a web page at this port of this machine; 0 picks a free port. The address of the
    page is printed when it is ready, with a token that is new each time. Needs the extra
    "dashboard"."""

    def __attrs_post_init__(self) -> None:
        """Check the options against each other.

        Raises:
          UsageError: if they contradict each other.
        """
        if self.no_control and self.dashboard is not None:
            raise UsageError(
                "--dashboard and --no-control do not go together: leave out one of the two"
            )
