"""`Opening`: opens what a run needs, and closes it at the end of the run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, TypeAlias, cast, final

import attrs

from trio_turnstile._engine.run_state import RunState
from trio_turnstile._engine.source import RunSource
from trio_turnstile._engine.tracing import Tracer
from trio_turnstile._errors import describe
from trio_turnstile._util import unprotected

from .steps import Step
from .yielding import as_function

OpenSource: TypeAlias = Callable[["Opening"], Awaitable[RunSource[Any]]]
"""Opens the source of a run; the `Opening` enters what has to be closed."""


@final
@attrs.frozen(eq=False)
class Opening:
    """Opens what a run needs, and closes it at the end of the run, last first.

    An error in closing hides neither what stopped the run before nor the report. It stops the
    run if nothing else has.
    """

    _stack: AsyncExitStack
    _state: RunState
    expect: Callable[[object], None]
    """Is called with each source, which may know how many items it has."""
    tracer: Tracer
    """Keeps count of what becomes of the items of the source, if somebody asks."""

    def close_at_end(self, source: RunSource[Any]) -> None:
        """Close the source at the end of the run."""
        self._stack.push_async_callback(source.close)

    async def enter(self, manager: AbstractAsyncContextManager[Any], name: str) -> Any:
        """Enter a context manager, and return what it gives; ``name`` is for its errors."""

        async def leave(*raised: Any) -> None:
            try:
                await unprotected(manager.__aexit__, *raised)
            except Exception as error:
                self._state.stop(describe(error, item=None, phase=f"closing of {name}"), "soon")

        entered = await unprotected(manager.__aenter__)
        self._stack.push_async_exit(leave)
        return entered


async def open_step(step: Step, opening: Opening) -> Callable[[Any], Awaitable[Any]]:
    call: Any = step.call
    entered: Any = None
    if isinstance(call, AbstractAsyncContextManager):
        entered = await opening.enter(cast("Any", call), step.name)
    for function in (entered, call):
        if callable(function):
            return as_function(function)
    raise TypeError(
        f"step {step.name!r} is an async context manager that gives {entered!r}, "
        "and neither can be called with an item"
    )
