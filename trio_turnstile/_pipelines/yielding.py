"""Steps that are async generator functions: what they yield is collected, as in a `Many`.

They could be passed on at once, one by one. But after an error, another attempt would pass some
on twice, a timeout would count the slowness of the next step, and a token would be held while
there is no room. So what an attempt has yielded is passed on when the attempt has succeeded.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeAlias

from .steps import Many

AnyFunction: TypeAlias = Callable[[Any], Awaitable[Any]]


def as_function(call: Any) -> AnyFunction:
    """Return what is called with an item: ``call``, unless that is an async generator function."""
    if inspect.isasyncgenfunction(call) or inspect.isasyncgenfunction(type(call).__call__):
        return _collecting(call)
    function: AnyFunction = call
    return function


def _collecting(generate: Any) -> AnyFunction:
    # One task opens, iterates over and closes the generator, so it may have a nursery or a
    # cancel scope open round its yields.
    async def collect(item: Any) -> Many[Any]:
        async with aclosing(generate(item)) as yielded:
            return Many([thing async for thing in yielded])

    return collect
