"""The options of ``turnstile run`` that say how a run can be reached while it goes on."""

from __future__ import annotations

from typing import Annotated, final

import attrs
from cyclopts import Group, Parameter

CONTROL = Group("Control from outside", sort_key=7)


@Parameter(name="*", group=CONTROL)
@final
@attrs.frozen(kw_only=True)
class ControlOptions:
    """How a run can be reached while it goes on."""

    no_control: Annotated[bool, Parameter(negative=(), show_default=False)] = False
    """Open no control socket. Then turnstile ctl and turnstile top cannot reach the run."""
