"""A nursery for tasks that serve the body of an ``async with`` block, and end with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from ._errors import interruption


def _leaves(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for part in error.exceptions for leaf in _leaves(part)]


@asynccontextmanager
async def open_service_nursery() -> AsyncIterator[trio.Nursery]:
    """Open a nursery that is cancelled when the body ends.

    That there is a nursery is our affair: a body that fails alone fails as it would
    without one. If a task fails, the body is cancelled, and the group comes out; but
    of a group with an interrupt in it, the interrupt.
    """
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except BaseException as exc:
                raised = exc
                raise
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if raised is None or _leaves(group) != _leaves(raised):
            interrupt = interruption(group)
            if interrupt is None:
                raise
            raise interrupt from group
    if raised is not None:
        raise raised
