"""Checks of arguments: an error names the value, and the rule that it breaks."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from ._errors import interruption


def check_whole(name: str, value: object, least: int, *, infinite: bool = False) -> None:
    """Raise unless ``value`` is a whole number of at least ``least``, or allowed infinity."""
    if infinite and value == math.inf:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        rule = "an int or math.inf" if infinite else "an int"
        raise TypeError(f"{name} must be {rule}, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value!r}")


def check_seconds(name: str, value: object, *, positive: bool = False) -> None:
    """Raise unless ``value`` is a number of seconds, not negative (or over zero)."""
    check_number(name, value, positive=positive, unit=" seconds")


def check_number(name: str, value: object, *, positive: bool = False, unit: str = "") -> None:
    """Raise unless ``value`` is a number, not negative (or over zero)."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number{unit and ' of' + unit}, not {value!r}")
    if math.isnan(value) or value < 0 or (positive and value == 0):
        rule = "more than 0" if positive else "0 or more"
        raise ValueError(f"{name} must be {rule}{unit}, not {value!r}")


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


def _leaves(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for part in error.exceptions for leaf in _leaves(part)]


@asynccontextmanager
async def open_background_nursery() -> AsyncIterator[trio.Nursery]:
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
