"""Steps: what a pipeline does with each item, and what a step may return. Frozen values."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractAsyncContextManager
from enum import Enum
from inspect import isgeneratorfunction
from types import BuiltinFunctionType
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar, final

import attrs

from trio_turnstile._engine.gate import Claims, Weight, as_entry
from trio_turnstile._engine.pacing import Cost, check_rate
from trio_turnstile._engine.policies import ErrorPolicy, as_policies
from trio_turnstile._limiting.budget import Budget
from trio_turnstile._limiting.either import AnyLimiter, made_of_number
from trio_turnstile._limiting.limiter import Limiter
from trio_turnstile._limiting.rate import RateLimiter
from trio_turnstile._limiting.shared import ByKey
from trio_turnstile._texts import shown
from trio_turnstile._util import check_instance, check_seconds, check_whole

from .gathering import Batch

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Discarded(Enum):
    """The type of `DISCARD`."""

    DISCARD = "discard"

    def __repr__(self) -> str:
        return "DISCARD"


DISCARD: Final = Discarded.DISCARD
"""A processor returns it to drop the item: nothing is passed on."""

Discard: TypeAlias = Literal[Discarded.DISCARD]
"""The type of `DISCARD`, for annotations."""


def _as_tuple(items: Iterable[T]) -> tuple[T, ...]:
    return tuple(items)


@final
@attrs.frozen
class Many(Generic[T_co]):
    """A processor returns it to pass several items on, or none.

    The iterable is consumed immediately, so that an exception in it counts as an error of
    the step.
    """

    items: tuple[T_co, ...] = attrs.field(converter=_as_tuple)
    """The items, in the order in which they are passed on."""


@final
@attrs.frozen(eq=False, kw_only=True)
class Step:
    """One step of a pipeline, with types left out: `Processor` and `Consumer` check them."""

    call: Any
    """The async function; or an async context manager that gives one, or is one itself."""
    name: str
    limiter: AnyLimiter | None
    claims: Claims | None
    """What items ask of the limiter, if not a token each."""
    own_limiter: Limiter | None
    """The limiter, if it was made from a bare number."""
    rate: RateLimiter | Budget | None
    cost: Cost | None
    window: int | None
    ordered: bool
    key: Callable[[Any], Hashable] | None
    timeout: float | None
    policies: tuple[ErrorPolicy, ...]
    batch: Batch | None

    @property
    def stands_alone(self) -> bool:
        """Whether it needs tokens, a rate, a window, an order or batches of its own.

        A step that needs none runs in the task of the step before it.
        """
        own = (self.limiter, self.rate, self.window, self.key, self.batch)
        return self.ordered or any(part is not None for part in own)


def make_step(
    call: Any,
    *,
    name: str | None = None,
    limiter: AnyLimiter | ByKey[Any] | int | None = None,
    weight: Weight | None = None,
    rate: RateLimiter | Budget | None = None,
    cost: Cost | None = None,
    window: int | None = None,
    ordered: bool = False,
    key: Callable[[Any], Hashable] | None = None,
    timeout: float | None = None,
    on_error: ErrorPolicy | Iterable[ErrorPolicy] = (),
    batch: Batch | None = None,
) -> Step:
    """Check the options of a step, and return it.

    Raises:
      TypeError, ValueError: for an option of a wrong type or value.
    """
    _check_call(call)
    check_rate(rate, cost)
    if batch is not None:
        check_instance("batch", batch, Batch, "Batch(100)")
    if key is not None and not callable(key):
        raise TypeError(
            f"key must be a function of an item, such as operator.itemgetter({key!r}), not {key!r}"
        )
    if ordered and key is not None:
        raise ValueError("a step is ordered or has a key, not both: ordered keeps all in order")
    if batch is not None and (ordered or key is not None):
        raise ValueError("batches have no order: give a key to Batch, or leave ordered and key out")
    if window is not None:
        check_whole("window", window, 1)
    if window is not None and batch is not None and window < (batch.size or 1):
        raise ValueError(
            f"a window of {window} items never fills a batch of {batch.size}: widen the window"
        )
    if timeout is not None:
        check_seconds("timeout", timeout, positive=True)
    if limiter is None and weight is not None:
        raise ValueError("a weight needs a limiter, whose tokens it counts: limiter=Limiter(...)")
    called = name or str(getattr(call, "__name__", type(call).__name__))
    bounding, claims = None, None
    if limiter is not None:
        bounding, claims = as_entry(limiter, weight, "limiter", called)
    return Step(
        call=call,
        name=called,
        limiter=bounding,
        claims=claims,
        own_limiter=None if isinstance(limiter, ByKey) else made_of_number(limiter, bounding),
        rate=rate,
        cost=cost,
        window=window,
        ordered=ordered,
        key=key,
        timeout=timeout,
        policies=as_policies(on_error),
        batch=batch,
    )


def _check_call(call: Any) -> None:
    if isinstance(call, type):
        raise TypeError(
            f"a step must be an object, not a class: did you mean {call.__name__}(...)?"
        )
    if not callable(call) and not isinstance(call, AbstractAsyncContextManager):
        raise TypeError(
            f"a step must be an async function or an async context manager, not {shown(call)}"
        )
    # A function that is not async may still return an awaitable, but these do not.
    if isinstance(call, BuiltinFunctionType) or isgeneratorfunction(call):
        raise TypeError(
            f"a step must be an async function: {shown(call)} is not; for a function that blocks, "
            "await trio.to_thread.run_sync(...) in an async function"
        )
