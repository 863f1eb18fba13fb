"""The label of an operation's output: a tag before its lines, and a title above them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import final

import attrs

from ._columns import Input
from ._template import Template, quote_visibly


@final
@attrs.frozen
class Subject:
    """The part of an operation that its output needs."""

    place: int
    """Its place in the order of outputs, from 1."""
    seq: int
    """Its number, from 1."""
    given: Input
    """Its input."""
    slot: int = 1
    """Its slot."""

    def fill(self, template: Template, quoted: Callable[[str], str]) -> str:
        """Fill a template for it; ``quoted`` quotes the text of each placeholder."""
        return template.fill(self.given, self.seq, self.slot, quoted)


@final
@attrs.frozen
class Label:
    """The label of the output of one operation."""

    place: int
    """Its place in the order of outputs, from 1."""
    tag: bytes = b""
    """Printed before each line."""
    title: bytes = b""
    """Printed above the output."""

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

    def make(self, subject: Subject) -> Label:
        """Return the label for the output of an operation."""
        tag = b"" if self.tag is None else os.fsencode(subject.fill(self.tag, str)) + b"\t"
        if self.command is None:
            return Label(subject.place, tag)
        title = os.fsencode(subject.fill(self.command, quote_visibly)) + b"\n"
        return Label(subject.place, tag, title)
