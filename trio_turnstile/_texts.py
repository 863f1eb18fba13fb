"""Texts for people, of objects of others. They never fail, and are never too long to be read."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from reprlib import Repr

_ITEMS = Repr()
_ITEMS.maxstring = _ITEMS.maxother = 100
_ERROR_MAX = 1000
"""How much of the text of an error goes into a message, in characters."""


def shown(value: object) -> str:
    """Return a short text for people, also of a value whose ``__repr__`` raises."""
    try:
        return _ITEMS.repr(value)
    except Exception:
        return f"<{type(value).__qualname__}>"


def shown_error(error: BaseException) -> str:
    """Return the `repr` of an error, also if it raises; the middle of a long one is left out."""
    try:
        text = repr(error)
    except Exception as bug:
        return f"<{type(error).__qualname__}, whose repr raised {type(bug).__qualname__}>"
    if len(text) <= _ERROR_MAX:
        return text
    half = _ERROR_MAX // 2
    return f"{text[:half]} ... {text[-half:]}"


def texts(identifiers: object) -> tuple[str, ...]:
    """Return identifiers as texts, whatever a user's class calls itself."""
    if identifiers is None:
        return ()
    if isinstance(identifiers, str | bytes) or not isinstance(identifiers, Iterable):
        identifiers = (identifiers,)
    try:
        return tuple(map(any_text, identifiers))
    except Exception:
        return (shown(identifiers),)


def any_text(value: object) -> str:
    """Return the text of a value, or, if that raises, what `shown` returns."""
    try:
        return str(value)
    except Exception:
        return shown(value)


def notes_of(error: BaseException | None) -> tuple[str, ...]:
    """Return the :pep:`678` notes of an error, which other code may have set to anything."""
    return texts(getattr(error, "__notes__", ()))


def add_note(error: BaseException, note: str) -> None:
    """Add a :pep:`678` note to an error of the user's, unless its class allows none."""
    with suppress(Exception):
        error.add_note(note)
