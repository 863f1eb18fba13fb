"""Checks that no more calls run at once than a limiter allows, while the limit moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from trio_turnstile import Limiter


class LimitCheck:
    """Counts the calls that run under a limiter, and records when there were too many.

    It does not raise, because the run would handle an exception like an error of the work.
    """

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        self.running = 0
        self.exceeded: list[tuple[float, int, float]] = []
        """When more ran than allowed: the time, how many ran, and how many were allowed."""
        self._retuned_at = -1.0
        self._most_before = 0.0

    def retune(self, tokens: int) -> None:
        """Set the limit."""
        self.moved(self.limiter.total_tokens)
        self.limiter.total_tokens = tokens

    def moved(self, before: float) -> None:
        """Note that the limit changes at this instant, and what it was before."""
        now = trio.current_time()
        self._most_before = max(before, self._most_before) if self._retuned_at == now else before
        self._retuned_at = now

    def enter(self) -> None:
        """Note that a call begins."""
        self.running += 1
        allowed = self.limiter.total_tokens
        if self._retuned_at == trio.current_time():
            # It may have got its token at this instant, but before the limit was lowered.
            allowed = max(allowed, self._most_before)
        if self.running > allowed:
            self.exceeded.append((trio.current_time(), self.running, allowed))

    def leave(self) -> None:
        """Note that a call has ended."""
        self.running -= 1

    @contextmanager
    def around(self) -> Iterator[None]:
        """Note that the block begins and ends."""
        self.enter()
        try:
            yield
        finally:
            self.leave()
