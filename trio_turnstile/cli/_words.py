"""Words of a command that are repeated for each of several inputs, as ``a{}b``. Sans-I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, final

import attrs

from ._columns import Input
from ._placeholders import Placeholder

Edit: TypeAlias = Callable[[str], str]


@final
@attrs.frozen
class Word:
    """A word with the placeholder ``{}``, and perhaps others."""

    texts: tuple[str, ...]
    """The texts before, between and after the placeholders."""
    _placeholders: tuple[Placeholder, ...]
    repeats = True
    """Whether there is a word for each column."""

    def words(self, given: Input, quoted: Edit, numbered: Edit) -> list[str]:
        """Return the words for an input, one for each column."""
        texts = list(map(numbered, self.texts))
        return [self._filled(given, at, quoted, texts) for at in range(1, len(given.columns) + 1)]

    def _filled(self, given: Input, at: int, quoted: Edit, texts: list[str]) -> str:
        put_in = [
            quoted(attrs.evolve(each, column=each.column or at).texts(given)[0])
            for each in self._placeholders
        ]
        return "".join(map("".join, zip(texts, [*put_in, ""], strict=True)))


@final
class Words:
    """Collects the words of a command while it is read.

    Args:
      in_context: whether whole words are repeated, and not only their placeholders.
    """

    def __init__(self, *, in_context: bool) -> None:
        self._in_context = in_context
        self._texts, self._placeholders = [""], list[Placeholder | Word]()
        self._of_word: tuple[list[str], list[Placeholder]] = ([""], [])

    def add(self, text: str, *, ends_word: bool) -> None:
        """Add a text."""
        if ends_word:
            self._end_word()
        self._of_word[0][-1] += text
        if ends_word:
            self._end_word()

    def put_in(self, placeholder: Placeholder) -> None:
        """Add a placeholder."""
        self._of_word[0].append("")
        self._of_word[1].append(placeholder)

    def finish(self) -> tuple[tuple[str, ...], tuple[Placeholder | Word, ...]]:
        """Return the texts around the placeholders and repeated words, and these themselves."""
        self._end_word()
        return tuple(self._texts), tuple(self._placeholders)

    def _end_word(self) -> None:
        (first, *others), placeholders = self._of_word
        if self._in_context and any(each.repeats for each in placeholders):
            self._texts.append("")
            self._placeholders.append(Word((first, *others), tuple(placeholders)))
        else:
            self._texts[-1] += first
            self._texts += others
            self._placeholders += placeholders
        self._of_word = ([""], [])
