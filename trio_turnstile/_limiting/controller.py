"""`LimitController`: decides what the limit of one limiter ought to be. Pure.

Time comes in as an argument, decisions go out as values, and nothing is applied
here. Three things make the limit:

- the *cap*, which starts at the ceiling and is moved by signals and by hand;
- the *policy*, if any, which proposes a limit below the cap;
- the *pause*, if any, during which the limit is 0.

So ``limit = clamp(min(cap, policy), minimum, ceiling)``, and 0 while paused.

Two rules deserve their reasons. The hold counts from the last change that was
*applied*: if refused signals counted, an alarm repeated faster than the hold
would freeze the limit for as long as it rings. And a signal at the ceiling or at
the minimum changes nothing, so it starts no hold either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import final

import attrs

from trio_turnstile.limits import LimitPolicy

from .events import Decision, Reason, Signal
from .throttle import Throttle

_NONE: Mapping[str, object] = MappingProxyType({})

POLICY_TICK = 0.1
"""Seconds between two looks of an adaptive policy at its limiter."""


@final
@attrs.define(eq=False)
class LimitController:
    """Decides what the limit of one limiter ought to be; applies nothing itself."""

    name: str
    ceiling: float
    throttle: Throttle
    policy: LimitPolicy | None = None
    enforce: bool = True
    """Whether what the policy proposes is done, or only recorded."""
    cap: float = attrs.field(init=False)
    limit: float = attrs.field(init=False)
    """What the limit ought to be now, in tokens."""
    resume_at: float | None = attrs.field(default=None, init=False)
    """When the pause ends: ``None`` if there is none, infinity if by command only."""
    _shadow: float = attrs.field(init=False)
    _changed_at: float = attrs.field(default=-math.inf, init=False)
    _hear_policy_at: float = attrs.field(default=-math.inf, init=False)

    def __attrs_post_init__(self) -> None:
        self.cap = self.ceiling
        self._shadow = self._proposed()
        self.limit = self._wanted()

    def signal(self, signal: Signal, now: float, in_use: int) -> Decision:
        """Move the cap one step, or refuse to."""
        cap = self.throttle.step(signal, self.cap, self.ceiling, in_use)
        if cap == self.cap:
            bound = Reason.AT_CEILING if signal is Signal.UP else Reason.AT_MINIMUM
            return self._decide(bound, now, signal)
        hold_left = self._changed_at + self.throttle.hold - now
        if hold_left > 0:
            return self._decide(Reason.HOLDING, now, signal, evidence={"hold_left": hold_left})
        self.cap, self._changed_at = cap, now
        return self._decide(Reason.SIGNAL, now, signal)

    def assign(self, tokens: float, now: float) -> Decision:
        """Take the operator's word for it: at once, past every rule, ending any pause."""
        self.ceiling = max(self.ceiling, tokens)
        self.cap, self._changed_at, self.resume_at = tokens, now, None
        before, self.limit = self.limit, tokens
        return Decision(self.name, now, None, before, tokens, Reason.MANUAL)

    def pause(self, seconds: float | None, now: float) -> Decision:
        """Take the limit to 0 for some seconds, or until `resume`; never shorten a pause."""
        until = math.inf if seconds is None else now + seconds
        self.resume_at = max(until, self.resume_at or -math.inf)
        return self._decide(Reason.PAUSED, now, evidence={"until": self.resume_at})

    def resume(self, now: float) -> Decision | None:
        """End the pause; ``None`` if there is none."""
        if self.resume_at is None:
            return None
        self.resume_at = None
        return self._decide(Reason.RESUMED, now)

    def tick(self, now: float, in_use: int, waiting: int) -> Decision | None:
        """Let time pass: hear the policy, end a pause; ``None`` if nothing moved."""
        if self.policy is not None and now >= self._hear_policy_at:
            self._hear_policy_at = now + POLICY_TICK
            self.policy.on_tick(now, in_use, waiting)
        if self.resume_at is not None and now >= self.resume_at:
            return self.resume(now)
        if self.policy is None or not self.stale:
            return None
        if self.enforce:
            return self._decide(Reason.POLICY, now, evidence=self.policy.why())
        before, self._shadow = self._shadow, self._proposed()
        evidence = {"cap": self.cap, **self.policy.why()}
        return Decision(self.name, now, None, before, self._shadow, Reason.SHADOW, evidence)

    @property
    def stale(self) -> bool:
        """Whether the policy proposes something that was not decided on yet."""
        if self.policy is None:
            return False
        if self.enforce:
            return self._wanted() != self.limit
        return self._proposed() != self._shadow

    @property
    def next_tick(self) -> float:
        """When `tick` has something to do next, on trio's clock; infinity for never."""
        resume_at = math.inf if self.resume_at is None else self.resume_at
        return resume_at if self.policy is None else min(resume_at, self._hear_policy_at)

    def _wanted(self) -> float:
        if self.resume_at is not None:
            return 0
        return self._proposed() if self.enforce else self.cap

    def _proposed(self) -> float:
        if self.policy is None or self.policy.limit >= self.cap:
            return self.cap
        # One token at least: at none no call would finish, and a policy that
        # learns from finished calls would never propose anything again.
        return min(self.cap, max(math.floor(self.policy.limit), self.throttle.min, 1))

    def _decide(
        self,
        reason: Reason,
        now: float,
        signal: Signal | None = None,
        evidence: Mapping[str, object] = _NONE,
    ) -> Decision:
        before = self.limit
        if not reason.refusal:
            self.limit = self._wanted()
        return Decision(
            self.name, now, signal, before, self.limit, reason, {"cap": self.cap, **evidence}
        )
