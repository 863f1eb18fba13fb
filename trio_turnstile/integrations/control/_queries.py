"""The queries of requests."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class LimitersQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which limiters to list."""

    like: Annotated[str, Meta(max_length=200, description="a part of their names")] = ""
    after: Annotated[str, Meta(max_length=1000, description="the last name of the page before")] = (
        ""
    )
    limit: Annotated[int, Meta(ge=1, le=1000, description="how many at most")] = 100


class HistoryQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which samples to return."""

    since: Annotated[float | None, Meta(description="a Unix time")] = None
    until: Annotated[float | None, Meta(description="a Unix time")] = None
    points: Annotated[int, Meta(ge=2, le=5000, description="how many at most")] = 600


class EventsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which events to send."""

    limiters: Annotated[
        str, Meta(max_length=10_000, description="names, separated by commas; empty for all")
    ] = ""
    every: Annotated[float, Meta(ge=0.1, le=60, description="seconds between two states")] = 1.0

    @property
    def names(self) -> frozenset[str] | None:
        """The names of the limiters; ``None`` if there are none."""
        return frozenset(name for n in self.limiters.split(",") if (name := n.strip())) or None
