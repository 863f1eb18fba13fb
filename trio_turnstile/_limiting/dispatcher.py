"""`Dispatcher`: the throttle task of a turnstile, and the one way to reach it.

Everything that moves a limit is posted here, from any thread. Posting is an append to a deque
and a wake-up, which trio makes safe to send from anywhere. The throttle task, `Dispatcher.run`,
runs what was posted. It is the one writer of the limits of a turnstile.

The task visits only limiters that have something to do: those that were touched since the
last round, and those whose next tick is due, which it finds with a heap. So the cost of a
signal to one limiter does not depend on how many limiters there are.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any, Protocol, TypeAlias, TypeVar, final

import trio

from .events import Event
from .observers import Observation, Observer, Observers
from .runs import Runs

R = TypeVar("R")

Posted: TypeAlias = Callable[[float], object]
"""What the throttle task runs, with the time on trio's clock."""

STALE_ENTRIES_KEPT = 1000
"""How many more entries the heap may hold than twice those in use.

`trio` prunes its own heap of deadlines by the same rule.
"""


class Member(Protocol):
    """A limiter, as the throttle task sees it. It is compared by identity."""

    def tick(self, now: float) -> float:
        """Let time pass; return when to call again, on trio's clock."""
        ...


class Host(Protocol):
    """The limiters of a turnstile, as its throttle task sees them."""

    def forget(self, name: str) -> None:
        """Remove a limiter that was closed."""
        ...

    def adopt(self, limiter: Any, name: str, dispatcher: Dispatcher) -> None:
        """Let a limiter that is in no turnstile join until it is dismissed."""
        ...

    def dismiss(self, limiter: Any) -> None:
        """Let it leave, unless somebody else has adopted it too."""
        ...


@final
class Dispatcher:
    """Runs what is posted, visits limiters when they have something to do, and notifies.

    Args:
      observers: are called with every event.
      host: has the limiters.
    """

    def __init__(self, observers: Observers, host: Host) -> None:
        self.runs: Runs = Runs(observers)
        """The runs under limiters of the turnstile."""
        self._observers = observers
        self._host = host
        self._closed = False
        self._trio_token = trio.lowlevel.current_trio_token()
        self._posted: deque[tuple[Posted, Member | None]] = deque()
        self._wakeup = trio.Event()
        self._touched: dict[Member, None] = {}  # a set that keeps the order
        # The heap is never searched: an entry counts only if `_due` has the same time.
        self._due: dict[Member, float] = {}
        self._heap: list[tuple[float, int, Member]] = []
        self._serial = count()

    # ---- from any thread ----

    def post(self, action: Posted, member: Member | None = None) -> None:
        """Have the throttle task run ``action``, and then visit ``member``.

        Raises:
          trio.ClosedResourceError: if the turnstile is closed.
        """
        self.check_open()
        self._posted.append((action, member))
        try:
            self._trio_token.run_sync_soon(self._wake_up, idempotent=True)
        except trio.RunFinishedError:
            raise trio.ClosedResourceError("the turnstile is closed") from None

    def check_open(self) -> None:
        """Raise `trio.ClosedResourceError` if the turnstile is closed."""
        if self._closed:
            raise trio.ClosedResourceError("the turnstile is closed")

    def check_run(self) -> None:
        """Raise `RuntimeError` in any trio run but the one of the turnstile."""
        if trio.lowlevel.current_trio_token() is not self._trio_token:
            raise RuntimeError(
                "the turnstile is in another trio run, in another thread: ask there, with "
                "trio.from_thread.run(..., trio_token=...), or use up(), down() or signal()"
            )

    # ---- from the trio run ----

    def wake(self, member: Member) -> None:
        """Have the throttle task visit a limiter in its next round."""
        self._touched[member] = None
        self._wake_up()

    def run_now(self, action: Callable[[float], R], member: Member) -> R:
        """Run what was posted before, and ``action``; then have ``member`` visited."""
        self.check_open()
        now = trio.current_time()
        self._run_posted(now)
        self.wake(member)
        return action(now)

    def observe(self, observer: Observer) -> Observation:
        """Call an observer with every event from now on."""
        self.check_open()
        return self._observers.add(observer)

    def notify(self, event: Event) -> None:
        """Call the observers with ``event``."""
        self._observers(event)

    def forget(self, name: str, member: Member) -> None:
        """Stop visiting a limiter that was closed; its name is free again."""
        self._touched.pop(member, None)
        self._due.pop(member, None)
        self._host.forget(name)

    @contextmanager
    def adopting(self, limiters: Mapping[str, Any]) -> Iterator[None]:
        """Let limiters that are in no turnstile join this one while the block runs."""
        for name, limiter in limiters.items():
            self._host.adopt(limiter, name, self)
        try:
            yield
        finally:
            for limiter in limiters.values():
                self._host.dismiss(limiter)

    async def run(self) -> None:
        """Be the throttle task, until cancelled."""
        while True:
            now = trio.current_time()
            self._run_posted(now)
            # What is posted or touched from here on sets the new event: it gets another
            # round, with a checkpoint before, so that a flood does not starve other tasks.
            self._wakeup = trio.Event()
            self._visit_touched(now)
            self._visit_due(now)
            self._prune()
            with trio.move_on_at(self._heap[0][0] if self._heap else math.inf):
                await self._wakeup.wait()

    def close(self) -> None:
        """Run what was posted before; from now on nothing more can be posted."""
        self._closed = True
        self._run_posted(trio.current_time())

    # ---- inside ----

    def _wake_up(self) -> None:
        self._wakeup.set()

    def _run_posted(self, now: float) -> None:
        # Only what is there now: an action may lead to another one being posted.
        for _ in range(len(self._posted)):
            action, member = self._posted.popleft()
            action(now)
            if member is not None:
                self._touched[member] = None

    def _visit_touched(self, now: float) -> None:
        # Only what is there now, for the same reason. A visit may also close a limiter
        # that has not been visited yet: its tick does nothing.
        touched, self._touched = self._touched, {}
        for member in touched:
            self._visit(member, now)

    def _visit_due(self, now: float) -> None:
        due: list[Member] = []
        while self._heap and self._heap[0][0] <= now:
            time, _, member = heapq.heappop(self._heap)
            if self._due.get(member) == time:
                del self._due[member]
                due.append(member)
        for member in due:
            self._visit(member, now)

    def _visit(self, member: Member, now: float) -> None:
        due = member.tick(now)
        if due == math.inf:
            self._due.pop(member, None)
        elif self._due.get(member) != due:
            self._due[member] = due
            heapq.heappush(self._heap, (due, next(self._serial), member))

    def _prune(self) -> None:
        if len(self._heap) > 2 * len(self._due) + STALE_ENTRIES_KEPT:
            self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)
