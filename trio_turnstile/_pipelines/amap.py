"""`amap` and `amap_list`: one async function for many items, without a pipeline to write."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeVar, Unpack, overload

from .pipeline import Producer, SourceOf
from .processors import (
    BatchStepOptions,
    Function,
    Opened,
    Processor,
    StepOptions,
    Yielding,
    check_options,
)
from .results import Results
from .steps import Discard, Many

T = TypeVar("T")
U = TypeVar("U")

_LIST_OPTIONS: Final = frozenset(BatchStepOptions.__optional_keys__)

_LIST_WINDOW = 10_000
"""How many items of a list may be in hand by default, if a limiter bounds those that run.

The list keeps every result anyway, so it costs little if many are finished early. With the
window of a step, an item that takes a minute would hold up the rest after 64 others.
"""


@overload
def amap(
    function: Function[T, Many[U]] | Function[T, Many[U] | Discard],
    items: SourceOf[T],
    **options: Unpack[StepOptions[T]],
) -> AbstractAsyncContextManager[Results[U]]: ...


@overload
def amap(
    function: Function[T, U] | Function[T, U | Discard],
    items: SourceOf[T],
    **options: Unpack[StepOptions[T]],
) -> AbstractAsyncContextManager[Results[U]]: ...


@overload
def amap(
    function: Opened[T, Many[U]] | Opened[T, Many[U] | Discard],
    items: SourceOf[T],
    **options: Unpack[StepOptions[T]],
) -> AbstractAsyncContextManager[Results[U]]: ...


@overload
def amap(
    function: Opened[T, U] | Opened[T, U | Discard],
    items: SourceOf[T],
    **options: Unpack[StepOptions[T]],
) -> AbstractAsyncContextManager[Results[U]]: ...


@overload
def amap(
    function: Yielding[T, U],
    items: SourceOf[T],
    **options: Unpack[StepOptions[T]],
) -> AbstractAsyncContextManager[Results[U]]: ...


def amap(function: Any, items: Any, **options: Any) -> AbstractAsyncContextManager[Results[Any]]:
    """Call an async function with many items, many at once; iterate over the results.

    They come as they are finished, or with ``ordered=True`` in the order of the items::

        async with amap(fetch, urls, limiter=10) as results:
            async for page in results:
                ...

    It is short for ``(Producer(items) | Processor(function, ...)).open()``. What the
    function returns is a result; with `Many`, each of its items is a result; with `DISCARD`,
    there is none.

    Args:
      function: as for `Processor`.
      items: as for `Producer`; read only as fast as the results are taken.
      options: as for `Processor`: ``limiter``, ``weight``, ``rate``, ``window``, ``ordered``,
        ``key``, ``timeout`` (seconds), ``on_error``, ``name``. Without a limiter, 64 items run
        at once.

    Returns:
      An async context manager that gives the `Results`. Leaving the block early cancels
      what is in hand.

    Raises:
      TypeError, ValueError: for an option of a wrong type or value, immediately.
      Aborted: on leaving the block, if an error stopped the run: by default, any error does.

    Cancellation:
      What is in hand is cancelled; ``results.report()`` accounts for it.
    """
    check_options("amap", options, StepOptions.__optional_keys__)
    return (Producer(items) | Processor(function, **options)).open()


@overload
async def amap_list(
    function: Function[T, Many[U]] | Function[T, Many[U] | Discard],
    items: SourceOf[T],
    **options: Unpack[BatchStepOptions[T]],
) -> list[U]: ...


@overload
async def amap_list(
    function: Function[T, U] | Function[T, U | Discard],
    items: SourceOf[T],
    **options: Unpack[BatchStepOptions[T]],
) -> list[U]: ...


@overload
async def amap_list(
    function: Opened[T, Many[U]] | Opened[T, Many[U] | Discard],
    items: SourceOf[T],
    **options: Unpack[BatchStepOptions[T]],
) -> list[U]: ...


@overload
async def amap_list(
    function: Opened[T, U] | Opened[T, U | Discard],
    items: SourceOf[T],
    **options: Unpack[BatchStepOptions[T]],
) -> list[U]: ...


@overload
async def amap_list(
    function: Yielding[T, U],
    items: SourceOf[T],
    **options: Unpack[BatchStepOptions[T]],
) -> list[U]: ...


async def amap_list(function: Any, items: Any, **options: Any) -> list[Any]:
    """Call an async function with many items, many at once; return the list of results.

    The results are in the order of the items: ``pages = await amap_list(fetch, urls, limiter=10)``.
    Without policies any error is raised, so the list has one result for each item. Items
    that policies skipped, diverted or counted as failed are left out of the list, as are
    those for which the function returned `DISCARD`. With `Many`, each of its items is a result.

    Args:
      function: as for `Processor`.
      items: as for `Producer`.
      options: as for `Processor`, without those of order: ``limiter``, ``weight``, ``rate``,
        ``window``, ``timeout`` (seconds), ``on_error``, ``name``. Without a limiter, 64 items run
        at once. With one, up to 10,000 finished items may wait for an earlier one, unless
        ``window`` says otherwise.

    Returns:
      The results.

    Raises:
      TypeError, ValueError: for an option of a wrong type or value.
      Aborted: if an error stopped the run: by default, any error does. The results are lost.

    Cancellation:
      What is in hand is cancelled, and the results are lost.
    """
    check_options("amap_list", options, _LIST_OPTIONS)
    if options.get("limiter") is not None and options.get("window") is None:
        options["window"] = _LIST_WINDOW
    async with amap(function, items, ordered=True, **options) as results:
        return [result async for result in results]
