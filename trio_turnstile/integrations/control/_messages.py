"""`Messages`: acts on messages from outside, by the table of rules.

Only the beginning and the end of an alert have an effect, because Alertmanager repeats alerts that
go on. A refused action is tried again when the alert is repeated. Limits that an operator has set
are left alone, and so are pauses that somebody else has begun.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias, final

import attrs

from trio_turnstile import (
    Action,
    Decision,
    Limiter,
    Pause,
    Release,
    Resume,
    SetLimit,
    Signal,
    Turnstile,
)

from ._alerts import Alert, AlertmanagerMessage, PlainMessage
from ._board import Board
from ._documents import ActedDoc, IgnoredDoc, MessageDoc
from ._rules import Rule

BY_ALERTMANAGER = "alertmanager"
BY_MESSAGE = "a message"
OURS = frozenset({BY_ALERTMANAGER, BY_MESSAGE})
"""The authors of what rules do, which show when an alert ends that a rule has acted."""

REMEMBERED = 10_000
"""How many current alerts are remembered."""

_Key: TypeAlias = tuple[str, Rule, str]
"""The alert, the rule and the limiter."""


class _Ignored(Exception):
    """Nothing is done; the message says why."""


@final
@attrs.define(eq=False)
class Messages:
    """Maps messages to limiters. It is used only in the trio run."""

    _turnstile: Turnstile
    _board: Board
    _rules: Sequence[Rule]
    _firing: dict[_Key, None] = attrs.field(factory=dict, init=False)
    """The current alerts: a rule has acted on them, and has not undone that yet."""

    async def take_group(self, message: AlertmanagerMessage) -> MessageDoc:
        """Act on a group of alerts."""
        return await self._take(message.alerts, BY_ALERTMANAGER)

    async def take(self, message: PlainMessage) -> MessageDoc:
        """Act on a message in the simple form."""
        if message.status is not None:
            alert = Alert(message.status, message.labels, {"summary": message.note or ""})
            return await self._take([alert], BY_MESSAGE)
        said = MessageDoc([], [])
        assert message.limiter is not None
        signal = Signal(message.signal)
        title = f"{signal.value} for {message.limiter}"
        try:
            self._limiter(message.limiter)
            by = message.by or BY_MESSAGE
            decision = await self._turnstile.ask(message.limiter, signal, by=by, note=message.note)
            self._acted(said, title, signal.value, decision)
        except _Ignored as why:
            said.ignored.append(IgnoredDoc(title, str(why)))
        return said

    # ---- inside ----

    async def _take(self, alerts: Iterable[Alert], by: str) -> MessageDoc:
        said = MessageDoc([], [])
        for alert in alerts:
            title = f"{alert.title} ({alert.status})"
            rules = [rule for rule in self._rules if rule.fits(alert.labels)]
            if not rules:
                said.ignored.append(IgnoredDoc(title, "no rule matches these labels"))
            for rule in rules:
                try:
                    await self._follow(rule, alert, by, title, said)
                except _Ignored as why:
                    said.ignored.append(IgnoredDoc(title, str(why)))
        return said

    async def _follow(
        self, rule: Rule, alert: Alert, by: str, title: str, said: MessageDoc
    ) -> None:
        limiter = self._limiter(rule.limiter_for(alert.labels))
        key = (alert.identity, rule, limiter.name)
        if alert.status == "firing":
            action = self._beginning(key, limiter)
        else:
            action = self._end(key, limiter)
        decision = await self._turnstile.ask(limiter.name, action, by=by, note=alert.title)
        self._acted(said, title, _shown(action), decision)
        if alert.status == "firing":
            self._remember(key)

    def _acted(self, said: MessageDoc, title: str, action: str, decision: Decision) -> None:
        document = self._board.decision(decision)
        if not decision.applied:
            raise _Ignored(f"{decision.limiter} stays at {document.text}")
        said.acted.append(ActedDoc(title, action, decision.limiter, document))

    def _limiter(self, name: str) -> Limiter:
        limiter = self._turnstile.limiters.get(name)
        if limiter is None:
            raise _Ignored(f"no limiter is named {name[:100]!r}")
        return limiter

    def _remember(self, key: _Key) -> None:
        self._firing[key] = None
        if len(self._firing) > REMEMBERED:
            del self._firing[next(iter(self._firing))]

    # ---- the actions of a rule ----

    def _beginning(self, key: _Key, limiter: Limiter) -> Action:
        rule = key[1]
        if key in self._firing and rule.for_seconds is None:
            raise _Ignored("it was already firing")
        if rule.kind == "pause":
            return Pause(rule.for_seconds)
        if not isinstance(rule.firing, int):
            return Signal(rule.firing)
        tokens = self._capped(limiter, [rule.firing, *self._caps(limiter)])
        held = limiter.override
        if held is not None and held.tokens == tokens and rule.for_seconds is None:
            self._remember(key)
            raise _Ignored(f"{limiter.name} is already capped at {tokens:g}")
        return SetLimit(tokens, for_seconds=rule.for_seconds)

    def _end(self, key: _Key, limiter: Limiter) -> Action:
        known = self._firing.pop(key, key) is None
        rule = key[1]
        if rule.resolved == "nothing":
            raise _Ignored("the rule does nothing at its end")
        if rule.resolved == "resume":
            return self._end_of_pause(limiter)
        if rule.resolved == "release":
            return self._end_of_cap(limiter)
        if not known:
            raise _Ignored("nothing was done when it began")
        return Signal(rule.resolved)

    def _end_of_pause(self, limiter: Limiter) -> Action:
        pause = limiter.statistics().bounds.get("pause")
        if pause is None or pause.why.get("by") not in OURS:
            raise _Ignored(f"{limiter.name} is not paused by an alert")
        if any(rule.kind == "pause" and name == limiter.name for _, rule, name in self._firing):
            raise _Ignored("another alert still pauses it")
        return Resume()

    def _end_of_cap(self, limiter: Limiter) -> Action:
        if limiter.override is None or limiter.override.by not in OURS:
            raise _Ignored(f"{limiter.name} is not capped by an alert")
        caps = self._caps(limiter)
        return SetLimit(self._capped(limiter, caps)) if caps else Release()

    def _caps(self, limiter: Limiter) -> list[int]:
        """Return the caps that current alerts have put on a limiter."""
        return [
            rule.firing
            for _, rule, name in self._firing
            if name == limiter.name and isinstance(rule.firing, int)
        ]

    def _capped(self, limiter: Limiter, caps: Iterable[int]) -> float:
        """Return the least of some caps and of the limit that there would be without them."""
        held = limiter.override
        if held is None:
            bounds = limiter.statistics().bounds
            free = min(bounds[name].tokens for name in bounds.keys() & {"cap", "policy"})
            return min(free, *caps)
        if held.by not in OURS:
            raise _Ignored(f"{held.by or 'somebody'} has set its limit")
        return min(limiter.statistics().cap, *caps)


def _shown(action: Action) -> str:
    match action:
        case Signal():
            return action.value
        case SetLimit():
            return f"cap {action.tokens:g}"
        case _:
            return type(action).__name__.lower()
