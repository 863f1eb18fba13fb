"""What can watch: checked where a watcher is given, as what is no watcher fails too late."""

from __future__ import annotations

import inspect


def check_watcher(watcher: object) -> None:
    """Raise unless it can be called with a turnstile; trio sees to it that it is async."""
    what = f"a watcher is an async function of the turnstile, not {watcher!r}"
    if not callable(watcher):
        raise TypeError(what)
    try:
        signature = inspect.signature(watcher)
    except ValueError:  # some builtins tell nothing
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise TypeError(f"{what}: {error}; what makes a watcher has to be called") from None
