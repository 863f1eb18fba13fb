"""Turns a decision into a sentence for people."""

from __future__ import annotations

import math
from collections.abc import Callable

from trio_turnstile import Decision, Reason


def sentence(decision: Decision) -> str:
    """Return a sentence that says what was decided, why, and who asked for it."""
    what = _shown(decision.after)
    if decision.before != decision.after and decision.reason is not Reason.SHADOW:
        what = f"{_shown(decision.before)} to {what}"
    return f"{what}: {_WHY[decision.reason](decision)}{_asker(decision)}"


def _asker(decision: Decision) -> str:
    asker = f" (by {decision.by})" if decision.by else ""
    return f"{asker}: {decision.note}" if decision.note else asker


def _shown(tokens: float) -> str:
    return "no limit" if tokens == math.inf else f"{tokens:g}"


def _signal(decision: Decision) -> str:
    return "a signal" if decision.signal is None else f"a signal {decision.signal.value}"


def _time(decision: Decision) -> str:
    until = decision.evidence.get("until")
    if not isinstance(until, float) or until == math.inf:
        return ""
    return f" for {until - decision.time:.0f} s"


def _hold(decision: Decision) -> str:
    left = decision.evidence.get("hold_left")
    return f"{left:.1f} s" if isinstance(left, int | float) else "some time"


def _overridden(decision: Decision) -> str:
    by = decision.evidence.get("by")
    return f"{_signal(decision)} was refused, as {by or 'somebody'} has set the limit"


_WHY: dict[Reason, Callable[[Decision], str]] = {
    Reason.SIGNAL: _signal,
    Reason.MANUAL: lambda _: "the program set it",
    Reason.POLICY: lambda _: "the policy moved it",
    Reason.SHADOW: lambda _: "the policy proposes this, but is not enforced",
    Reason.PAUSED: lambda decision: f"paused{_time(decision) or ' until resumed'}",
    Reason.RESUMED: lambda _: "resumed",
    Reason.WITHHELD: lambda decision: f"a call was refused; a token is withheld{_time(decision)}",
    Reason.HOLDING: lambda decision: (
        f"{_signal(decision)} was refused, as the hold lasts {_hold(decision)} more"
    ),
    Reason.AT_CEILING: lambda decision: f"{_signal(decision)} was refused at the ceiling",
    Reason.AT_MINIMUM: lambda decision: f"{_signal(decision)} was refused at the minimum",
    Reason.OVERRIDE: lambda decision: f"set past every rule{_time(decision)}",
    Reason.BREAKER: lambda decision: f"the breaker is {decision.evidence.get('state')}",
    Reason.RELEASED: lambda _: "the override ended",
    Reason.OVERRIDDEN: _overridden,
    Reason.UNCHANGED: lambda _: "there was nothing to end",
}
