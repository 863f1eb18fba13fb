"""Threads for calls that block, even while the system has none to spare."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_PAUSE = 0.05


async def in_thread(function: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Call ``function`` in a thread, as soon as one can be started.

    Cancellation:
      Abandons the thread, which goes on with its call.
    """
    while True:
        try:
            return await trio.to_thread.run_sync(function, *arguments, abandon_on_cancel=True)
        except RuntimeError as error:
            if not lacks_thread(error):
                raise
        await trio.sleep(_PAUSE)


def lacks_thread(error: RuntimeError) -> bool:
    """Tell whether an error says that no thread could be started."""
    return "start new thread" in str(error)
