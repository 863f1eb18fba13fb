"""`Override`: a limit that somebody has set past every rule, for a time or until released."""

from __future__ import annotations

import math
from collections.abc import Mapping
from time import time as unix_time
from typing import final

import attrs


@final
@attrs.frozen
class Asker:
    """Who asks for a change, and what they note."""

    by: str | None = None
    note: str | None = None

    @property
    def why(self) -> Mapping[str, object]:
        """What a bound says of them; empty if they said nothing."""
        return {key: value for key, value in attrs.asdict(self).items() if value is not None}


NOBODY = Asker()
"""The asker when nobody in particular asks."""


@final
@attrs.frozen
class Override:
    """A limit that somebody has set with `Turnstile.ask`, past every rule."""

    tokens: float
    """The limit, in tokens."""
    by: str | None
    """Who set it, if they said so."""
    note: str | None
    """What they noted, if anything."""
    time: float
    """When it was set, on trio's clock, in seconds."""
    until: float = math.inf
    """When it ends automatically, on trio's clock; infinity for never."""
    wall_time: float = attrs.field(factory=unix_time, eq=False)
    """When it was set, as a Unix time, in seconds."""

    @property
    def wall_until(self) -> float:
        """When it ends automatically, as a Unix time, in seconds; infinity for never."""
        return self.wall_time + (self.until - self.time)

    @property
    def evidence(self) -> Mapping[str, object]:
        """What a decision says about it."""
        return {"override": self.tokens, **self.why}

    @property
    def why(self) -> Mapping[str, object]:
        """What its bound says."""
        end = {} if self.until == math.inf else {"until": self.until}
        asker = Asker(self.by, self.note)
        return {"reason": "override", "time": self.time, **end, **asker.why}
