"""`Meter`: how much of one rate is taken, and who waits for some of it.

A token bucket (also known as the generic cell rate algorithm, ITU-T I.371). The *debt* is how
much was taken beyond what the rate has paid off since. An amount may be taken if the debt stays
within the burst. The debt is counted in units and not in seconds, so that a burst at one instant
is exact, and so that a change of the rate changes nothing else.

What a service says about its own counts can only take something away: the debt may grow, the rate
may become slower, and for a time no more may be taken than the service has left. So whatever a
service says, no more is taken than the rate and the burst allow.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol, TypeAlias, final

import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._util import check_number

from .kept_debt import KeptDebt
from .trio_runs import LastRun


@final
class Place:
    """The place of one task in the lines of all the meters that it waits for."""

    __slots__ = ("moved",)

    def __init__(self) -> None:
        self.moved = trio.Event()
        """Set when the task is first in a line, or when what it waits for may come sooner."""


Line: TypeAlias = OrderedDict[Place, None]
"""Who waits for a meter, in order."""


def _is_first(line: Line, place: Place) -> bool:
    return next(iter(line)) is place


def wake_first(line: Line) -> None:
    """Make the first in a line check again whether it may go on."""
    if line:
        next(iter(line)).moved.set()


class Metered(Protocol):
    """The meter of a rate or of an allowance; amounts can be taken from several at once."""

    @property
    def line(self) -> Line:
        """Who waits."""
        ...

    def check(self, name: str, amount: float) -> None:
        """Raise `TypeError` or `ValueError` for an amount that could never be taken."""
        ...

    def until(self, amount: float) -> float:
        """Return the seconds until the amount may be taken; 0 if it may now."""
        ...

    def take(self, amount: float) -> float:
        """Take the amount, and return a mark for `give_back`."""
        ...

    def give_back(self, amount: float, mark: float) -> None:
        """Give back some of what was taken at a mark; a negative amount takes more."""
        ...


Need: TypeAlias = tuple[Metered, float]
"""An amount to take from one meter."""


def seconds_until(needs: Sequence[Need]) -> float:
    """Return the seconds until a newcomer may take all of them; 0 if it may now."""
    wait = 0.0
    for meter, amount in needs:
        wait = max(wait, meter.until(amount))
        if meter.line:
            wait = math.inf
    return wait


@enable_ki_protection
async def take_in_turn(needs: Sequence[Need], wait: float) -> list[float]:
    """Wait in all the lines at once; take everything in turn, and return the marks.

    Nothing is held meanwhile. If two tasks share several lines, the same one came first in all of
    them, so the two never wait for each other.

    Args:
      needs: what to take.
      wait: what `seconds_until` has returned, more than 0.
    """
    place = Place()
    for meter, _ in needs:
        meter.line[place] = None
    try:
        while wait > 0:
            place.moved = trio.Event()
            with trio.move_on_after(wait):
                await place.moved.wait()
            wait = 0.0
            for meter, amount in needs:
                wait = max(wait, meter.until(amount) if _is_first(meter.line, place) else math.inf)
        return [meter.take(amount) for meter, amount in needs]
    finally:
        for meter, _ in needs:
            meter.line.pop(place, None)
            wake_first(meter.line)


@final
class Meter:
    """How much of one rate is taken.

    Args:
      owner: the rate, for error messages.
      per_second: how much comes back each second.
      burst: the most that may be taken at once.
      warm_up: how many seconds of each run the rate takes to grow to ``per_second``.
      kept: where the debt is kept from one process to the next.
    """

    __slots__ = (
        "_began",
        "_debt",
        "_debt_in_all",
        "_kept",
        "_left",
        "_left_until",
        "_owner",
        "_paid_at",
        "_run",
        "_taken",
        "_warm_up",
        "burst",
        "line",
        "per_second",
        "share",
    )

    def __init__(
        self,
        owner: object,
        per_second: float,
        burst: float,
        warm_up: float = 0.0,
        kept: KeptDebt | None = None,
    ) -> None:
        self.per_second = per_second
        self.burst = burst
        self.share = 1.0
        """How much of the rate and the burst the service allows now."""
        self.line: Line = OrderedDict()
        self._owner = owner
        self._warm_up = warm_up
        self._kept = kept
        self._debt = 0.0
        self._debt_in_all = 0.0
        """What the debt is, or would be if the service had always allowed the whole rate."""
        self._taken = 0.0
        self._began = self._paid_at = 0.0
        self._left = self._left_until = math.inf
        self._run = LastRun()

    @property
    def available(self) -> float:
        """How much may be taken now, if nobody waits."""
        now = trio.current_time()
        self.pay_off(now)
        return max(0.0, min(self.burst * self.share - self._debt, self._left_at(now)))

    def check(self, name: str, amount: float) -> None:
        """Raise `TypeError` or `ValueError` for an amount that could never be taken."""
        check_number(name, amount)
        if amount > self.burst and self.per_second < math.inf:
            raise ValueError(
                f"{name} must be at most the burst, which is {self.burst}, not {amount!r}: it "
                "could never pass. Split it up, or give the rate a larger burst"
            )

    def until(self, amount: float) -> float:
        """Return the seconds until the amount may be taken; 0 if it may now."""
        now = trio.current_time()
        self.pay_off(now)
        wait = self._until_paid(amount, now)
        if self._left < amount and self._left_at(now) < amount:
            wait = max(wait, self._left_until - now)
        if wait == 0 and self._kept is not None:
            self._kept.cover(self._debt + amount, self.burst)
        return wait

    def _until_paid(self, amount: float, now: float) -> float:
        if self.per_second == math.inf:
            return 0.0
        # If a service allows less at once now than the amount, the whole debt is paid off first.
        over = self._debt + amount - max(self.burst * self.share, amount)
        over = max(over, (self._debt_in_all + amount - self.burst) * self.share)
        # The clock knows no time shorter than its last digit, so a wait may end that much early.
        tick, per_second = math.ulp(now), self.per_second * self.share
        if over <= 1e-9 * self.burst or over <= min(0.5, tick * per_second):
            return 0.0
        return max(self._seconds_for(over / per_second, now), 2 * tick)

    def take(self, amount: float) -> float:
        """Take the amount, and return a mark for `give_back`."""
        self._debt += amount
        self._debt_in_all += amount
        self._left -= amount
        self._taken += amount
        return self._taken

    def give_back(self, amount: float, mark: float) -> None:
        """Give back some of what was taken at a mark; a negative amount takes more.

        An amount that the rate has paid off already does not come back; otherwise a late refund
        would let more than the burst pass at once. Amounts are paid off in the order taken.
        """
        self.pay_off(trio.current_time())
        if amount < 0:
            self.take(-amount)
            return
        taken_since = self._taken - mark
        back = min(amount, max(0.0, self._debt - taken_since))
        self._debt -= back
        self._debt_in_all = max(0.0, self._debt_in_all - back)
        wake_first(self.line)

    def refund(self, amount: float) -> None:
        """Give back some of what was taken last."""
        self.give_back(amount, self._taken)

    def observe(self, remaining: float, until: float) -> None:
        """Note that no more than ``remaining`` is left, either for good or until ``until``."""
        now = trio.current_time()
        self.pay_off(now)
        if until == -math.inf:
            self._debt = max(self._debt, self.burst * self.share - remaining)
        elif remaining <= self._left_at(now):
            self._left, self._left_until = remaining, until

    def set_pace(self, per_second: float, share: float) -> None:
        """Change the rate, including for tasks that wait."""
        if trio.lowlevel.in_trio_run():
            self.pay_off(trio.current_time())
        # What is left stays, except for what the service no longer allows at once.
        self._debt = max(0.0, self._debt + self.burst * (share - self.share))
        self.per_second, self.share = per_second, share
        wake_first(self.line)

    def pay_off(self, now: float) -> None:
        """Bring the debt up to date."""
        if self._run.has_changed(self._owner):
            self._begin(now)
        if self._warm_up:
            now = self._warm_seconds(now)
        if self.per_second == math.inf:
            self._debt = self._debt_in_all = 0.0
        else:
            paid_in_all = (now - self._paid_at) * self.per_second
            paid = paid_in_all * self.share
            self._debt = max(0.0, self._debt - paid)
            self._debt_in_all = max(0.0, self._debt_in_all - paid_in_all)
            if self._kept is not None:
                self._kept.pay_off(paid)
        self._paid_at = now

    def _begin(self, now: float) -> None:
        """Begin anew in another run, whose clock starts anywhere."""
        self.line.clear()
        self._left = self._left_until = math.inf
        self._began = now
        self._paid_at = 0.0 if self._warm_up else now
        self._debt = max(0.0, self.burst - 1) if self._warm_up else 0.0
        if self._kept is not None:
            self._debt = max(self._debt, self._kept.read(self.per_second))
        self._debt_in_all = self._debt

    def _left_at(self, now: float) -> float:
        """Return how much the service has left until it begins to count anew."""
        if now >= self._left_until:
            self._left = self._left_until = math.inf
        return self._left

    # ---- warm-up: the rate is the same as later, but its seconds are longer at first ----

    def _warm_seconds(self, now: float) -> float:
        """Return how many seconds of the full rate this run has had."""
        passed, warm_up = now - self._began, self._warm_up
        return passed * passed / (2 * warm_up) if passed < warm_up else passed - warm_up / 2

    def _seconds_for(self, seconds: float, now: float) -> float:
        """Return how long so many seconds of the full rate take from now on."""
        warm_up = self._warm_up
        if not warm_up:
            return seconds
        wanted = self._paid_at + seconds
        long = math.sqrt(2 * warm_up * wanted) if wanted < warm_up / 2 else wanted + warm_up / 2
        return long - (now - self._began)
