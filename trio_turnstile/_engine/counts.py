"""The books of one step: what it received and what became of it.

They balance at every instant::

    received == completed + discarded + failed + diverted + cancelled + in_flight
"""

from __future__ import annotations

from typing import Literal, TypeAlias, final

import attrs

Fate: TypeAlias = Literal["completed", "discarded", "failed", "diverted", "cancelled"]
"""What can become of an item."""


@final
@attrs.define(eq=False)
class Counts:
    """What became of the items of a stage, kept as it happens."""

    received: int = 0
    in_flight: int = 0
    retried: int = 0
    fates: dict[Fate, int] = attrs.field(
        factory=lambda: dict.fromkeys(
            ("completed", "discarded", "failed", "diverted", "cancelled"), 0
        )
    )
