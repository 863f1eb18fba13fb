"""Makes texts of unknown origin safe to show on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return ``text`` with escapes for control characters and bytes that are not text."""
    text = text.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def printable_lines(text: str) -> str:
    """Return ``text`` as `printable` does, line by line."""
    return "\n".join(map(printable, text.split("\n")))
