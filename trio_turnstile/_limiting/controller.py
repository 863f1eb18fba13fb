"""`LimitController`: computes the limit of one limiter. Sans-I/O.

Time comes in as an argument, decisions go out as values, and nothing is applied here.
The limit is the least of *named bounds*:

- ``cap`` starts at the ceiling; signals move it under the rules of the `Throttle`, and an
  assignment sets it;
- ``policy``, if there is an adaptive policy, is what it proposes, but no less than the
  minimum;
- ``override`` replaces these two while somebody has set the limit past every rule;
- ``pause`` is 0 while the limiter is paused;
- ``breaker`` is what a breaker allows while it is not closed;
- ``withheld`` is the least of the others, less the tokens that are withheld. If a call is
  refused with a time to wait, its token is withheld for that long. So one caller that is
  always refused costs one token, and an outage stops everybody.

So ``limit = clamp(min(cap, policy), minimum, ceiling) - withheld``, and 0 while paused. Each
`Bound` says why it is where it is. A new kind of bound is another entry in the same table.

Two rules need explaining. The hold counts from the last change that was *applied*:
if refused signals counted, an alarm that repeats faster than the hold would freeze the
limit for as long as it rings. And a signal at the ceiling or at the minimum changes
nothing, so it starts no hold either.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from copy import copy
from types import MappingProxyType
from typing import final

import attrs

from trio_turnstile.limits import LimitPolicy

from .breaking import CallBound
from .events import Bound, Decision, Reason, Signal
from .override import NOBODY, Asker, Override
from .throttle import Throttle

_NONE: Mapping[str, object] = MappingProxyType({})
_MOVED = frozenset({"cap", "policy"})
"""The bounds that do not count while there is an override."""
_DERIVED = frozenset({"policy", "withheld"})
"""The bounds that do not count for the question where the policy would put the limit."""

POLICY_TICK = 0.1
"""Seconds between two calls of a policy's ``on_tick``."""


@final
@attrs.define(eq=False)
class LimitController:
    """Computes the limit of one limiter; an actuator applies it."""

    name: str
    ceiling: float
    throttle: Throttle
    policy: LimitPolicy | None = None
    enforce: bool = True
    """Whether the policy bounds the limit; if not, its proposals are only recorded."""
    breaker: CallBound | None = None
    limit: float = attrs.field(init=False)
    """The limit, in tokens: always the least of `bounds`."""
    resume_at: float | None = attrs.field(default=None, init=False)
    """When the pause ends: ``None`` if not paused, infinity if only `resume` ends it."""
    override: Override | None = attrs.field(default=None, init=False)
    """The override that somebody has set; ``None`` if there is none."""
    _bounds: dict[str, Bound] = attrs.field(factory=dict, init=False)
    _withheld: list[float] = attrs.field(factory=list, init=False)
    """When each token that is withheld may be used again: a heap."""
    _shadow: float = attrs.field(init=False)
    """What the limit would be if the policy were enforced, when it is not."""
    _changed_at: float = attrs.field(default=-math.inf, init=False)
    """When a signal or an assignment last moved the cap: the hold counts from here."""
    _next_policy_tick: float = attrs.field(default=-math.inf, init=False)

    def __attrs_post_init__(self) -> None:
        self._set("cap", self.ceiling, {"reason": "ceiling"})
        if self.policy is not None and self.enforce:
            self._set("policy", self._proposed(self.policy), {"reason": "initial"})
        self.limit = self._least()
        proposed = math.inf if self.policy is None else self._proposed(self.policy)
        self._shadow = min(self.ceiling, proposed)

    @property
    def cap(self) -> float:
        """Where signals and assignments have put the limit, in tokens."""
        return self._bounds["cap"].tokens

    @property
    def bounds(self) -> Mapping[str, Bound]:
        """The bounds that hold now, by name."""
        return MappingProxyType(self._in_force())

    def signal(self, signal: Signal, now: float, in_use: int, asker: Asker = NOBODY) -> Decision:
        """Move the cap one step, or refuse to."""
        if self.override is not None:
            return self._decide(Reason.OVERRIDDEN, now, signal, self.override.evidence, asker)
        cap = self.throttle.step(signal, self.cap, self.ceiling, in_use)
        if cap == self.cap:
            end = Reason.AT_CEILING if signal is Signal.UP else Reason.AT_MINIMUM
            return self._decide(end, now, signal, asker=asker)
        hold_left = self.hold_left(now)
        if hold_left > 0:
            return self._decide(Reason.HOLDING, now, signal, {"hold_left": hold_left}, asker)
        self._changed_at = now
        why = {"reason": "signal", "signal": signal.value, "time": now, **asker.why}
        self._set("cap", cap, why)
        return self._decide(Reason.SIGNAL, now, signal, asker=asker)

    def hold_left(self, now: float) -> float:
        """Return how many seconds of the hold are left; 0 without one."""
        return max(0.0, self._changed_at + self.throttle.hold - now)

    @property
    def proposal(self) -> float | None:
        """What the policy proposes, in whole tokens; ``None`` if there is no policy."""
        return None if self.policy is None else self._proposed(self.policy)

    def assign(self, tokens: float, now: float) -> Decision:
        """Set the limit as the program says: at once, past every rule, ending all other bounds.

        There is no other bound until the policy is consulted again.
        """
        self.ceiling = max(self.ceiling, tokens)
        self._changed_at, self.resume_at, self.override = now, None, None
        self._withheld.clear()
        self._bounds.clear()
        self._reset_breaker()
        self._set("cap", tokens, {"reason": "manual", "time": now})
        before, self.limit = self.limit, tokens
        return Decision(self.name, now, None, before, tokens, Reason.MANUAL)

    def set(self, override: Override, now: float) -> Decision:
        """Set the limit past every rule until the override ends; pauses go on."""
        self.override = override
        self._set("override", override.tokens, override.why)
        asker = Asker(override.by, override.note)
        end = {} if override.until == math.inf else {"until": override.until}
        return self._decide(Reason.OVERRIDE, now, evidence=end, asker=asker)

    def release(self, now: float, asker: Asker = NOBODY) -> Decision | None:
        """End the override; ``None`` if there is none."""
        if self.override is None:
            return None
        evidence, self.override = self.override.evidence, None
        del self._bounds["override"]
        return self._decide(Reason.RELEASED, now, evidence=evidence, asker=asker)

    def leave(self, asked: str, now: float, asker: Asker) -> Decision:
        """Change nothing, because there is nothing to release or to resume."""
        return self._decide(Reason.UNCHANGED, now, evidence={"asked": asked}, asker=asker)

    def pause(self, seconds: float | None, now: float, asker: Asker = NOBODY) -> Decision:
        """Take the limit to 0 for some seconds, or until `resume`; never shorten a pause."""
        until = math.inf if seconds is None else now + seconds
        self.resume_at = max(until, self.resume_at or -math.inf)
        self._set("pause", 0, {"reason": "paused", "until": self.resume_at, **asker.why})
        return self._decide(Reason.PAUSED, now, evidence={"until": self.resume_at}, asker=asker)

    def resume(self, now: float, asker: Asker = NOBODY) -> Decision | None:
        """End the pause, and use all tokens again; ``None`` if there is nothing to end."""
        if self.resume_at is None and not self._withheld and "breaker" not in self._bounds:
            return None
        self._reset_breaker()
        self.resume_at = None
        self._withheld.clear()
        self._bounds.pop("pause", None)
        return self._decide(Reason.RESUMED, now, asker=asker)

    def withhold(self, seconds: float, now: float) -> Decision:
        """Keep one token out of use for some seconds, but no longer than the throttle allows."""
        until = now + min(seconds, self.throttle.max_pause)
        heapq.heappush(self._withheld, until)
        return self._decide(Reason.WITHHELD, now, evidence={"until": until})

    def heed_breaker(self, now: float) -> Decision | None:
        """Apply the present bound of the breaker; ``None`` if it has not changed."""
        assert self.breaker is not None
        tokens = self.breaker.tokens
        if tokens == self._broken_to:
            return None
        why = self.breaker.why()
        self._bounds.pop("breaker", None)
        if tokens < math.inf:
            self._set("breaker", tokens, why)
        return self._decide(Reason.BREAKER, now, evidence=why)

    @property
    def withheld(self) -> int:
        """How many tokens are withheld."""
        return len(self._withheld)

    def twin(self) -> LimitController:
        """Return a copy in the same state, to try out what would happen."""
        twin = copy(self)
        twin._bounds, twin._withheld = self._bounds.copy(), self._withheld.copy()
        twin.breaker = None
        return twin

    def begin_anew(self, name: str, tokens: float) -> None:
        """Start again as if made with this name and this limit, and without a policy."""
        self.assign(tokens, -math.inf)
        self.name, self.ceiling = name, tokens
        self._set("cap", tokens, {"reason": "ceiling"})

    def forget_times(self) -> None:
        """End the hold, because another trio run, with another clock, has begun."""
        self._changed_at = -math.inf

    def tick(self, now: float, in_use: int, waiting: int) -> Decision | None:
        """Let time pass: consult the policy, end a pause; ``None`` if the limit stays."""
        if self.policy is not None and now >= self._next_policy_tick:
            self._next_policy_tick = now + POLICY_TICK
            self.policy.on_tick(now, in_use, waiting)
        if self.resume_at is not None and now >= self.resume_at:
            return self._end_pause(now)
        if self._withheld and now >= self._withheld[0]:
            return self._use_again(now)
        if self.breaker is not None:
            self.breaker.tick(now)
            if self.breaker.tokens != self._broken_to:
                return self.heed_breaker(now)
        if self.override is not None and now >= self.override.until:
            return self.release(now)
        if self.policy is None:
            return None
        return self._follow(self.policy, now) if self.enforce else self._record(self.policy, now)

    @property
    def stale(self) -> bool:
        """Whether the policy proposes something that `tick` has not decided on yet."""
        if self.policy is None:
            return False
        proposed = self._proposed(self.policy)
        if not self.enforce:
            return min(self.cap, proposed) != self._shadow
        bound = self._bounds.get("policy")
        if self.override is not None or (bound is not None and bound.tokens == proposed):
            return False
        others = (b.tokens for name, b in self._bounds.items() if name not in _DERIVED)
        return max(0, min(proposed, *others) - len(self._withheld)) != self.limit

    @property
    def _broken_to(self) -> float:
        bound = self._bounds.get("breaker")
        return math.inf if bound is None else bound.tokens

    @property
    def next_tick(self) -> float:
        """When `tick` has something to do next, on trio's clock; infinity for never."""
        resume_at = math.inf if self.resume_at is None else self.resume_at
        use_again_at = self._withheld[0] if self._withheld else math.inf
        policy_at = math.inf if self.policy is None else self._next_policy_tick
        release_at = math.inf if self.override is None else self.override.until
        breaker_at = math.inf
        if self.breaker is not None:
            is_heeded = self.breaker.tokens == self._broken_to
            breaker_at = self.breaker.next_tick if is_heeded else -math.inf
        return min(resume_at, use_again_at, policy_at, release_at, breaker_at)

    # ---- inside ----

    def _reset_breaker(self) -> None:
        self._bounds.pop("breaker", None)
        if self.breaker is not None:
            self.breaker.reset()

    def _end_pause(self, now: float) -> Decision:
        self.resume_at = None
        del self._bounds["pause"]
        return self._decide(Reason.RESUMED, now)

    def _use_again(self, now: float) -> Decision:
        while self._withheld and now >= self._withheld[0]:
            heapq.heappop(self._withheld)
        return self._decide(Reason.RESUMED, now)

    def _follow(self, policy: LimitPolicy, now: float) -> Decision | None:
        moved = self.stale
        self._consult(policy)
        if not moved:
            return None
        return self._decide(Reason.POLICY, now, evidence=self._bounds["policy"].why)

    def _record(self, policy: LimitPolicy, now: float) -> Decision | None:
        before, self._shadow = self._shadow, min(self.cap, self._proposed(policy))
        if before == self._shadow:
            return None
        evidence = {"cap": self.cap, **policy.why()}
        return Decision(self.name, now, None, before, self._shadow, Reason.SHADOW, evidence)

    def _consult(self, policy: LimitPolicy) -> None:
        """Take the policy's proposal as its bound."""
        tokens, bound = self._proposed(policy), self._bounds.get("policy")
        if bound is None or bound.tokens != tokens:
            self._set("policy", tokens, dict(policy.why()))

    def _proposed(self, policy: LimitPolicy) -> float:
        # One token at least: with none, no call would finish, and a policy that
        # learns from finished calls would never propose anything again.
        limit = policy.limit
        whole = limit if limit == math.inf else math.floor(limit)
        return max(whole, self.throttle.min, 1)

    def _set(self, name: str, tokens: float, why: Mapping[str, object]) -> None:
        self._bounds[name] = Bound(tokens, why)

    def _in_force(self) -> dict[str, Bound]:
        if self.override is None:
            return self._bounds.copy()
        return {name: bound for name, bound in self._bounds.items() if name not in _MOVED}

    def _least(self) -> float:
        self._bounds.pop("withheld", None)
        least = min(bound.tokens for bound in self._in_force().values())
        if not self._withheld:
            return least
        why = {"reason": "withheld", "tokens": self.withheld, "until": self._withheld[0]}
        self._set("withheld", max(0, least - self.withheld), why)
        return self._bounds["withheld"].tokens

    def _decide(
        self,
        reason: Reason,
        now: float,
        signal: Signal | None = None,
        evidence: Mapping[str, object] = _NONE,
        asker: Asker = NOBODY,
    ) -> Decision:
        before = self.limit
        if not reason.refusal:
            if self.policy is not None and self.enforce:
                self._consult(self.policy)
            self.limit = self._least()
        return Decision(
            self.name,
            now,
            signal,
            before,
            self.limit,
            reason,
            {"cap": self.cap, **evidence},
            by=asker.by,
            note=asker.note,
        )
