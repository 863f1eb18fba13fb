"""An input with its columns, and how a text is split into them. Sans-I/O except for `Rows`.

An input has one column, unless it comes from several sources, is split by a separator, or
joins several texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Self, final

import attrs

from ._inputs import InputError, Inputs
from ._part import Part

_BLANKS = " \t\r\n\f\v"


@final
@attrs.frozen
class Input:
    """The input that the commands of an operation run for."""

    text: str
    """The whole text, as it was given."""
    columns: tuple[str, ...]
    """The values of ``{1}``, ``{2}`` and so on."""
    block: bytes | Part | None = attrs.field(default=None, repr=False)
    """The standard input of the work command, if it is not empty."""

    @property
    def identity(self) -> str:
        """Its identity in a ledger. No input contains a NUL, so NULs separate the columns."""
        if isinstance(self.block, Part):
            return "\0".join(self.block.fields())
        if self.text and self.columns == (self.text,):
            return self.text
        return "\0".join((self.text, *self.columns))

    @classmethod
    def of_identity(cls, identity: str) -> Input:
        """Return the input that has this identity."""
        text, *columns = fields = identity.split("\0")
        part = Part.of_fields(fields)
        if part is not None:
            return cls(str(part), (str(part),), part)
        return cls(text, tuple(columns) or (text,))

    @classmethod
    def join(cls, parts: Iterable[Input]) -> Input:
        """Return one input with the columns of all parts."""
        parts = tuple(parts)
        columns = tuple(column for part in parts for column in part.columns)
        return cls(" ".join(part.text for part in parts), columns)


@final
@attrs.frozen
class Columns:
    """What is known about the columns of all inputs, before the first input is read."""

    count: int | None = 1
    """How many columns an input can have; ``None`` if that is unknown."""
    names: tuple[str, ...] = ()
    """Their names, if they have any; a column with an empty name has none."""
    in_context: bool = False
    """Whether the word that contains all columns is repeated for each of them."""
    in_commands: bool = True
    """Whether commands get the inputs as arguments, and not as their standard input."""

    @property
    def are_several(self) -> bool:
        """Whether an input can have more than one column."""
        return self.count != 1


@final
@attrs.frozen
class Separator:
    """A regular expression that separates the columns of a text."""

    _pattern: re.Pattern[str]

    @classmethod
    def parse(cls, text: str) -> Separator:
        """Read a regular expression.

        Raises:
          ValueError: if it is not a regular expression, or matches the empty text.
        """
        try:
            pattern = re.compile(text)
        except re.error as error:
            raise ValueError(f"{text!r} is not a regular expression: {error}") from None
        if pattern.match(""):
            raise ValueError(f"{text!r} also matches between any two letters")
        return cls(pattern)

    def split(self, text: str) -> tuple[str, ...]:
        """Return the columns, without blanks around them, as GNU parallel does."""
        columns, start = [], 0
        for match in self._pattern.finditer(text):  # not `re.split`: it returns groups too
            columns.append(text[start : match.start()])
            start = match.end()
        return tuple(column.strip(_BLANKS) for column in (*columns, text[start:]))


@final
class Rows:
    """The texts of one source, with their columns.

    Args:
      texts: the source.
      separator: separates the columns; ``None`` for one column.
      width: how many columns have names; ``None`` if there are no names. A text with fewer
        columns gets empty ones, so that the columns of the next source keep their names.
    """

    def __init__(
        self, texts: Inputs[str], separator: Separator | None = None, width: int | None = None
    ) -> None:
        self._texts = texts
        self._separator = separator
        self._width = width
        self._error: InputError | None = None

    @property
    def taken(self) -> int:
        """How many texts were taken so far."""
        return self._texts.taken

    @property
    def total(self) -> int | None:
        """How many texts there are, if that is known."""
        return self._texts.total

    @property
    def error(self) -> InputError | None:
        """The error that was raised instead of an input."""
        return self._error or self._texts.error

    async def read(self) -> None:
        """Read the source ahead."""
        await self._texts.read()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Input:
        text = await anext(self._texts)
        if self._separator is None:
            return Input(text, (text,))
        return Input(text, self._filled(self._separator.split(text)))

    def _filled(self, columns: Sequence[str]) -> tuple[str, ...]:
        if self._width is None:
            return tuple(columns)
        if len(columns) > self._width:
            self._error = ValueError(
                f"input {self.taken} has {len(columns)} columns, but the header has {self._width}"
            )
            raise self._error
        return (*columns, *[""] * (self._width - len(columns)))
