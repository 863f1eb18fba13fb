"""`Processor` and `Consumer`: the steps of pipelines, and how they are joined."""

from __future__ import annotations

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Hashable,
    Iterable,
    Mapping,
)
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeAlias, TypedDict, TypeVar, Unpack, final, overload

import attrs

from trio_turnstile._engine.policies import ErrorPolicy
from trio_turnstile._limiting.budget import Budget
from trio_turnstile._limiting.either import AnyLimiter
from trio_turnstile._limiting.rate import RateLimiter
from trio_turnstile._limiting.shared import ByKey

from .gathering import Batch
from .steps import Discard, Many, Step, make_step

T = TypeVar("T")
U = TypeVar("U")
V = TypeVar("V")
C = TypeVar("C")
T_contra = TypeVar("T_contra", contravariant=True)
U_co = TypeVar("U_co", covariant=True)

Function: TypeAlias = Callable[[T], Awaitable[U]]
"""What a step calls: an async function of one item."""


class BatchStepOptions(TypedDict, Generic[T], total=False):
    """The options of a step that takes batches: it is called with a list of items."""

    limiter: AnyLimiter | ByKey[T] | int | None
    weight: int | Callable[[T], int] | None
    rate: RateLimiter | Budget | None
    cost: Callable[[Any], float | Mapping[str, float]] | None
    window: int | None
    timeout: float | None
    on_error: ErrorPolicy | Iterable[ErrorPolicy]
    name: str | None


class StepOptions(BatchStepOptions[T], Generic[T], total=False):
    """The options of a step that takes items one by one."""

    ordered: bool
    key: Callable[[T], Hashable] | None


_OPTIONS = frozenset(StepOptions.__optional_keys__)


def check_options(kind: str, options: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise `TypeError` for an unknown option, and name those that are known."""
    unknown = [name for name in options if name not in known]
    if unknown:
        raise TypeError(
            f"{kind} has no option {unknown[0]!r}; its options are: {', '.join(sorted(known))}"
        )


Opened: TypeAlias = AbstractAsyncContextManager[Callable[[T], Awaitable[U]]]
"""An async context manager that gives such a function, and is open while the pipeline runs."""

Yielding: TypeAlias = Callable[[T], AsyncIterator[U]]
"""An async generator function. In a union with `Function`, mypy could infer neither."""

OpenedYielding: TypeAlias = AbstractAsyncContextManager[Callable[[T], AsyncIterator[U]]]
"""An async context manager that gives an async generator function."""


@final
@attrs.frozen(init=False, eq=False)
class Processor(Generic[T_contra, U_co]):
    """A step that makes something new from each item, passes several on, or drops it.

    The function is called with an item, or with a batch of items, and what it returns is
    passed on: one thing; with `Many`, several or none; with `DISCARD`, nothing. If it is an
    async generator function, what it has yielded is passed on when it has ended.

    Args:
      function: an async function of one item, or with ``batch`` of a list of items; or an
        async context manager that gives such a function, which is entered when a run begins
        and left when it ends. With a batch, the function may raise `BatchError` to say which
        members failed, and what to pass on for the others.
      batch: how to gather items into batches.
      limiter: bounds how many items are worked on at once: a `Limiter`, a
        `trio.CapacityLimiter`, a number, or the keys of a `SharedLimiter` (`SharedLimiter.by`).
        With ``None``, only the window bounds that. A batch takes one token.
      weight: how many tokens an item or a batch takes: a number, or a function of the item or
        of the list of items. An item that needs more than the limit fails with `TooWide`.
      rate: how many items, retries included, may begin each second. A batch counts once.
        With ``cost`` it may be a `Budget`.
      cost: a function of an item: how much it takes of the rate, if not one. It returns a
        number, or for a `Budget` the amounts by name. The step may correct it with
        `Budget.settle`. A batch costs the sum over its members. If the function raises, or
        returns more than the burst, the item fails.
      window: the most items in hand, whether they run, wait, back off, or are
        finished and not yet passed on. By default the limit and 64 more; without
        a limiter, 64. With ``batch`` it counts items, including those being gathered.
      ordered: pass items on in the order in which they came. Later items are worked on
        meanwhile, as far as the window reaches.
      key: a function of an item. Items for which it returns the same are worked on and
        passed on one after the other, in the order in which they came.
      timeout: seconds for one attempt at one item; after that it gets `trio.TooSlowError`.
      on_error: the policies for errors, asked in order, or a single policy. If none gives a
        verdict, the pipeline is aborted. They are asked about each member of a batch that
        failed, and the members to be tried again make the next batch.
      name: the name of the step in errors and reports.

    Raises:
      TypeError, ValueError: for an option of a wrong type or value.
    """

    _steps: tuple[Step, ...]

    @overload
    def __init__(
        self,
        function: Function[T_contra, Many[U_co]] | Function[T_contra, Many[U_co] | Discard],
        **options: Unpack[StepOptions[T_contra]],
    ) -> None: ...

    @overload
    def __init__(
        self,
        function: Function[T_contra, U_co] | Function[T_contra, U_co | Discard],
        **options: Unpack[StepOptions[T_contra]],
    ) -> None: ...

    @overload
    def __init__(
        self,
        function: Opened[T_contra, Many[U_co]] | Opened[T_contra, Many[U_co] | Discard],
        **options: Unpack[StepOptions[T_contra]],
    ) -> None: ...

    @overload
    def __init__(
        self,
        function: Opened[T_contra, U_co] | Opened[T_contra, U_co | Discard],
        **options: Unpack[StepOptions[T_contra]],
    ) -> None: ...

    @overload
    def __init__(
        self,
        function: Yielding[T_contra, U_co],
        **options: Unpack[StepOptions[T_contra]],
    ) -> None: ...

    @overload
    def __init__(
        self,
        function: OpenedYielding[T_contra, U_co],
        **options: Unpack[StepOptions[T_contra]],
    ) -> None: ...

    @overload
    def __init__(
        self,
        function: Function[list[T_contra], Many[U_co]]
        | Function[list[T_contra], Many[U_co] | Discard],
        *,
        batch: Batch,
        **options: Unpack[BatchStepOptions[list[T_contra]]],
    ) -> None: ...

    @overload
    def __init__(
        self,
        function: Function[list[T_contra], U_co] | Function[list[T_contra], U_co | Discard],
        *,
        batch: Batch,
        **options: Unpack[BatchStepOptions[list[T_contra]]],
    ) -> None: ...

    @overload
    def __init__(
        self,
        function: Opened[list[T_contra], Many[U_co]] | Opened[list[T_contra], Many[U_co] | Discard],
        *,
        batch: Batch,
        **options: Unpack[BatchStepOptions[list[T_contra]]],
    ) -> None: ...

    @overload
    def __init__(
        self,
        function: Opened[list[T_contra], U_co] | Opened[list[T_contra], U_co | Discard],
        *,
        batch: Batch,
        **options: Unpack[BatchStepOptions[list[T_contra]]],
    ) -> None: ...

    @overload
    def __init__(
        self,
        function: Yielding[list[T_contra], U_co],
        *,
        batch: Batch,
        **options: Unpack[BatchStepOptions[list[T_contra]]],
    ) -> None: ...

    def __init__(self, function: Any, **options: Any) -> None:
        check_options("Processor", options, {*_OPTIONS, "batch"})
        object.__setattr__(self, "_steps", (make_step(function, **options),))

    @overload
    def __or__(self, other: Processor[U_co, V]) -> Processor[T_contra, V]: ...

    @overload
    def __or__(self, other: Consumer[U_co]) -> Consumer[T_contra]: ...

    def __or__(self, other: Any) -> Any:
        """Join this step with the next."""
        if not isinstance(other, Processor | Consumer):
            return NotImplemented
        return _joined(type(other), (*self._steps, *other._steps))


@final
@attrs.frozen(init=False, eq=False)
class Consumer(Generic[T_contra]):
    """The last step of a pipeline: it takes each item, or batches of them.

    Args:
      function: an async function of one item, or with ``batch`` of a list of items; or
        an async context manager that gives such a function. What it returns is ignored.
        With a batch, it may raise `BatchError` to say which members failed.
      batch: how to gather items into batches.
      limiter: as for `Processor`.
      weight: as for `Processor`.
      rate: as for `Processor`.
      cost: as for `Processor`.
      window: as for `Processor`.
      ordered: as for `Processor`.
      key: as for `Processor`.
      timeout: as for `Processor`.
      on_error: as for `Processor`.
      name: as for `Processor`.

    Raises:
      TypeError, ValueError: for an option of a wrong type or value.
    """

    _steps: tuple[Step, ...]

    @overload
    def __init__(
        self,
        function: Function[T_contra, object],
        **options: Unpack[StepOptions[T_contra]],
    ) -> None: ...

    @overload
    def __init__(
        self,
        function: Function[list[T_contra], object],
        *,
        batch: Batch,
        **options: Unpack[BatchStepOptions[list[T_contra]]],
    ) -> None: ...

    @overload
    def __init__(
        self,
        function: Opened[T_contra, object],
        **options: Unpack[StepOptions[T_contra]],
    ) -> None: ...

    @overload
    def __init__(
        self,
        function: Opened[list[T_contra], object],
        *,
        batch: Batch,
        **options: Unpack[BatchStepOptions[list[T_contra]]],
    ) -> None: ...

    def __init__(self, function: Any, **options: Any) -> None:
        check_options("Consumer", options, {*_OPTIONS, "batch"})
        object.__setattr__(self, "_steps", (make_step(function, **options),))


def _joined(kind: type[C], steps: tuple[Step, ...]) -> C:
    joined = object.__new__(kind)
    object.__setattr__(joined, "_steps", steps)
    return joined
