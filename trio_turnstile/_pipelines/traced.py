"""`StepTrace`: how a step that gets traced items reports what became of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, TypeVar, final

import attrs
from trio.lowlevel import enable_ki_protection

from trio_turnstile._engine.counts import Fate
from trio_turnstile._engine.tracing import Traced, Tracer, tokens_at_hand, untraced
from trio_turnstile._errors import ConcurrentError

from .gathering import Batch
from .steps import DISCARD, Many

R = TypeVar("R")

Function: TypeAlias = Callable[[Any], Awaitable[Any]]


@final
@attrs.frozen(eq=False)
class StepTrace:
    """Tells the tracer of a run what one step makes from its items.

    Args:
      tracer: keeps count.
      is_last: whether nothing is made from what the step returns.
    """

    _tracer: Tracer
    _is_last: bool

    def around(self, function: Function) -> Function:
        """Return a function of a traced item, which returns what was made from it, traced."""

        async def call(item: Any) -> Any:
            with tokens_at_hand((item,)):
                result = await function(untraced(item))
            return self._made(item, result)

        return call

    def around_batch(self, function: Function) -> Function:
        """Return a function of traced members, which returns what was made from them."""

        async def call(members: Sequence[Any]) -> Any:
            with tokens_at_hand(members):
                return await function(list(map(untraced, members)))

        return call

    @enable_ki_protection
    def _made(self, item: Any, result: Any) -> Any:
        if self._is_last or result is DISCARD or isinstance(result, Many):
            return self.made_of_batch((item,), result)
        return self._tracer.pass_on(item, result)

    def made_of_batch(self, members: Sequence[Any], result: Any) -> Any:
        """Return what was made from members that have ended, `Many` or `DISCARD`, traced."""
        if isinstance(result, Many) and not self._is_last:
            return Many(self._tracer.derive(members, result.items))
        for member in members:
            self.ended(member, Fate.COMPLETED)
        return result

    def ended(self, item: Any, fate: Fate) -> None:
        """Note how an item ended in this step."""
        self._tracer.end(item, fate)

    @staticmethod
    def failed(item: Any, error: ConcurrentError) -> None:
        """Note what an attempt at an item has raised."""
        if isinstance(item, Traced):
            item.error = error


def of_untraced(function: Callable[[Any], R] | None) -> Callable[[Any], R] | None:
    """Return a function of traced items, if there is one."""
    return None if function is None else lambda item: function(untraced(item))


def batch_of_untraced(batch: Batch | None) -> Batch | None:
    """Return the same batch, for traced items, if there is one."""
    if batch is None:
        return None
    return attrs.evolve(
        batch,
        weight=of_untraced(batch.weight),
        key=of_untraced(batch.key),
        until=of_untraced(batch.until),
    )
