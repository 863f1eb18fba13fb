"""`Entries`: the tokens that operations take for preparing and for work."""

from __future__ import annotations

from typing import Any, final

import attrs

from trio_turnstile._engine.gate import Gate, Weight, as_entry
from trio_turnstile._engine.slot import Slot
from trio_turnstile._limiting.either import (
    AnyLimiter,
    Tokens,
    as_limiter,
    made_of_number,
    tokens_of,
)
from trio_turnstile._limiting.limiter import Limiter
from trio_turnstile._limiting.shared import ByKey


@final
@attrs.frozen(eq=False)
class Entries:
    """The tokens of one run."""

    limiter: AnyLimiter
    """What bounds the work."""
    first: Tokens
    """The tokens from which an operation takes one before it begins."""
    gate: Gate | None
    """Where an operation takes its tokens, if not just one."""
    work: Tokens | None
    """What it takes in their place before its work, if preparing has tokens of its own."""
    own: dict[str, Limiter]
    """The limiters that were made from bare numbers, by what they bound."""
    _work_gate: Gate | None

    @property
    def limiters(self) -> set[AnyLimiter]:
        """All limiters that bound the run."""
        return {self.limiter, self.first.limiter}

    async def take_for_work(self, operation: object, slot: Slot) -> None:
        """Exchange the tokens for preparing for tokens for work, if work has tokens of its own."""
        if self.work is None:
            return  # noqa: ASYNC910 (nothing to wait for)
        slot.release()
        if self._work_gate is not None:
            self._work_gate.ask(operation, slot.task)
        await slot.acquire(self.work)


def open_entries(
    limiter: AnyLimiter | ByKey[Any] | int,
    prepare_limiter: AnyLimiter | int | None,
    weight: Weight | None,
) -> Entries:
    """Return the tokens for a run with these options of `run_phases`.

    Raises:
      TypeError, ValueError: if one of the options has a wrong type or value.
    """
    bounding, claims = as_entry(limiter, weight, "limiter", "work")
    tokens = tokens_of(bounding)
    gate = None if claims is None else Gate(tokens, claims)
    tokens = tokens if gate is None else gate.tokens
    made = None if isinstance(limiter, ByKey) else made_of_number(limiter, bounding)
    own = {} if made is None else {"work": made}
    if prepare_limiter is None:
        return Entries(bounding, tokens, gate, None, own, None)
    preparing = as_limiter(prepare_limiter, "prepare_limiter", "prepare")
    made = made_of_number(prepare_limiter, preparing)
    own |= {} if made is None else {"prepare": made}
    return Entries(bounding, tokens_of(preparing), None, tokens, own, gate)
