"""Commands with placeholders, and what becomes of them for one input. Pure.

=========== =================================== ====================
placeholder stands for                          of ``a/b c.tar.gz``
=========== =================================== ====================
``{}``      the input                           ``a/b c.tar.gz``
``{.}``     the input without its extension     ``a/b c.tar``
``{/}``     its base name                       ``b c.tar.gz``
``{//}``    its directory                       ``a``
``{/.}``    its base name without the extension ``b c.tar``
``{#}``     the number of the input, from 1     ``1``
=========== =================================== ====================

They are GNU parallel's. What differs is that an input can never become code. It
is always put in single quotes, even if it looks harmless: ``2`` before a ``>``,
``if`` at the start of a command or ``a=b`` would mean something without them. That
is sound only where the shell is not in quotes already, so a command is read as the
shell would read it, and a placeholder in any other place is refused. So is one
after something that only a whole shell could read, such as a here-document.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import final

import attrs

_PLACEHOLDER = re.compile(r"\{(?:|\.|/|//|/\.)\}")
_NUMBER = re.compile(r"(?<![$\\])\{#\}")  # a number is harmless anywhere

# Expansions with nothing nested in them: they end at the first bracket that closes.
_PARAMETER = r"\$\{[^'\"`\\${}]+\}"
_ARITHMETIC = r"\$\(\([^'\"`\\()]*\)\)"
_SUBSTITUTION = r"\$\((?:(?!\bcase\b|<<)[^'\"`\\()#])*\)"

_TOKEN = re.compile(
    rf"""
      (?P<escape> \\. )
    | (?P<quoted> '[^']*'
                | "(?: [^"\\$`] | \\. | \$(?![({{]) | {_PARAMETER} | {_ARITHMETIC}
                     | {_SUBSTITUTION} )*" )
    | (?P<expansion> {_PARAMETER} | {_ARITHMETIC} )
    | (?P<redirection> [<>]&[ \t]*(?:[0-9]+|-)(?=[ \t\n;&|()<>]|\Z) | [<>](?![<&]) )
    | (?P<unread> ['"`\\] | \$[{{'[] | \(\( | << | [<>]& )
    | (?P<placeholder> {_PLACEHOLDER.pattern} )
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
    """A command in which inputs can be put safely; made by `parse`."""

    _parts: tuple[str, ...]
    """By turns text and a placeholder; text first and last."""

    @classmethod
    def parse(cls, command: str, *, append: bool = False) -> Template:
        """Read a command.

        Args:
          command: what ``/bin/sh`` is to run.
          append: whether the input is to come last in a command that has no
            placeholder and does not mention the variables ``TURNSTILE_...``.

        Raises:
          ValueError: if it is blank, or an input would not be a word of its own
            where it is to come.
        """
        if not command.strip():
            raise ValueError("a command must not be blank")
        parts, end = [""], ""
        for kind, text in _tokens(command.rstrip("\n")):
            if kind == "placeholder":
                parts += [text, ""]
                continue
            misplaced = _PLACEHOLDER.search(text)
            if misplaced:
                raise ValueError(_misplaced(misplaced[0], kind, text))
            parts[-1] += text
            end = end if kind == "space" else kind
        template = cls(tuple(parts))
        return template._with_input_last(end) if append and not template._asks else template

    def fill(self, text: str, number: int) -> str:
        """Return the command for the input ``text``, which is input ``number`` from 1."""
        filled = [_NUMBER.sub(str(number), part) for part in self._parts]
        filled[1::2] = [quote(_value(placeholder, text)) for placeholder in self._parts[1::2]]
        return "".join(filled)

    @property
    def _asks(self) -> bool:
        """Whether the command asks for its input in some way."""
        text = self._parts[0]
        return len(self._parts) > 1 or bool(_NUMBER.search(text)) or "TURNSTILE_" in text

    def _with_input_last(self, end: str) -> Template:
        if end in ("comment", "unread", "operator"):
            raise ValueError(
                "the input cannot be put at the end of this command: write {} where it is to come"
            )
        return Template((self._parts[0] + " ", "{}", ""))


def quote(text: str) -> str:
    """Return ``text`` as one word for the shell, quoted whatever it is."""
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _value(placeholder: str, text: str) -> str:
    if placeholder == "{//}":
        return posixpath.dirname(text.rstrip("/")) or ("/" if text.startswith("/") else ".")
    if "/" in placeholder:
        text = posixpath.basename(text)
    return re.sub(r"\.[^/.]*\Z", "", text) if "." in placeholder else text


def _tokens(command: str) -> Iterator[tuple[str, str]]:
    """Read a command as the shell would, as far as is needed to see what is in quotes."""
    position, new_word = 0, True
    while match := _TOKEN.match(command, position):
        kind, text = str(match.lastgroup), match[0]
        if kind == "hash" and new_word:
            kind, text = "comment", command[position:].partition("\n")[0]
        elif kind == "unread":
            text = command[position:]
        yield kind, text
        position += len(text)
        # The shell takes a backslash and newline out before it looks for words.
        new_word = kind in ("space", "operator", "redirection") or (new_word and text == "\\\n")


def _misplaced(placeholder: str, kind: str, text: str) -> str:
    place = {
        "quoted": "is in quotes",
        "comment": "is in a comment",
        "expansion": "is in an expansion",
        "unread": f"comes after {text[:2]!r}, from where only the shell can tell what is quoted",
    }[kind]
    return (
        f"{placeholder} {place}: there an input could become code. It comes in quotes, so write "
        'it without any, as in out/{/}.log; or use "$TURNSTILE_INPUT"; for literal braces write '
        "\\{}"
    )
