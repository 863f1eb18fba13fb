"""Texts for people about any objects. Making them never fails, and they are never too long."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from reprlib import Repr

_ITEMS = Repr()
_ITEMS.maxstring = _ITEMS.maxother = 100
_ERROR_MAX = 1000
"""How much of the text of an error goes into a message, in characters."""


def shown(value: object) -> str:
    """Return a short text for people, even for a value whose ``__repr__`` raises."""
    try:
        return _ITEMS.repr(value)
    except Exception:
        return f"<{type(value).__qualname__}>"


def shown_error(error: BaseException) -> str:
    """Return the `repr` of an error, or a text if it raises; a long one loses its middle."""
    try:
        text = repr(error)
    except Exception as bug:
        return f"<{type(error).__qualname__}, whose repr raised {type(bug).__qualname__}>"
    if len(text) <= _ERROR_MAX:
        return text
    half = _ERROR_MAX // 2
    return f"{text[:half]} ... {text[-half:]}"


def texts(identifiers: object) -> tuple[str, ...]:
    """Return identifiers as texts, whatever a user's class returns for them."""
    if identifiers is None:
        return ()
    if isinstance(identifiers, str | bytes) or not isinstance(identifiers, Iterable):
        identifiers = (identifiers,)
    try:
        return tuple(map(any_text, identifiers))
    except Exception:
        return (shown(identifiers),)


def any_text(value: object) -> str:
    """Return the text of a value; if that raises, return what `shown` returns."""
    try:
        return str(value)
    except Exception:
        return shown(value)


def notes_of(error: BaseException | None) -> tuple[str, ...]:
    """Return the :pep:`678` notes of an error, which other code may have set to anything."""
    return texts(getattr(error, "__notes__", ()))


def add_note(error: BaseException, note: str) -> None:
    """Add a :pep:`678` note to a user's error, unless its class does not allow that."""
    with suppress(Exception):
        error.add_note(note)
