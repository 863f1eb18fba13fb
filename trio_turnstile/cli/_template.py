"""Commands with placeholders, and the commands for one input. Sans-I/O.

=========== =================================== ====================
placeholder stands for                          for ``a/b c.tar.gz``
=========== =================================== ====================
``{}``      the input                           ``a/b c.tar.gz``
``{.}``     the input without its extension     ``a/b c.tar``
``{/}``     its base name                       ``b c.tar.gz``
``{//}``    its directory                       ``a``
``{/.}``    its base name without the extension ``b c.tar``
``{#}``     the number of the operation, from 1 ``1``
``{%}``     its slot, from 1 to the limit       ``1``
``{2}``     the second column                   (its text)
=========== =================================== ====================

GNU parallel has the same placeholders. The difference is that here an input can never become
code. `Template.fill` always puts it in single quotes, even if it looks harmless: ``2`` before
a ``>``, ``if`` at the start of a command, or ``a=b`` would have a meaning without quotes.
That is safe only outside of other quotes. So `Template.parse` reads the command as the
shell would, and refuses a placeholder inside other quotes. It also refuses a placeholder
after anything that only a complete shell can parse, such as a here-document.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import final

import attrs

from ._arithmetic import Guard
from ._columns import Columns, Input
from ._placeholders import Placeholder, Placeholders
from ._words import Word, Words

_NUMBER = re.compile(r"(?<![$\\])\{[#%]\}")  # a number is safe anywhere
_ONE_COLUMN = Columns()
_BETWEEN_WORDS = frozenset({"space", "operator", "redirection"})

# Expansions without anything nested in them, so that they end at the first closing bracket.
_PARAMETER = r"\$\{[^'\"`\\${}]+\}"
_ARITHMETIC = r"\$\(\([^'\"`\\()]*\)\)"
_SUBSTITUTION = r"\$\((?:(?!\bcase\b|<<)[^'\"`\\()#])*\)"

_TOKEN = re.compile(
    rf"""
      (?P<escape> \\. )
    | (?P<quoted> '[^']*'
                | "(?: [^"\\$`] | \\. | \$(?![({{]|\\\n) | {_PARAMETER} | {_ARITHMETIC}
                     | {_SUBSTITUTION} )*" )
    | (?P<expansion> {_PARAMETER} | {_ARITHMETIC} )
    | (?P<redirection> [<>]&[ \t]*(?:[0-9]+|-)(?=[ \t\n;&|()<>]|\Z) | [<>](?![<&]|\\\n) )
    | (?P<unread> ['"`\\] | \$[{{'"[] | \(\( | << | [<>]& | [$(<>]\\\n )
    | (?P<space> [ \t] )
    | (?P<operator> [;&|()\n] )
    | (?P<hash> [#] )
    | (?P<text> . )
    """,
    re.VERBOSE | re.DOTALL,
)


@final
@attrs.frozen
class Template:
    """A command that inputs can be put into safely; made by `parse` or `of_text`."""

    _texts: tuple[str, ...]
    """The texts before, between and after the placeholders."""
    _placeholders: tuple[Placeholder | Word, ...]

    @classmethod
    def parse(
        cls, command: str, columns: Columns = _ONE_COLUMN, *, append: bool = False
    ) -> Template:
        """Read a command.

        Args:
          command: what the shell will run.
          columns: the columns that it may name.
          append: whether to put the input at the end of a command that has no
            placeholder and does not mention the variables ``TURNSTILE_...``.

        Raises:
          ValueError: if the command is blank, or if a placeholder is in a place where
            the input could become code.
        """
        if not command.strip():
            raise ValueError("a command must not be blank")
        known = Placeholders(columns)
        words, end, guard = (
            Words(in_context=columns.in_context),
            "",
            Guard(known.refuse_unknown, in_context=columns.in_context),
        )
        for kind, text in _tokens(command.rstrip("\n"), known):
            guard.read(kind, text)
            if kind in ("placeholder", "placeholders"):
                words.put_in(known.read(text))
                continue
            misplaced = known.misplaced(text)
            if misplaced is not None:
                raise ValueError(_misplaced(misplaced, kind, text))
            words.add(text, ends_word=kind in _BETWEEN_WORDS)
            end = end if kind == "space" else kind
        template = cls(*words.finish())
        if append and not template._uses_input:
            template = template._with_input_last(end)
            guard.read("space", " ")
            guard.read("placeholders" if columns.are_several else "placeholder", "{}")
        guard.finish()
        return template

    @classmethod
    def of_text(cls, text: str, columns: Columns) -> Template:
        """Read a text that no shell will see, so placeholders may be anywhere in it."""
        known, position = Placeholders(columns), 0
        texts, placeholders = [""], list[Placeholder]()
        while position < len(text):
            found = known.match(text, position)
            if found is None:
                texts[-1] += text[position]
                position += 1
            else:
                placeholders.append(known.read(found[0]))
                texts.append("")
                position = found.end()
        return cls(tuple(texts), tuple(placeholders))

    def fill(
        self, given: Input, number: int, slot: int = 1, quoted: Callable[[str], str] | None = None
    ) -> str:
        """Return the command for an input.

        Args:
          given: the input.
          number: the number of the operation, from 1.
          slot: its slot, from 1.
          quoted: makes a text into one word for the shell; `quote` by default.
        """
        quoted, numbers = quoted or quote, {"{#}": str(number), "{%}": str(slot)}
        numbered = partial(_NUMBER.sub, lambda found: numbers[found[0]])
        texts = map(numbered, self._texts)
        words = [" ".join(each.words(given, quoted, numbered)) for each in self._placeholders]
        return "".join(map("".join, zip(texts, [*words, ""], strict=True)))

    def size(self, given: Input, number: int) -> int:
        """Return the size of the command for an input, in bytes."""
        return len(os.fsencode(self.fill(given, number)))

    def growth(self, given: Input, number: int) -> int:
        """Return by how many bytes the columns of one more input lengthen the command."""
        numbered = partial(_NUMBER.sub, str(number))
        repeating = (each for each in self._placeholders if each.repeats)
        words = (each.words(given, quote, numbered) for each in repeating)
        return sum(len(os.fsencode(word)) + 1 for several in words for word in several)

    @property
    def has_all_columns(self) -> bool:
        """Whether it has a placeholder for all columns."""
        return any(each.repeats for each in self._placeholders)

    @property
    def is_constant(self) -> bool:
        """Whether it is the same for all inputs."""
        return not (self._placeholders or _NUMBER.search("".join(self._texts)))

    @property
    def uses_slot(self) -> bool:
        """Whether the command mentions its slot."""
        return any("{%}" in text or "TURNSTILE_SLOT" in text for text in self._all_texts())

    @property
    def varies(self) -> bool:
        """Whether it has a placeholder."""
        return bool(self._placeholders or _NUMBER.search(self._texts[0]))

    def _all_texts(self) -> Iterator[str]:
        yield from self._texts
        for each in self._placeholders:
            yield from each.texts if isinstance(each, Word) else ()

    @property
    def _uses_input(self) -> bool:
        """Whether the command uses its input in any way."""
        return self.varies or "TURNSTILE_" in self._texts[0]

    def _with_input_last(self, end: str) -> Template:
        if end in ("comment", "unread", "operator"):
            raise ValueError(
                "the input cannot be put at the end of this command: write {} where it should go"
            )
        return Template((self._texts[0] + " ", ""), (Placeholder(None, ""),))


def quote(text: str) -> str:
    """Return ``text`` as one word for the shell, always in quotes."""
    return "'" + text.replace("'", "'\"'\"'") + "'"


def quote_visibly(text: str) -> str:
    """Return ``text`` as one word for the shell, without control characters."""
    pieces = re.split("([\x00-\x08\x0b-\x1f\x7f-\x9f]+)", text)
    pieces[::2] = [quote(piece) if piece else "" for piece in pieces[::2]]
    pieces[1::2] = map(_print_octal, pieces[1::2])
    return "".join(pieces) or quote("")


def _print_octal(text: str) -> str:
    octal = "".join(f"\\{byte:03o}" for byte in text.encode())
    return f"\"$(printf '{octal}')\""


def _tokens(command: str, known: Placeholders) -> Iterator[tuple[str, str]]:
    """Yield the kinds and texts of the tokens that decide what is quoted."""
    position, new_word = 0, True
    while match := _TOKEN.match(command, position):
        kind, text = str(match.lastgroup), match[0]
        placeholder = known.match(command, position) if text == "{" else None
        if placeholder is not None:
            text = placeholder[0]
            kind = "placeholders" if known.stands_for_words(text) else "placeholder"
        elif kind == "hash" and new_word:
            kind, text = "comment", command[position:].partition("\n")[0]
        elif kind == "unread":
            text = command[position:]
        yield kind, text
        position += len(text)
        # The shell removes a backslash and the newline after it before it looks for words.
        new_word = kind in ("space", "operator", "redirection") or (new_word and text == "\\\n")


def _misplaced(placeholder: str, kind: str, text: str) -> str:
    place = {
        "quoted": "is in quotes",
        "comment": "is in a comment",
        "expansion": "is in an expansion",
        "unread": f"comes after {text[:2]!r}, after which only the shell can tell what is quoted",
    }[kind]
    return (
        f"{placeholder} {place}, where an input could become code. Placeholders are quoted for "
        'you, so write them without quotes, as in out/{/}.log; or use "$TURNSTILE_INPUT"; for '
        "literal braces write \\{}"
    )
