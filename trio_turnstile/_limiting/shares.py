"""`Shares`: whose turn it is at a limiter that is shared by keys.

Each key has a *lane*: its limit, its tokens, and its requests in the order in which they came.
Tokens are dealt out in turn to the keys that wait for them, by start-time fair queueing (Goyal,
Vin and Cheng, 1996). There is a virtual time, which goes on with every token that is dealt out. A
key's tokens are *paid off* one after the other, each in ``1 / weight`` of that time, and the key
whose last token is paid off first is the next. A key that did not wait earns nothing by that, so
it is a key like any other when it comes back, and nothing has to be remembered of it.

A key that holds as many tokens as it may is passed over until it gives one back, so it does not
hold up others, and no tokens are reserved for it.

Priorities come before keys. A step of priority is worth ``ageing`` seconds of waiting.

Lanes are made on demand. Idle lanes are forgotten a thousand at a time, because it would cost more
to forget each at once and make it again. A lane stays while it *matters*: its next call may not
begin yet, or one of its tokens is withheld. What adaptive policies have learned stays for the
`LEARNED_KEPT` keys that were used last.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Hashable, Iterator
from itertools import count
from typing import final

import attrs
import trio

from trio_turnstile._util import check_number, check_whole
from trio_turnstile.limits import LimitPolicy

from .claims import Claim, Request, TooWide
from .controller import LimitController
from .events import Decision
from .guarded import GuardedPolicy
from .lanes import Lane, Queue
from .line import standing
from .portion import Portion
from .sampling import Sampler
from .throttle import Throttle

LANES_KEPT = 1000
"""How many lanes there may be before idle ones are forgotten."""

LEARNED_KEPT = 1000
"""For how many idle keys to keep what their policies have learned."""


@final
@attrs.frozen(eq=False)
class Terms:
    """What keys get, unless it is set for one of them."""

    each: float | Callable[[Hashable], float]
    """How many tokens a key may hold, or a function that returns it."""
    weight: Callable[[Hashable], float] | None
    """Returns the weight of a key; without it, all have 1."""
    every: float
    """The seconds between the beginnings of two calls of a key; 0 for none."""
    ageing: float
    """The seconds of waiting that are worth a step of priority."""
    adapt: Callable[[Hashable], LimitPolicy] | None
    """Makes an adaptive policy for a key."""

    def limit_of(self, key: Hashable) -> float:
        """Return how many tokens a key may hold."""
        if key is None:
            return math.inf
        limit = self.each(key) if callable(self.each) else self.each
        check_whole(f"the limit of key {key!r}", limit, 1, infinite=True)
        return limit

    def weight_of(self, key: Hashable) -> float:
        """Return the weight of a key."""
        if self.weight is None or key is None:
            return 1.0
        weight = self.weight(key)
        check_number(f"the weight of key {key!r}", weight, positive=True)
        return weight


@final
class Shares:
    """The keys of a shared limiter, and the requests that wait.

    Args:
      name: returns the name of the limiter.
      terms: what keys get.
      throttle: the rules for the limits of keys.
      portion: makes the way in for a key.
      note: is called with each decision on the limit of a key.
      wake: makes the throttle task call `tick` soon.
    """

    def __init__(
        self,
        name: Callable[[], str],
        terms: Terms,
        throttle: Throttle,
        *,
        portion: Callable[[Hashable], Portion],
        note: Callable[[Decision], object],
        wake: Callable[[], object],
    ) -> None:
        self.terms = terms
        self.lanes: dict[Hashable, Lane] = {}
        self._name = name
        self._throttle = throttle
        self._portion = portion
        self._note = note
        self._wake = wake
        self._limits: dict[Hashable, float] = {}
        self._weights: dict[Hashable, float] = {}
        self._holders: dict[object, Lane] = {}
        self.size = 0
        """How many requests wait."""
        self._listed: dict[int, list[tuple[float, int, Queue]]] = {}
        self._serial = count()
        self._dealt = 0.0
        """The virtual time, which goes on with every token dealt out to somebody who waited."""
        self._due: list[tuple[float, int, Lane]] = []
        self._is_ticking = False
        self._sweep_at = LANES_KEPT

    # ---- for the line ----

    def waiting(self) -> Iterator[Request]:
        for lane in self.lanes.values():
            for queue in lane.queues.values():
                yield from queue.requests

    def check(self, claim: Claim) -> None:
        lane = self.lane(claim.key)
        most = lane.limit if lane.controller is None else standing(lane.controller.bounds)
        if most < claim.width:
            raise TooWide(self._name(), claim.width, most, claim.key)

    def may_pass(self, claim: Claim) -> bool:
        # It runs for each call, so `lane` and `fits` are written out here.
        lane = self.lanes.get(claim.key)
        if lane is None:
            lane = self._begin(claim.key)
        if lane.waiting or lane.held + claim.width > lane.limit:
            return False
        return lane.not_before == -math.inf or trio.current_time() >= lane.not_before

    def add(self, request: Request) -> None:
        claim = request.claim
        lane = self.lane(claim.key)
        queue = lane.queues.get(claim.priority)
        if queue is None:
            queue = lane.queues[claim.priority] = Queue(lane)
        queue.requests[request] = None
        self.size += 1
        lane.waiting += 1
        self._list(queue, claim.priority)
        self._mind(lane)

    def discard(self, request: Request) -> None:
        claim = request.claim
        lane = self.lanes[claim.key]
        queue = lane.queues[claim.priority]
        del queue.requests[request]
        self.size -= 1
        lane.waiting -= 1
        if queue.requests:
            self._list(queue, claim.priority)  # the next may fit, if this one was too wide
        else:
            del lane.queues[claim.priority]

    def first(self) -> Request | None:
        best: Request | None = None
        for priority in tuple(self._listed):
            head = self._head(priority)
            if head is not None and (best is None or self._rank(head) < self._rank(best)):
                best = head
        return best

    def took(self, borrower: object, claim: Claim) -> None:
        lane = self.lanes[claim.key]
        lane.held += claim.width
        self._holders[borrower] = lane
        if self.size:
            self._dealt = max(lane.finish, self._dealt)
            lane.finish = self._dealt + claim.width / lane.weight
        if self.terms.every and lane.key is not None:
            lane.not_before = trio.current_time() + self.terms.every
            self._mind(lane)
        elif lane.controller is not None:
            self._mind(lane)

    def gave(self, borrower: object, width: int) -> None:
        lane = self._holders.pop(borrower, None)
        if lane is None:  # it took its token without a key
            return
        lane.held -= width
        if lane.waiting:
            self._list_all(lane)
        if lane.sampler is not None:
            lane.used_at = trio.current_time()

    # ---- for the shared limiter ----

    def lane(self, key: Hashable) -> Lane:
        """Return the lane of a key; begin one if there is none."""
        lane = self.lanes.get(key)
        if lane is None:
            lane = self._begin(key)
        return lane

    def set(self, key: Hashable, limit: float | None, weight: float | None) -> None:
        """Set the limit or the weight of one key, for as long as the limiter lives."""
        if weight is not None:
            self._weights[key] = weight
        if limit is not None:
            self._limits[key] = limit
        lane = self.lanes.get(key)
        if lane is None:
            return
        lane.weight = self._weights.get(key, lane.weight)
        if limit is None:
            return
        lane.limit = limit
        if lane.controller is not None:
            decision = lane.controller.assign(limit, trio.current_time())
            self._decided(lane.follow(lane.controller, decision))
        self._list_all(lane)

    def lane_of(self, borrower: object) -> Lane | None:
        """Return the lane whose tokens a borrower has, if it has any."""
        return self._holders.get(borrower)

    def withhold(self, borrower: object, seconds: float) -> bool:
        """Take a token of the borrower's key out of use; false if the key has no limit."""
        lane = self._holders.get(borrower)
        if lane is None or lane.limit == math.inf:
            return False
        if lane.controller is None:
            lane.controller = self._controller(lane, None)
        decision = lane.controller.withhold(seconds, trio.current_time())
        self._decided(lane.follow(lane.controller, decision))
        self._mind(lane)
        return True

    def resume(self) -> None:
        """Put all withheld tokens of all keys back into use."""
        for lane in self.lanes.values():
            if lane.controller is not None:
                decision = lane.controller.resume(trio.current_time())
                self._decided(lane.follow(lane.controller, decision))
                self._list_all(lane)

    def tick(self, now: float) -> float:
        """Let time pass; return when to call again, on trio's clock."""
        self._is_ticking = True
        due: list[Lane] = []
        while self._due and self._due[0][0] <= now:
            time, _, lane = heapq.heappop(self._due)
            if lane.due == time:
                lane.due = math.inf
                due.append(lane)
        for lane in due:
            self._decided(lane.tick(now))
            self._list_all(lane)
            self._mind(lane)
        self._is_ticking = False
        return self._due[0][0] if self._due else math.inf

    # ---- turns ----

    def _head(self, priority: int) -> Request | None:
        """Return the request of this priority whose turn it is, if any can be served."""
        heap = self._listed[priority]
        while heap:
            paid_off, _, queue = heap[0]
            lane = queue.lane
            if not queue.requests or not lane.fits(queue.head.claim.width, trio.current_time):
                queue.is_listed = False
                heapq.heappop(heap)
            elif paid_off < lane.finish:  # it has been served since
                heapq.heapreplace(heap, (lane.finish, next(self._serial), queue))
            else:
                return queue.head
        del self._listed[priority]
        return None

    def _rank(self, request: Request) -> tuple[float, float]:
        priority, ageing = request.claim.priority, self.terms.ageing
        if ageing == math.inf:
            return -priority, request.arrived
        return request.arrived - priority * ageing, 0.0

    def _list(self, queue: Queue, priority: int) -> None:
        lane = queue.lane
        if queue.is_listed or not lane.fits(queue.head.claim.width, trio.current_time):
            return
        queue.is_listed = True
        heap = self._listed.setdefault(priority, [])
        heapq.heappush(heap, (max(lane.finish, self._dealt), next(self._serial), queue))

    def _list_all(self, lane: Lane) -> None:
        for priority, queue in lane.queues.items():
            self._list(queue, priority)

    # ---- lanes ----

    def _begin(self, key: Hashable) -> Lane:
        if len(self.lanes) >= self._sweep_at:
            self._sweep(trio.current_time())
        limit = self._limits[key] if key in self._limits else self.terms.limit_of(key)
        weight = self._weights[key] if key in self._weights else self.terms.weight_of(key)
        lane = Lane(key, limit, weight, self._portion(key))
        if self.terms.adapt is not None and key is not None:
            policy = GuardedPolicy(self.terms.adapt(key), self._label(key))
            lane.controller = self._controller(lane, policy)
            lane.limit = lane.controller.limit
            lane.sampler = Sampler(policy)
        self.lanes[key] = lane
        return lane

    def _controller(self, lane: Lane, policy: GuardedPolicy | None) -> LimitController:
        return LimitController(self._label(lane.key), lane.limit, self._throttle, policy)

    def _label(self, key: Hashable) -> str:
        return f"{self._name()}[{key}]"

    def _sweep(self, now: float) -> None:
        idle = [lane for lane in self.lanes.values() if not lane.matters(now)]
        learned = [lane for lane in idle if lane.sampler is not None]
        kept = set(heapq.nlargest(LEARNED_KEPT, learned, key=lambda lane: lane.used_at))
        for lane in idle:
            if lane not in kept:
                del self.lanes[lane.key]
        self._sweep_at = max(LANES_KEPT, 2 * len(self.lanes))

    def _mind(self, lane: Lane) -> None:
        """Let `tick` look after the lane when something is due."""
        due = lane.next_due(trio.current_time())
        if due < lane.due:
            lane.due = due
            heapq.heappush(self._due, (due, next(self._serial), lane))
            if self._due[0][2] is lane and not self._is_ticking:
                self._wake()

    def _decided(self, decision: Decision | None) -> None:
        if decision is not None:
            self._note(decision)
