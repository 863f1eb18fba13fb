"""`Window`: how many items a stage may have in hand."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeAlias, final

from trio_turnstile._limiting.either import AnyLimiter
from trio_turnstile._util import check_whole

from .counts import Counts

WINDOW_SLACK = 64
"""How much wider than the limit a window is, unless the user says otherwise.

Another worker is hired only for a free token, so the slack costs nothing until items
back off, clean up or wait to be passed on. Then other items go on beside them."""

Size: TypeAlias = Callable[[], float]
"""Returns the width of a window, which may change at any time."""


def following(limiters: Collection[AnyLimiter]) -> Size:
    """Return the default width: the limits, and a little more."""
    first, *others = limiters
    if not others:  # a sum costs twice as much, and a full window is asked after each item
        return lambda: first.total_tokens + WINDOW_SLACK
    return lambda: sum(limiter.total_tokens for limiter in limiters) + WINDOW_SLACK


@final
class Window:
    """Bounds how many items a stage has in hand, whether they run, wait or back off.

    Args:
      counts: the books, with the number of items in hand.
      size: the width, if the user gave one.
      default: returns the width if the user gave none.
      certain: a number of items for which there is room whatever ``default`` returns:
        below it, no limiter is asked.
    """

    def __init__(
        self, counts: Counts, size: int | None, default: Size, certain: int = WINDOW_SLACK
    ) -> None:
        if size is not None:
            check_whole("window", size, 1)
        self._counts = counts
        self._fixed = size
        self._default = default
        self._certain = certain if size is None else size

    @property
    def size(self) -> float:
        """How many items may be in hand."""
        return self._default() if self._fixed is None else self._fixed

    def fits(self, in_hand: int) -> bool:
        """Return whether there is room for one more item beside this many."""
        return in_hand < self._certain or in_hand < self.size

    def has_room(self) -> bool:
        """Return whether one more item may be taken in hand."""
        return self.fits(self._counts.in_flight)
