"""Claims to the tokens of a limiter: what is asked for, who waits, and whose turn it is.

The `Line` in front of a limiter keeps them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Protocol, final

import trio

from trio_turnstile._texts import shown


@final
class Claim:
    """What somebody asks of a limiter."""

    __slots__ = ("key", "priority", "width")  # not attrs: one may be made for each call

    def __init__(self, width: int = 1, key: Hashable = None, priority: int = 0) -> None:
        self.width: int = width
        """How many tokens."""
        self.key: Hashable = key
        """On whose account, if the limiter is shared by keys; ``None`` for nobody's."""
        self.priority: int = priority
        """Higher ones come first, if the limiter is shared by keys."""


ONE = Claim()
"""The claim of a caller that asks for nothing else."""


@final
class TooWide(Exception):
    """A limiter refused a request for more tokens than its limit.

    Raised where several tokens are taken together, as by `Limiter.tokens`: immediately if the
    limit is lower than the request, and while the request waits if the limit falls that far.
    A limit of 0 does not end a request. Nor does a pause, or tokens that are withheld, because
    these end on their own.

    Args:
      limiter: the name of the limiter.
      tokens: how many tokens were asked for.
      limit: the limit, in tokens.
      key: the key that has this limit, if it is the limit of one key of a `SharedLimiter`.
    """

    def __init__(self, limiter: str, tokens: int, limit: float, key: object = None) -> None:
        super().__init__(limiter, tokens, limit, key)
        self.limiter = limiter
        self.tokens = tokens
        self.limit = limit
        self.key = key

    def __repr__(self) -> str:  # what a `ConcurrentError` says of its cause
        return f"TooWide({str(self)!r})"

    def __str__(self) -> str:
        whose = f"limiter {self.limiter!r}"
        if self.key is not None:
            whose = f"key {shown(self.key)} of {whose}"
        return (
            f"{whose} has a limit of {self.limit} tokens, and {self.tokens} were asked for at "
            "once: ask for fewer or raise the limit"
        )


@final
class Request:
    """A claim that waits."""

    __slots__ = ("arrived", "borrower", "claim", "error", "task")

    def __init__(self, borrower: object, claim: Claim) -> None:
        self.borrower: object = borrower
        self.claim: Claim = claim
        self.task: trio.lowlevel.Task = trio.lowlevel.current_task()
        self.arrived: float = trio.current_time()
        self.error: Exception | None = None
        """The error that the waiter gets in place of tokens."""


class Order(Protocol):
    """Who waits, whose turn it is, and who has tokens."""

    @property
    def size(self) -> int:
        """How many wait."""
        ...

    def check(self, claim: Claim) -> None:
        """Raise `TooWide` if a claim to several tokens could never be met."""
        ...

    def may_pass(self, claim: Claim) -> bool:
        """Return whether a newcomer need not wait for anything but tokens."""
        ...

    def add(self, request: Request) -> None:
        """Add a request that waits."""
        ...

    def discard(self, request: Request) -> None:
        """Remove a request that no longer waits."""
        ...

    def first(self) -> Request | None:
        """Return the request whose turn it is, if any could be served now."""
        ...

    def waiting(self) -> Iterable[Request]:
        """Return those who wait."""
        ...

    def took(self, borrower: object, claim: Claim) -> None:
        """Note that a borrower has tokens."""
        ...

    def gave(self, borrower: object, width: int) -> None:
        """Note that a borrower has given its tokens back."""
        ...

    def withhold(self, borrower: object, seconds: float) -> bool:
        """Withhold a token without lowering the limit; false if this order cannot do so."""
        ...

    def resume(self) -> None:
        """Put the tokens that were withheld here back into use."""
        ...
