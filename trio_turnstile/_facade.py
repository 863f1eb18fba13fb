"""Makes public names say where they are to be had, not where they are made."""

from __future__ import annotations

from typing import Any


def publish(namespace: dict[str, Any]) -> None:
    """Set ``__module__`` of the public classes and functions in a package's namespace.

    Tracebacks, pickles and the docs then read ``trio_turnstile.Limiter``.
    """
    package = namespace["__name__"]
    top = package.partition(".")[0]
    for name, value in namespace.items():
        ours = getattr(value, "__module__", "").startswith(f"{top}.")
        if ours and callable(value) and not name.startswith("_"):
            value.__module__ = package
