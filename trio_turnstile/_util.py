"""Small helpers for the whole package: checks of arguments, module names, nurseries.

The error of a check names the value and the rule that it breaks. The checks also come as
attrs validators: `whole`, `seconds` and `number`.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar

import attrs
import trio
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from ._errors import Aborted, interruption, leaves
from ._texts import shown

P = ParamSpec("P")
R = TypeVar("R")


def check_instance(name: str, value: object, kind: type, example: str) -> None:
    """Raise unless ``value`` is an instance of ``kind``; ``example`` shows how to get one."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, such as {example}, not {shown(value)}")


def check_whole(name: str, value: object, least: int, *, infinite: bool = False) -> None:
    """Raise unless ``value`` is a whole number of at least ``least``, or infinity if allowed."""
    if infinite and value == math.inf:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        rule = "an int or math.inf" if infinite else "an int"
        raise TypeError(f"{name} must be {rule}, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value!r}")


def check_seconds(name: str, value: object, *, positive: bool = False) -> None:
    """Raise unless ``value`` is a number of seconds, 0 or more (or over 0)."""
    check_number(name, value, positive=positive, unit=" seconds")


def check_number(name: str, value: object, *, positive: bool = False, unit: str = "") -> None:
    """Raise unless ``value`` is a number, 0 or more (or over 0)."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number{unit and ' of' + unit}, not {value!r}")
    if math.isnan(value) or value < 0 or (positive and value == 0):
        rule = "more than 0" if positive else "0 or more"
        raise ValueError(f"{name} must be {rule}{unit}, not {value!r}")


Validator: TypeAlias = Callable[[object, "attrs.Attribute[Any]", Any], None]
"""What attrs calls to check the value of a field."""


def whole(least: int, *, optional: bool = False) -> Validator:
    """Return a validator of whole numbers of at least ``least``, or ``None`` if optional."""

    def validate(_: object, field: attrs.Attribute[Any], value: object) -> None:
        if not (optional and value is None):
            check_whole(field.name, value, least)

    return validate


def seconds(*, positive: bool = False, optional: bool = False) -> Validator:
    """Return a validator of seconds, 0 or more (or over 0), or ``None`` if optional."""

    def validate(_: object, field: attrs.Attribute[Any], value: object) -> None:
        if not (optional and value is None):
            check_seconds(field.name, value, positive=positive)

    return validate


def number(*, positive: bool = False) -> Validator:
    """Return a validator of numbers, 0 or more (or over 0)."""

    def validate(_: object, field: attrs.Attribute[Any], value: object) -> None:
        check_number(field.name, value, positive=positive)

    return validate


def stray(cancelled: trio.Cancelled) -> RuntimeError | None:
    """Return an error if user code raised ``cancelled`` and nothing is cancelled; else ``None``.

    A cache may keep the exception that its first caller got. Raised again, it would look like the
    end of the run: trio's nurseries check only the type of a `Cancelled`, and not its origin.
    """
    if trio.current_effective_deadline() == -math.inf:
        return None
    error = RuntimeError(
        "trio.Cancelled was raised where nothing is cancelled: was it kept and raised again?"
    )
    error.__cause__ = cancelled
    return error


def refuse_stray(cancelled: trio.Cancelled) -> None:
    """Raise the error that `stray` returns, if any."""
    error = stray(cancelled)
    if error is not None:
        raise error


@disable_ki_protection
async def unprotected(function: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
    """Await user code, in which Ctrl-C may strike at any point, from code where it may not."""
    return await function(*args, **kwargs)


def fixup_module_metadata(namespace: dict[str, Any]) -> None:
    """Set ``__module__`` of the public classes and functions in a package's namespace.

    Tracebacks, pickles and the docs then read ``trio_turnstile.Limiter``.
    """
    package = namespace["__name__"]
    top = package.partition(".")[0]
    for name, value in namespace.items():
        ours = getattr(value, "__module__", "").startswith(f"{top}.")
        if ours and callable(value) and not name.startswith("_"):
            value.__module__ = package


@contextmanager
def unwrapped_interrupts() -> Iterator[None]:
    """If an interrupt comes out in an exception group, raise it without the group.

    Code with ``except KeyboardInterrupt`` does not look into groups.

    A function that opens a nursery must be protected from interrupts itself, with trio's
    ``enable_ki_protection``: an interrupt between the end of an ``async with`` block and the
    call of ``__aexit__`` would leave the nursery open. User code inside is not protected,
    and the main task is interrupted wherever it waits.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        interrupt = interruption(group)
        if interrupt is None:
            raise
        raise interrupt from group


def _is_all(raised: BaseException, group: BaseExceptionGroup[BaseException]) -> bool:
    """Return whether the group holds only what was raised, and perhaps a cancellation."""
    own = set(map(id, leaves(raised)))
    return all(id(leaf) in own or isinstance(leaf, trio.Cancelled) for leaf in leaves(group))


@asynccontextmanager
@enable_ki_protection
async def open_plain_nursery() -> AsyncIterator[trio.Nursery]:
    """Open a nursery that is an implementation detail.

    If only the body raises, its exception is not wrapped in a group. If a task fails, the body
    is cancelled and the group comes out; if there is an interrupt in the group, the interrupt
    comes out without the group.
    """
    raised: BaseException | None = None
    with unwrapped_interrupts():
        try:
            async with trio.open_nursery() as nursery:
                try:
                    yield nursery
                except BaseException as exc:
                    raised = exc
                    raise
        except BaseExceptionGroup as group:
            if raised is None or not _is_all(raised, group):
                raise
    if raised is not None:
        raise raised


@asynccontextmanager
@enable_ki_protection
async def open_background_nursery() -> AsyncIterator[trio.Nursery]:
    """Open a plain nursery for background tasks, which are cancelled when the body ends."""
    async with open_plain_nursery() as nursery:
        try:
            yield nursery
        finally:
            nursery.cancel_scope.cancel()


class _Live(Protocol):
    def cancel(self) -> None:
        """End the run now."""


L = TypeVar("L", bound=_Live)


@enable_ki_protection
async def _started(
    nursery: trio.Nursery, run: Callable[[trio.TaskStatus[L]], Awaitable[object]]
) -> L:
    """Start a run as `trio.Nursery.start` does; an interrupt meanwhile comes out without a group.

    If there is an interrupt and the run raises as well, trio reports an error of its own.
    """
    try:
        live: L = await nursery.start(run)
    except trio.TrioInternalError as error:
        both = error.__cause__
        interrupt = interruption(both) if isinstance(both, BaseExceptionGroup) else None
        if interrupt is None:
            raise
        raise interrupt from both
    return live


@asynccontextmanager
@enable_ki_protection
async def hold(
    run: Callable[[trio.TaskStatus[L]], Awaitable[object]],
    on_abort: Callable[[], object] = lambda: None,
) -> AsyncIterator[L]:
    """Run in a task while the block runs, and then wait for the end of the run.

    The block gets what the run passes to ``task_status.started``. If the block raises, the run
    is cancelled, and the exception comes out unchanged.

    Args:
      run: what to run.
      on_abort: called when the run was aborted, perhaps while the block is still running.

    Raises:
      Aborted: if the run was aborted. It takes precedence over an error of the block, which may
        be a consequence, and which becomes its context.
    """
    aborted: Aborted | None = None
    failure: Exception | None = None

    async def in_background(task_status: trio.TaskStatus[L]) -> None:  # noqa: ASYNC910 (`run` does)
        nonlocal aborted
        try:
            await run(task_status)
        except Aborted as error:
            aborted = error
            on_abort()

    async with open_plain_nursery() as nursery:
        live = await _started(nursery, in_background)
        try:
            yield live
        except Exception as error:
            # Not out of the nursery: that would cut the run off before it can say why it ends.
            failure = error
            live.cancel()
    if aborted is not None:
        if failure is not None:
            aborted.__context__ = failure
        raise aborted
    if failure is not None:
        raise failure
