"""`Lane`: what a shared limiter knows of one key: its limit, its tokens, and who waits for them."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Hashable, Iterable
from typing import final

from .claims import Request
from .controller import LimitController
from .events import Decision
from .portion import Portion
from .sampling import Sampler


@final
class Queue:
    """The requests of one key and one priority, first come, first served."""

    __slots__ = ("is_listed", "lane", "requests")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.requests: dict[Request, None] = {}
        self.is_listed = False
        """Whether it is in the heap of the queues that may be served."""

    @property
    def head(self) -> Request:
        """The first that waits."""
        return next(iter(self.requests))


@final
class Lane:
    """One key of a shared limiter.

    Args:
      key: the key.
      limit: how many tokens it may hold.
      weight: how much it gets, relative to other keys that wait.
      portion: one token for this key.
    """

    __slots__ = (
        "controller",
        "due",
        "finish",
        "held",
        "key",
        "limit",
        "not_before",
        "portion",
        "queues",
        "sampler",
        "used_at",
        "waiting",
        "weight",
    )

    def __init__(self, key: Hashable, limit: float, weight: float, portion: Portion) -> None:
        self.key = key
        self.limit = limit
        self.weight = weight
        self.portion = portion
        self.held = 0
        """How many tokens it holds."""
        self.waiting = 0
        """How many requests wait."""
        self.finish = 0.0
        """When its last token is paid off, in the virtual time of `Shares`."""
        self.not_before = -math.inf
        """When its next call may begin, on trio's clock, if its calls are spaced."""
        self.queues: dict[int, Queue] = {}
        """Its requests by priority."""
        self.controller: LimitController | None = None
        """What moves its limit, if anything does."""
        self.sampler: Sampler | None = None
        """Reports its calls to its adaptive policy, if it has one."""
        self.used_at = -math.inf
        """When it last gave a token back, if it has an adaptive policy."""
        self.due = math.inf
        """When it needs attention next, on trio's clock."""

    def fits(self, width: int, now: Callable[[], float]) -> bool:
        """Return whether it may take that many more tokens."""
        return self.held + width <= self.limit and (
            self.not_before == -math.inf or now() >= self.not_before
        )

    @property
    def is_idle(self) -> bool:
        """Whether nobody holds or wants its tokens."""
        return not (self.held or self.waiting)

    def matters(self, now: float) -> bool:
        """Return whether forgetting it would change anything for its next call."""
        if not self.is_idle or now < self.not_before:
            return True
        return self.controller is not None and self.controller.withheld > 0

    def next_due(self, now: float) -> float:
        """Return when it needs attention next, on trio's clock; infinity for never."""
        paced = self.not_before if self.waiting and now < self.not_before else math.inf
        if self.controller is None or (self.is_idle and not self.controller.withheld):
            return paced
        return min(paced, self.controller.next_tick)

    def tick(self, now: float) -> Decision | None:
        """Let time pass; return the decision on its limit, if there was one."""
        if self.controller is None:
            return None
        return self.follow(self.controller, self.controller.tick(now, self.held, self.waiting))

    def follow(self, controller: LimitController, decision: Decision | None) -> Decision | None:
        """Take over the limit from its controller."""
        self.limit = controller.limit
        return decision


def busiest(lanes: Iterable[Lane], number: int) -> list[Lane]:
    """Return the lanes that hold and wait for the most tokens, the busiest first."""
    return heapq.nlargest(number, lanes, key=lambda lane: (lane.held + lane.waiting, lane.held))
