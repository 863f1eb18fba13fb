"""`GuardedPolicy`: an adaptive policy that can do no harm.

A policy is somebody else's code, and runs while a token is given back. If it raises, or proposes
something that is not a limit, the token must still be given back, and the caller must get its
own error. So a policy that fails is logged and not consulted any more: the limit stays at its
last proposal, and signals go on moving the cap.

Its time never goes backwards. A policy may be used in one ``trio.run`` after another, and the
clock of each starts anywhere, so in the next run its time goes on from where it was.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import final
from weakref import ref

import attrs

from trio_turnstile._texts import shown, shown_error
from trio_turnstile.limits import LimitPolicy, Sample

_LOG = logging.getLogger("trio_turnstile.limiter")


@attrs.define(eq=False)
class _Life:
    """What is remembered about a policy for as long as it lives."""

    user: ref[GuardedPolicy] | None = None
    latest: float = -math.inf
    """The latest time that the policy was given."""


_LIVES: dict[int, tuple[ref[LimitPolicy], _Life]] = {}  # by identity: policies may be equal


@final
class GuardedPolicy:
    """Passes calls on to a policy until one fails; made for each limiter.

    Raises:
      TypeError: if it is not a policy.
      ValueError: if another limiter uses it.
    """

    def __init__(self, policy: LimitPolicy, limiter: str) -> None:
        if isinstance(policy, type) or not callable(getattr(policy, "why", None)):
            raise TypeError(
                "policy must be an adaptive policy, such as KneeLimit(), or None, not "
                f"{shown(policy)}"
            )
        self._policy = policy
        self._limiter = limiter
        self._failure: str | None = None
        self._ahead = 0.0
        self._limit: float = 1
        self._life = _life_of(policy)
        user = None if self._life.user is None else self._life.user()
        if user is not None:
            raise ValueError(
                f"limiter {limiter!r} cannot have the policy that limiter {user._limiter!r} has: "
                "what it learns is about one limiter, so make another"
            )
        self._life.user = ref(self)
        self.limit  # noqa: B018 (its first proposal, in case it fails later)

    def retire(self) -> None:
        """Let another limiter use the policy: this one is closed."""
        self._life.user = None

    @property
    def limit(self) -> float:
        """What the policy proposes, in tokens, or proposed last."""
        if self._failure is None:
            try:
                limit = self._policy.limit
                if math.isnan(limit):
                    raise ValueError("it proposes NaN tokens")
                self._limit = limit
            except Exception as error:
                self._fail(error)
        return self._limit

    def on_start(self, now: float, in_flight: int) -> None:
        """Say that a call starts."""
        if self._failure is None:
            try:
                self._policy.on_start(self._time(now), in_flight)
            except Exception as error:
                self._fail(error)

    def on_finish(self, sample: Sample) -> None:
        """Say that a call ended."""
        if self._failure is None:
            try:
                end = self._time(sample.end)
                if self._ahead:
                    sample = attrs.evolve(sample, start=sample.start + self._ahead, end=end)
                self._policy.on_finish(sample)
            except Exception as error:
                self._fail(error)

    def on_tick(self, now: float, in_flight: int, waiting: int) -> None:
        """Say that time passes."""
        if self._failure is None:
            try:
                self._policy.on_tick(self._time(now), in_flight, waiting)
            except Exception as error:
                self._fail(error)

    def why(self) -> Mapping[str, object]:
        """Return the figures behind the proposal."""
        if self._failure is None:
            try:
                return dict(self._policy.why())
            except Exception as error:
                self._fail(error)
        return {"reason": "the policy failed", "error": self._failure}

    def _time(self, now: float) -> float:
        now += self._ahead
        latest = self._life.latest
        if now < latest:
            self._ahead += latest - now
            now = latest
        self._life.latest = now
        return now

    def _fail(self, error: Exception) -> None:
        self._failure = shown_error(error)
        _LOG.exception(
            "the policy %s of limiter %r failed and is no longer consulted; the limit that it "
            "proposed last stays",
            shown(self._policy),
            self._limiter,
        )


def _life_of(policy: LimitPolicy) -> _Life:
    key = id(policy)
    if key not in _LIVES:
        try:
            _LIVES[key] = ref(policy, lambda _: _LIVES.pop(key, None)), _Life()
        except TypeError:  # it cannot be referred to weakly
            return _Life()
    return _LIVES[key][1]
