"""When the first attempt at an item began: noted only if a policy may ask for it.

Policies are sans-I/O, so the time comes to them with the error: `ConcurrentError.elapsed`. But a
look at the clock for each of the many items that never fail would be felt, so a step whose
policies are known not to ask does not look.

The note is a context variable. One task both tries an item and does what follows an error, so
what the task noted last belongs to the attempt that has just failed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

import trio

from .policies import Abort, DeadLetter, ErrorPolicy, Halt, Log, Retry, Skip

P = ParamSpec("P")
R = TypeVar("R")

_BEGAN: ContextVar[float] = ContextVar("began")

_TIMELESS = (Skip, DeadLetter, Log, Abort, Halt)


def ask_the_time(policies: Iterable[ErrorPolicy]) -> bool:
    """Return whether one of the policies may look at ``error.elapsed``: a user's own may."""
    return any(
        policy.within is not None
        if isinstance(policy, Retry)
        else not isinstance(policy, _TIMELESS)
        for policy in policies
    )


def timed(
    function: Callable[P, Awaitable[R]], policies: Iterable[ErrorPolicy]
) -> Callable[P, Awaitable[R]]:
    """Return ``function``; or, if a policy may ask, one that first notes when it was called."""
    if not ask_the_time(policies):
        return function

    async def call(*args: P.args, **options: P.kwargs) -> R:
        _BEGAN.set(trio.current_time())
        return await function(*args, **options)

    return call


def noted_beginning() -> float:
    """Return when this task last called a function that is `timed`, in seconds."""
    return _BEGAN.get()
