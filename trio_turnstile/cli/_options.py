"""Types of options, and the error for wrong options, which the commands share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias, final

from cyclopts import Group, Parameter, Token

from ._durations import Duration
from ._rates import Size

PACE = Group("Pace", sort_key=3.5)
"""Options for when operations start."""

OUTPUT = Group("Output", sort_key=5)
"""Options for the output."""

RECORDS = Group("Records, and going on from them", sort_key=6)
"""Options for the records of a run."""


@final
class Cmd(str):
    """A shell command; ``--help`` shows the name of this class."""

    __slots__ = ()


def to_duration(_: Any, tokens: Sequence[Token]) -> Duration:
    """Read an option that is a duration."""
    return Duration.parse(tokens[0].value)


def to_size(_: Any, tokens: Sequence[Token]) -> Size:
    """Read an option that is a number of bytes."""
    return Size.parse(tokens[0].value)


Seconds: TypeAlias = Annotated[Duration, Parameter(converter=to_duration)]
"""An option that is a duration, such as ``30s``."""
