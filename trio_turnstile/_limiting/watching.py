"""The check of watchers where they are passed: a wrong one would fail only later."""

from __future__ import annotations

import inspect


def check_watcher(watcher: object) -> None:
    """Raise unless it can be called with a turnstile; trio checks that it is async."""
    what = f"a watcher is an async function of the turnstile, not {watcher!r}"
    if not callable(watcher):
        raise TypeError(what)
    try:
        signature = inspect.signature(watcher)
    except ValueError:  # some builtins have no signature
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise TypeError(f"{what}: {error}; if it makes a watcher, call it") from None
