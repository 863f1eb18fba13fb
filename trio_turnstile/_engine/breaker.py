"""`Breaker`: a circuit breaker, for outages of a service.

In an outage, calls go on failing, and each item uses up its tries. A breaker watches the calls of a
limiter. When a share of the last calls has failed, it *opens*: no call begins. After some time it
is *half-open*: a few calls probe the service. If one succeeds, the breaker *closes*, and all tokens
are in use again at once. If one fails, it opens for longer.

It is also an error policy: an item that fails while the breaker is not closed waits, and spends no
try. The states are those of M. Nygard, "Release It!" (2nd ed. 2018, chapter 5). The share of the
last calls is what resilience4j calls a count-based sliding window. Sans-I/O.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, TypeAlias, final

import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._errors import ConcurrentError, On, as_on, cause_of, matches
from trio_turnstile._limiting.turnstile import Turnstile, Watcher
from trio_turnstile._texts import any_text, shown
from trio_turnstile._util import check_number, check_seconds, check_whole, unprotected

from .verdicts import RetryIn

BreakerState: TypeAlias = Literal["closed", "open", "half-open"]

_LOG = logging.getLogger("trio_turnstile.limiter")
_PAUSE = 1.0
"""Seconds before another attempt in an outage, so that a step does not spin if it has another
limiter, which lets it pass."""


@final
class Breaker:
    """Stops the calls of a limiter during an outage, and probes whether it is over.

    Give it to the limiter, and as the first error policy::

        breaker = Breaker(on=OSError)
        api = turnstile.limiter("api", 10, breaker=breaker)
        Processor(fetch, limiter=api, on_error=[breaker, Retry(3, on=OSError), Skip()])

    Args:
      on: which errors count as failures of the service: classes, or a predicate.
      share: it opens when this share of the last calls has failed, over 0 to 1.
      window: how many of the last calls count. It opens only after that many.
      wait: for how many seconds it stays open at first. The time doubles with each probe
        that fails.
      longest: for how many seconds it stays open at most.
      probes: how many calls may probe the service at once while it is half-open.

    Raises:
      TypeError, ValueError: for an argument of a wrong type, or out of range.
    """

    def __init__(
        self,
        *,
        on: On = Exception,
        share: float = 0.5,
        window: int = 10,
        wait: float = 30.0,
        longest: float = 80.0,
        probes: int = 1,
    ) -> None:
        check_number("share", share, positive=True)
        if share > 1:
            raise ValueError(f"share must be at most 1, which is all of the calls, not {share!r}")
        check_whole("window", window, 1)
        check_seconds("wait", wait, positive=True)
        check_seconds("longest", longest, positive=True)
        if longest < wait:
            raise ValueError(f"longest must not be less than wait: {longest!r} < {wait!r}")
        check_whole("probes", probes, 1)
        self._on = as_on(on)
        self._share, self._window, self._probes = share, window, probes
        self._wait, self._longest = wait, longest
        self._state: BreakerState = "closed"
        self._failures = deque[bool](maxlen=window)
        self._waits = wait
        self._until = math.inf
        self._limiter: str | None = None
        self._wake: Callable[[], object] = lambda: None
        self._checks = 0

    def __repr__(self) -> str:
        return f"<trio_turnstile.Breaker {self._state}>"

    @property
    def state(self) -> BreakerState:
        """``"closed"`` while calls may begin, ``"open"``, or ``"half-open"`` while some probe."""
        return self._state

    def decide(self, error: ConcurrentError, /) -> RetryIn | None:
        """Return the verdict to try again without spending a try, while this is not closed."""
        if self._state == "closed" or error.phase == "cleanup" or not self._counts(error):
            return None
        return RetryIn(_PAUSE, spends_try=False)

    def check(self, is_there: Callable[[], Awaitable[object]], *, every: float = 5.0) -> Watcher:
        """Return a watcher that asks whether the service is back, in place of waiting.

        ``turnstile.watch(breaker.check(ping))``: while the breaker is open, ``ping`` is called
        again and again. When it returns something true, calls may probe the service.

        Args:
          is_there: an async function. If it raises an `Exception`, that means no.
          every: the seconds between two calls, and the most that a call may take.
        """
        check_seconds("every", every, positive=True)

        async def watch(_turnstile: Turnstile) -> None:
            self._checks += 1
            try:
                while True:
                    await trio.sleep(every)
                    if self._state == "open" and await _answers(is_there, every):
                        self._probe()
                        self._wake()
            finally:
                self._checks -= 1

        return watch

    # ---- for the limiter ----

    @property
    def tokens(self) -> float:
        """The most tokens that it allows now: infinite, none, or the probes."""
        return {"closed": math.inf, "open": 0, "half-open": self._probes}[self._state]

    @property
    def next_tick(self) -> float:
        """When it is half-open; infinity while it is not open, or somebody checks the service."""
        return math.inf if self._checks else self._until

    def attach(self, limiter: str, wake: Callable[[], object]) -> None:
        """Belong to a limiter.

        Raises:
          ValueError: if it belongs to one already.
        """
        if self._limiter is not None:
            raise ValueError(
                f"limiter {limiter!r} cannot have the breaker that limiter {self._limiter!r} has: "
                "it watches the calls of one limiter, so make another"
            )
        self._limiter, self._wake = limiter, wake

    def succeeded(self, now: float) -> None:
        """Say that a call succeeded."""
        if self._state == "half-open":
            self.reset()
        elif self._state == "closed":
            self._failures.append(False)

    def failed(self, error: BaseException, now: float) -> None:
        """Say that a call ended with an error."""
        if not self._counts(error):
            return
        if self._state == "half-open":
            self._open(min(2 * self._waits, self._longest), now)
        elif self._state == "closed":
            self._failures.append(True)
            if len(self._failures) == self._window and self._has_failed():
                self._open(self._wait, now)

    def tick(self, now: float) -> None:
        """Say that time passes."""
        if now >= self.next_tick:
            self._probe()

    def reset(self) -> None:
        """Close the breaker: calls may begin."""
        self._state, self._until = "closed", math.inf
        self._failures.clear()

    def why(self) -> Mapping[str, object]:
        """Return its state, and until when it is open."""
        until = {"until": self.next_tick} if self.next_tick < math.inf else {}
        return {"reason": "breaker", "state": self._state, **until}

    # ---- inside ----

    def _counts(self, error: BaseException) -> bool:
        cause = cause_of(error)
        try:
            return isinstance(cause, Exception) and matches(cause, self._on)
        except Exception as bug:  # of the predicate: the token still has to be given back
            _LOG.warning("a breaker cannot tell whether %s counts: %s", shown(cause), any_text(bug))
            return False

    def _has_failed(self) -> bool:
        return sum(self._failures) >= self._share * self._window

    def _open(self, seconds: float, now: float) -> None:
        self._state, self._waits, self._until = "open", seconds, now + seconds

    def _probe(self) -> None:
        self._state, self._until = "half-open", math.inf


@enable_ki_protection
async def _answers(is_there: Callable[[], Awaitable[object]], seconds: float) -> bool:
    answer: object = False
    await trio.lowlevel.checkpoint()
    with trio.move_on_after(seconds):
        await trio.lowlevel.checkpoint()
        try:
            answer = await unprotected(is_there)
        except Exception:
            return False
    return bool(answer)
