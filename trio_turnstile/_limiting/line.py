"""`Line`: the queue of those who wait for several tokens at once, in front of a limiter's tokens.

trio's queue gives one token to each task in it, which is all that a plain limiter needs. A *claim*
to several tokens waits here, and so does whoever comes after it. Nobody is overtaken: those who
were in trio's queue before come first, then those in the line. When trio's queue is empty and
fewer tokens are free than the first in the line needs, the free tokens are reserved until there
are enough of them. So narrow claims do not overtake a wide one for ever, and because only the
first in the line gathers tokens, no two claims wait for each other.

A claim to more than the limit would never be met, and would hold up everybody behind it, so it
ends with `TooWide`. This applies to limits that come from signals, a policy or the operator. A
pause, withheld tokens and a breaker end on their own, so the claim waits for them to end.

An `Order` says whose turn it is. Here it is first come, first served; a limiter that is shared by
keys has an order of its own.

In trio's limiter a claim to several tokens is one borrower, and its other tokens are taken off
trio's total. An operation costs no more for a wide claim than for a narrow one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import final

import trio
from trio.lowlevel import enable_ki_protection

from .claims import Claim, Order, Request, TooWide
from .controller import LimitController
from .events import Bound

_PASSING = frozenset({"pause", "withheld", "breaker"})
"""The bounds of a limit that end on their own."""


def standing(bounds: Mapping[str, Bound]) -> float:
    """Return what the limit will be once the bounds that end on their own have ended."""
    return min(bound.tokens for name, bound in bounds.items() if name not in _PASSING)


@final
class FirstCome:
    """Serves requests in the order in which they came."""

    __slots__ = ("_queue",)

    def __init__(self) -> None:
        self._queue: dict[Request, None] = {}

    @property
    def size(self) -> int:
        return len(self._queue)

    def check(self, claim: Claim) -> None:
        """Do nothing: the limiter has one limit, and the line checks it."""

    def may_pass(self, claim: Claim) -> bool:
        return not self._queue

    def add(self, request: Request) -> None:
        self._queue[request] = None

    def discard(self, request: Request) -> None:
        del self._queue[request]

    def first(self) -> Request | None:
        return next(iter(self._queue), None)

    def waiting(self) -> Iterable[Request]:
        return self._queue

    def took(self, borrower: object, claim: Claim) -> None:
        """Do nothing: turns do not depend on who has tokens."""

    def gave(self, borrower: object, width: int) -> None:
        """Do nothing, for the same reason."""

    def withhold(self, borrower: object, seconds: float) -> bool:
        return False

    def resume(self) -> None:
        """Do nothing: this order withholds no tokens."""


@final
class Line:
    """The tokens of a limiter, and the claims that wait for them.

    Args:
      inner: the tokens, and the queue of those who came while the line was empty.
      controller: knows the name of the limiter, for errors.
    """

    __slots__ = (
        "_beyond",
        "_controller",
        "_standing",
        "_wide",
        "_widths",
        "inner",
        "limit",
        "order",
    )

    def __init__(self, inner: trio.CapacityLimiter, controller: LimitController) -> None:
        self.inner: trio.CapacityLimiter = inner
        self.limit: float = inner.total_tokens
        """The limit, in tokens."""
        self.order: Order = FirstCome()
        self._controller = controller
        self._standing: float = self.limit
        self._beyond = 0
        """The tokens that borrowers hold beyond their first."""
        self._widths: dict[object, int] = {}
        """How many tokens a borrower has, if it has several."""
        self._wide: dict[Request, None] = {}
        """The requests for several tokens."""

    @property
    def borrowed(self) -> int:
        """How many tokens are borrowed."""
        return self.inner.borrowed_tokens + self._beyond

    @property
    def waiting(self) -> int:
        """How many wait, here and in trio's queue."""
        return self.inner.statistics().tasks_waiting + self.order.size

    @property
    def in_use(self) -> bool:
        """Whether anybody waits here, or has several tokens."""
        return bool(self._widths or self.order.size)

    @enable_ki_protection
    def take_nowait(self, borrower: object, claim: Claim) -> None:
        """Take the tokens of a claim, or raise `trio.WouldBlock` or `TooWide`."""
        width = claim.width
        if width > 1:
            self._check_width(width)
            self.order.check(claim)
            if width > self.inner.available_tokens:
                raise trio.WouldBlock
        if not self.order.may_pass(claim):
            raise trio.WouldBlock
        self.inner.acquire_on_behalf_of_nowait(borrower)
        if width > 1:
            self._widen(borrower, width)
        self.order.took(borrower, claim)

    @enable_ki_protection
    async def wait(self, borrower: object, claim: Claim) -> None:
        """Wait in turn for the tokens of a claim that could not be met at once."""
        self._check_borrower(borrower)
        request = Request(borrower, claim)
        self.order.add(request)
        if claim.width > 1:
            self._wide[request] = None
        self.settle()

        def abort(_: object) -> trio.lowlevel.Abort:
            self._dismiss(request)
            self.settle()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        if request.error is not None:
            raise request.error

    @enable_ki_protection
    def gave_back(self, borrower: object) -> None:
        """Note that a borrower has given its token back to trio's limiter."""
        width = self._widths.pop(borrower, 1) if self._widths else 1
        self._beyond -= width - 1
        self.order.gave(borrower, width)
        if width > 1 or self.order.size:
            self.settle()

    @enable_ki_protection
    def set_limit(self, tokens: float, standing: float) -> None:
        """Move the limit, and send away those whose claims have become too wide.

        Args:
          tokens: the limit.
          standing: what the limit will be once pauses and withheld tokens have ended.
        """
        if not self.in_use:
            self.inner.total_tokens = tokens
            self.limit, self._standing = tokens, standing
            return
        trio.CapacityLimiter(tokens)  # raises what an assignment raises
        self.limit, self._standing = tokens, standing
        for request in tuple(self._wide):
            self._check(request)
        self.settle()

    def resume(self) -> None:
        """Put the tokens that the order has withheld back into use."""
        self.order.resume()
        self.settle()

    @enable_ki_protection
    def check_again(self) -> None:
        """Send away those whose claims have become too wide for a limit of the order."""
        for request in tuple(self._wide):
            self._check(request)
        self.settle()

    def close(self, error: Callable[[], Exception]) -> None:
        """Send away everybody who waits here."""
        for request in tuple(self.order.waiting()):
            self._send_away(request, error())

    @enable_ki_protection
    def settle(self) -> None:
        """Give tokens to those whose turn it is, and reserve the rest for the next in line."""
        inner = self.inner
        while True:
            free_for_trio = max(self.limit - self._beyond, 0)
            if inner.total_tokens != free_for_trio:
                inner.total_tokens = free_for_trio  # trio serves its own queue first
            request = self.order.first()
            if request is None:
                return
            if request.claim.width > inner.available_tokens:
                if inner.available_tokens > 0:
                    inner.total_tokens = inner.borrowed_tokens
                return
            self._serve(request)

    # ---- inside ----

    def _serve(self, request: Request) -> None:
        self._dismiss(request)
        try:
            self.inner.acquire_on_behalf_of_nowait(request.borrower)
        except RuntimeError as error:  # it got a token meanwhile, in another task
            request.error = error
        else:
            if request.claim.width > 1:
                self._widen(request.borrower, request.claim.width)
            self.order.took(request.borrower, request.claim)
        trio.lowlevel.reschedule(request.task)

    def _widen(self, borrower: object, width: int) -> None:
        """Give a borrower more tokens than its first."""
        self._widths[borrower] = width
        self._beyond += width - 1
        self.inner.total_tokens = max(self.limit - self._beyond, 0)

    def _dismiss(self, request: Request) -> None:
        self.order.discard(request)
        self._wide.pop(request, None)

    def _send_away(self, request: Request, error: Exception) -> None:
        self._dismiss(request)
        request.error = error
        trio.lowlevel.reschedule(request.task)

    def _check(self, request: Request) -> None:
        try:
            self._check_width(request.claim.width)
            self.order.check(request.claim)
        except TooWide as error:
            self._send_away(request, error)

    def _check_width(self, width: int) -> None:
        # A limit of 0 serves nobody, so it counts as a pause, whatever caused it.
        if 0 < self._standing < width:
            raise TooWide(self._controller.name, width, self._standing)

    def _check_borrower(self, borrower: object) -> None:
        """Raise `RuntimeError` if the borrower has a token, as trio does."""
        total = self.inner.total_tokens
        self.inner.total_tokens = 0  # so that it would block, which trio checks after that
        try:
            self.inner.acquire_on_behalf_of_nowait(borrower)
        except trio.WouldBlock:
            pass
        finally:
            self.inner.total_tokens = total
