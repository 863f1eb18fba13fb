"""Verdicts: what error policies decide about an error. Frozen values.

The engine carries them out; see `Attempts`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias, final

import attrs
import trio

from trio_turnstile._errors import ConcurrentError

from .budget import RetryBudget


@final
@attrs.frozen
class RetryIn:
    """The verdict to try again, this many seconds from now."""

    seconds: float
    budget: RetryBudget | None = None
    """The budget that the retry has to be paid from, if any."""
    spends_try: bool = True
    """Whether the failure counts among the attempts that policies see.

    If not, the next `ConcurrentError` has the same ``attempt`` as this one.
    """


@final
@attrs.frozen
class Fail:
    """The verdict to count the item as failed and to go on with the rest."""


@final
@attrs.frozen
class Stop:
    """The verdict to count the item as failed and, past a tolerance, to stop the run."""

    when: Literal["soon", "now"] = "now"
    """``"soon"`` lets what is in flight finish; ``"now"`` cancels it."""
    failures: int = 1
    """Stop once at least this many items have failed ..."""
    share: float = 0.0
    """... and at least this share of the items that have ended."""
    by: str = attrs.field(default="", eq=False)
    """Which policy gave the verdict, for people."""

    def due(self, failed: int, settled: int) -> bool:
        """Return whether the tolerance is used up.

        Args:
          failed: how many items have failed, the present one included.
          settled: how many items have ended, in whatever way.
        """
        return failed >= self.failures and failed >= self.share * settled


Sink: TypeAlias = (
    trio.MemorySendChannel[ConcurrentError] | Callable[[ConcurrentError], Awaitable[object]]
)
"""Where a dead letter goes: a channel, or an async function that keeps it before it returns."""


@final
@attrs.frozen
class Divert:
    """The verdict to send the error, with its item, to another flow.

    The item counts as diverted once the letter is sent, and not before.
    """

    sink: Sink


Verdict: TypeAlias = RetryIn | Fail | Divert | Stop
