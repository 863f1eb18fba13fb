"""`Batch`: the records that are stored in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, final

import attrs

from trio_turnstile import Decision

from ._rows import Row, Sample


@final
@attrs.frozen(eq=False)
class Decided:
    """A decision with its number in the session."""

    number: int
    decision: Decision


@final
@attrs.frozen(eq=False)
class Failed:
    """An error of a run, with its number in the session; its row is already made."""

    number: int
    run: Row
    row: Row


@final
@attrs.frozen(eq=False)
class Ended:
    """The end of a run, with its last counts."""

    run: Row
    counts: Sequence[Row]


Recorded: TypeAlias = Decided | Failed | Ended
"""The records that are dropped last."""


@final
@attrs.frozen(eq=False)
class Batch:
    """The records that are stored in one transaction."""

    session: Row
    """The row of the session at this moment."""
    samples: Sequence[Sample] = ()
    events: Sequence[Recorded] = ()
    runs: Sequence[Row] = ()
    """Rows of all runs that occur in this batch, each once."""
    counts: Sequence[tuple[str, Row]] = ()
    """Rows of counts, each with the UUID of its run."""
    averages: Mapping[str, Mapping[int, float | None]] = attrs.field(factory=dict)
    """The averages of each limiter."""
