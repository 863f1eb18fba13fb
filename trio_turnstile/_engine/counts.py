"""The books of one step: what it received, what it passed on, and how each item ended.

Counters change here and nowhere else, so that a forgotten booking shows. The books balance at
every instant::

    received == completed + discarded + failed + diverted + cancelled + skipped + in_flight

``in_flight`` is counted and not derived: an item whose end is not booked stays in flight, and an
item whose receipt is not booked leaves ``in_flight`` below zero. How many items a step passed on
is counted separately from how its items ended, and has to equal what the next step received.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, final


@final
class Fate(StrEnum):
    """How an item can end."""

    COMPLETED = "completed"
    DISCARDED = "discarded"
    FAILED = "failed"
    DIVERTED = "diverted"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


@final
class Counts:
    """The books of one step, kept as it happens."""

    __slots__ = ("cut_off", "fates", "in_flight", "passed_on", "received", "retried")

    def __init__(self) -> None:
        self.received: int = 0
        """How many items the step was given."""
        self.in_flight: int = 0
        """How many of them it has in hand."""
        self.passed_on: int = 0
        """How many items it gave to the next step, or to the results of the pipeline."""
        self.retried: int = 0
        """How many attempts were made again after an error."""
        self.fates: dict[Fate, int] = dict.fromkeys(Fate, 0)
        """How many items ended in each way."""
        self.cut_off: list[Any] = []
        """The items that were cancelled."""

    def receive(self) -> None:
        """Book that the step was given an item."""
        self.received += 1
        self.in_flight += 1

    def settle(self, fate: Fate) -> None:
        """Book how an item ended."""
        self.in_flight -= 1
        self.fates[fate] += 1

    def cancel(self, item: object) -> None:
        """Book that an item was cancelled, and keep it."""
        self.settle(Fate.CANCELLED)
        self.cut_off.append(item)

    def pass_on(self) -> None:
        """Book that an item was put where the next step, or the user, will find it."""
        self.passed_on += 1

    def hand_over(self, following: Counts) -> None:
        """Book that an item went straight to the next step, which received it."""
        self.passed_on += 1
        following.received += 1
        following.in_flight += 1

    def retry(self, items: int) -> None:
        """Book another attempt at this many items."""
        self.retried += items
