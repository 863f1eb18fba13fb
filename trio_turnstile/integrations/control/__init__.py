"""See a turnstile and steer it from outside, over HTTP: ``pip install 'trio-turnstile[control]'``.

`serve_control` serves the API on a Unix socket that only the user can use, and on a port of the
loopback device if you ask for it. `open_control` makes ASGI applications to mount elsewhere.
`sockets` finds the sockets of running programs; it needs only the standard library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._access import Access
    from ._past import HistoryPoint, HistoryReader
    from ._rules import DEFAULT_RULES, Rule, read_rules
    from ._serving import Control, Served, open_control, serve_control

__all__ = [
    "DEFAULT_RULES",
    "Access",
    "Control",
    "HistoryPoint",
    "HistoryReader",
    "Rule",
    "Served",
    "open_control",
    "read_rules",
    "serve_control",
]

# A command that only looks for sockets does not import the server. A type checker must not see
# `__getattr__`, so that an unknown name stays an error.
if not TYPE_CHECKING:  # pragma: no branch

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        home = {"Access": "._access", "HistoryPoint": "._past", "HistoryReader": "._past"}
        home |= dict.fromkeys(("DEFAULT_RULES", "Rule", "read_rules"), "._rules")
        return getattr(import_module(home.get(name, "._serving"), __name__), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
