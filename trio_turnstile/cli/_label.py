"""What is printed with the output of an operation: a tag before its lines, a title above."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import final

import attrs

from ._template import Template, quote_visibly


@final
@attrs.frozen
class Label:
    """What is printed with the output of one operation."""

    seq: int
    """The number of its input, from 1."""
    tag: bytes = b""
    """Stands before each line."""
    title: bytes = b""
    """Stands above the output."""

    def tagged(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield pieces of text that begin with a new line, with the tag before each line."""
        if not self.tag:
            yield from pieces
            return
        new_line = True
        for piece in pieces:
            start = self.tag if new_line else b""
            new_line = piece.endswith(b"\n")
            body = piece[:-1] if new_line else piece
            yield start + body.replace(b"\n", b"\n" + self.tag) + b"\n" * new_line


@final
@attrs.frozen(kw_only=True)
class Labels:
    """Makes the labels of operations."""

    tag: Template | None = None
    """The tag, with placeholders."""
    command: Template | None = None
    """The command to show above the output."""

    def make(self, seq: int, text: str) -> Label:
        """Return the label for the input ``text``, the ``seq``-th from 1."""
        tag = b"" if self.tag is None else os.fsencode(self.tag.fill(text, seq, str)) + b"\t"
        if self.command is None:
            return Label(seq, tag)
        return Label(seq, tag, os.fsencode(self.command.fill(text, seq, quote_visibly)) + b"\n")
