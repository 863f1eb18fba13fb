"""The placeholders of a command: which ones exist, and what each stands for. Sans-I/O.

The columns of the inputs decide what is a placeholder: ``{2}`` is one if there is a second
column, and ``{name}`` if there is a column of that name. In quotes, ``{2}`` is text as
long as inputs have one column: in ``grep -E 'a{2}'`` it is not a column.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from typing import final

import attrs

from ._columns import Columns, Input

_EDIT = r"(?P<edit>\.|//|/\.|/)?"
_PARALLEL = re.compile(r"\{(?:\.\.+|/\.\.+|[+=].*)\}")
_UNKNOWN = re.compile(
    # git has @{u}, and a short program of awk needs no quotes.
    r"(?<![@$])\{(?!print\})(?P<place>-?[0-9]+|[A-Za-z_][\w-]*)(?:\.|//?|/\.)?\}",
    re.ASCII,
)


@final
@attrs.frozen
class Placeholder:
    """The meaning of a placeholder."""

    column: int | None
    """The position of the column, from 1 or from -1 backwards; ``None`` for all columns."""
    edit: str
    """The part of the column: empty for all of it, or the last characters in the braces."""

    @property
    def repeats(self) -> bool:
        """Whether there is a word for each column."""
        return self.column is None

    def words(
        self, given: Input, quoted: Callable[[str], str], numbered: Callable[[str], str]
    ) -> list[str]:
        """Return the texts for an input, as words of a command."""
        return list(map(quoted, self.texts(given)))

    def texts(self, given: Input) -> list[str]:
        """Return the texts for an input; a column that it does not have is empty."""
        if self.column is None:
            return [_edited(text, self.edit) for text in given.columns]
        number, count = self.column, len(given.columns)
        if not 1 <= abs(number) <= count:
            return [""]
        return [_edited(given.columns[number - (number > 0)], self.edit)]


@final
class Placeholders:
    """The placeholders that commands for inputs with given columns can have."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._positions = {name: at for at, name in enumerate(columns.names, 1) if name}
        by_length = sorted(map(re.escape, self._positions), key=len, reverse=True)
        names = "|".join(["-?[1-9][0-9]*", *by_length])
        self._pattern = re.compile(rf"\{{(?P<place>{names})?{_EDIT}\}}")
        self._in_quotes = re.compile(
            rf"\{{{_EDIT}\}}|(?<!\$)\{{(?P<place>{names})(?:\.|//?|/\.)?\}}"
        )

    def match(self, command: str, position: int) -> re.Match[str] | None:
        """Match the placeholder that begins at a position, if there is one."""
        found = self._pattern.match(command, position)
        return found if found is not None and self._exists(found["place"]) else None

    def read(self, text: str) -> Placeholder:
        """Return the meaning of the text of a placeholder."""
        found = self._pattern.fullmatch(text)
        assert found is not None
        place = found["place"]
        return Placeholder(None if place is None else self._position(place), found["edit"] or "")

    def misplaced(self, text: str) -> str | None:
        """Return the first placeholder in a text that is quoted or similar, if there is one."""
        for found in self._in_quotes.finditer(text):
            place = found["place"]
            if place is None or (self._columns.are_several and self._exists(place)):
                return found[0]
        return None

    def stands_for_words(self, text: str) -> bool:
        """Tell whether a placeholder stands for any number of words."""
        return self._columns.are_several and self.read(text).column is None

    def refuse_unknown(self, word: str) -> None:
        """Check a word, from which quoted parts are removed, for unknown placeholders.

        Raises:
          ValueError: if there is one.
        """
        foreign, unknown = _PARALLEL.search(word), _UNKNOWN.search(word)
        if foreign is not None:
            raise ValueError(
                _refusal(
                    foreign[0], "is a placeholder of GNU parallel that turnstile does not have"
                )
            )
        if unknown is not None:
            raise ValueError(_refusal(unknown[0], self._why_unknown(unknown["place"])))

    def _why_unknown(self, place: str) -> str:
        if place[-1].isdigit():
            return (
                f"is not a column: inputs have {self._columns.count or 'columns from {1} on'}; "
                "further ones come from several sources (:::, -a), --colsep or --max-args"
            )
        names = ", ".join(self._positions)
        known = f"the names are {names}" if names else "only --header gives names"
        return f"is not a column, as {known}"

    def _exists(self, place: str | None) -> bool:
        if place is None:
            return True
        count = self._columns.count
        return count is None or abs(self._position(place)) <= count

    def _position(self, place: str) -> int:
        return self._positions[place] if place in self._positions else int(place)


def _refusal(placeholder: str, why: str) -> str:
    return (
        f"{placeholder} {why}: {{}} is the input, and {{#}} its number; to use it as text, write "
        f"'{placeholder}' in quotes"
    )


def _edited(text: str, edit: str) -> str:
    if edit == "//":
        return posixpath.dirname(text.rstrip("/")) or ("/" if text.startswith("/") else ".")
    if "/" in edit:
        text = posixpath.basename(text)
    return re.sub(r"\.[^/.]*\Z", "", text) if "." in edit else text
