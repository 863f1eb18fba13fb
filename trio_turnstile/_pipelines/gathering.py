"""Batches: how items are gathered into lists, and when a list is full. Sans-I/O.

A batch ends when it has enough items or enough weight, with an item that ends it, or when
its oldest item has waited long enough. The age of the oldest item counts: if each new item
started the wait afresh, a slow trickle would never be flushed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Generic, Literal, TypeAlias, TypeVar, final

import attrs

from trio_turnstile._util import check_number, seconds, whole

T = TypeVar("T")

Trigger: TypeAlias = Literal["size", "weight", "until", "age", "flush"]
"""What ended a batch."""


@final
@attrs.frozen
class Batch:
    """How to gather items into batches: by size, weight or age, up to an item, and by key.

    Batches that are not full are flushed when the source ends and when the pipeline drains.

    Raises:
      ValueError: if nothing bounds a batch, or a weight has no bound.
    """

    size: int | None = attrs.field(default=None, validator=whole(1, optional=True))
    """The most items in a batch."""
    within: float | None = attrs.field(
        default=None, kw_only=True, validator=seconds(positive=True, optional=True)
    )
    """The longest that an item may wait in a batch that is not full, in seconds."""
    weight: Callable[[Any], float] | None = attrs.field(default=None, kw_only=True)
    """The weight of one item, for example `len`."""
    max_weight: float = attrs.field(default=math.inf, kw_only=True)
    """The most weight in a batch; an item that weighs more is a batch of its own."""
    key: Callable[[Any], Hashable] | None = attrs.field(default=None, kw_only=True)
    """Items with different keys go to different batches."""
    until: Callable[[Any], bool] | None = attrs.field(default=None, kw_only=True)
    """Returns whether an item ends its batch; the item is then the last member."""

    def __attrs_post_init__(self) -> None:
        check_number("max_weight", self.max_weight, positive=True)
        if (self.weight is None) != (self.max_weight == math.inf):
            raise ValueError("weight and max_weight must be given together")
        if (self.size, self.within, self.weight, self.until) == (None,) * 4:
            raise ValueError(
                "nothing bounds a batch: give size, within, until, or weight and max_weight"
            )


@final
@attrs.frozen
class Gathered(Generic[T]):
    """A batch that has ended."""

    items: tuple[T, ...]
    trigger: Trigger
    failure: Exception | None = None
    """Why its only member could not be gathered: a function of the `Batch` raised it."""


@attrs.define(eq=False)
class _Open(Generic[T]):
    """A batch that is being gathered."""

    since: float
    items: list[T] = attrs.field(factory=list)
    weight: float = 0.0


@final
class Gatherer(Generic[T]):
    """Gathers items into batches, as a `Batch` says."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._open: dict[Hashable, _Open[T]] = {}  # in the order of their oldest items

    def __len__(self) -> int:
        return sum(len(gathering.items) for gathering in self._open.values())

    def add(self, item: T, now: float) -> list[Gathered[T]]:
        """Add an item at the time ``now``, in seconds; return the batches that it ended.

        Raises:
          Exception: what the key, weight or until function raises; the item is not added.
          TypeError, ValueError: if the weight is negative or not a number.
        """
        batch = self._batch
        key = None if batch.key is None else batch.key(item)
        weight = 0.0 if batch.weight is None else batch.weight(item)
        check_number("weight", weight)  # before anything changes
        last = batch.until is not None and batch.until(item)
        ended: list[Gathered[T]] = []
        gathering = self._open.get(key)
        if gathering is not None and gathering.weight + weight > batch.max_weight:
            ended.append(self._end(key, "weight"))
            gathering = None
        if gathering is None:
            gathering = self._open[key] = _Open(now)
        gathering.items.append(item)
        gathering.weight += weight
        if batch.size is not None and len(gathering.items) >= batch.size:
            ended.append(self._end(key, "size"))
        elif batch.weight is not None and gathering.weight >= batch.max_weight:
            ended.append(self._end(key, "weight"))
        elif last:
            ended.append(self._end(key, "until"))
        return ended

    @property
    def due(self) -> float:
        """When the oldest batch will be too old, in seconds; infinity if none will."""
        oldest = next(iter(self._open.values()), None)
        if oldest is None or self._batch.within is None:
            return math.inf
        return oldest.since + self._batch.within

    def aged(self, now: float) -> list[Gathered[T]]:
        """End and return the batches that are too old."""
        ended: list[Gathered[T]] = []
        while self.due <= now:
            ended.append(self._end(next(iter(self._open)), "age"))
        return ended

    def flush(self) -> list[Gathered[T]]:
        """End and return all batches."""
        return [self._end(key, "flush") for key in tuple(self._open)]

    def _end(self, key: Hashable, trigger: Trigger) -> Gathered[T]:
        return Gathered(tuple(self._open.pop(key).items), trigger)


@final
class BatchError(Exception):
    """Raised by a step that takes batches: these members failed, and the others are done.

    Args:
      errors: the error of each member that failed, by its index in the batch.
      passed_on: what a processor passes on for the other members.
    """

    def __init__(
        self, errors: Mapping[int, Exception], *, passed_on: Iterable[object] = ()
    ) -> None:
        super().__init__(errors)
        self.errors: dict[int, Exception] = dict(errors)
        self.passed_on: tuple[object, ...] = tuple(passed_on)

    def __str__(self) -> str:
        return f"{len(self.errors)} members of the batch failed: {self.errors!r}"
