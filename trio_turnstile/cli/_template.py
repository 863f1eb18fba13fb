"""Commands with placeholders, and the commands for one input. Sans-I/O.

=========== =================================== ====================
placeholder stands for                          for ``a/b c.tar.gz``
=========== =================================== ====================
``{}``      the input                           ``a/b c.tar.gz``
``{.}``     the input without its extension     ``a/b c.tar``
``{/}``     its base name                       ``b c.tar.gz``
``{//}``    its directory                       ``a``
``{/.}``    its base name without the extension ``b c.tar``
``{#}``     the number of the input, from 1     ``1``
=========== =================================== ====================

They are those of GNU parallel. The difference is that an input can never become code.
`Template.fill` always puts it in single quotes, even if it looks harmless: ``2`` before a
``>``, ``if`` at the start of a command, or ``a=b`` would have a meaning without quotes.
That is safe only outside of other quotes. So `Template.parse` reads the command as the
shell would, and refuses a placeholder in any other place. It also refuses a placeholder
after anything that only a complete shell can parse, such as a here-document.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from typing import final

import attrs

from ._arithmetic import Guard

_PLACEHOLDER = re.compile(r"\{(?:|\.|/|//|/\.)\}")
_NUMBER = re.compile(r"(?<![$\\])\{#\}")  # a number is safe anywhere

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
    """A command that inputs can be put into safely; made by `parse` or `of_text`."""

    _parts: tuple[str, ...]
    """Text and placeholders alternately, with text first and last."""

    @classmethod
    def parse(cls, command: str, *, append: bool = False) -> Template:
        """Read a command.

        Args:
          command: what ``/bin/sh`` will run.
          append: whether to put the input at the end of a command that has no
            placeholder and does not mention the variables ``TURNSTILE_...``.

        Raises:
          ValueError: if the command is blank, or if a placeholder is in a place where
            the input would not be a word of its own.
        """
        if not command.strip():
            raise ValueError("a command must not be blank")
        parts, end, guard = [""], "", Guard()
        for kind, text in _tokens(command.rstrip("\n")):
            guard.read(kind, text)
            if kind == "placeholder":
                parts += [text, ""]
                continue
            misplaced = _PLACEHOLDER.search(text)
            if misplaced:
                raise ValueError(_misplaced(misplaced[0], kind, text))
            parts[-1] += text
            end = end if kind == "space" else kind
        template = cls(tuple(parts))
        if append and not template._uses_input:
            template = template._with_input_last(end)
            guard.read("space", " ")
            guard.read("placeholder", "{}")
        guard.finish()
        return template

    @classmethod
    def of_text(cls, text: str) -> Template:
        """Read a text that no shell will see, so that a placeholder may be anywhere in it."""
        return cls(tuple(re.split(f"({_PLACEHOLDER.pattern})", text)))

    def fill(self, text: str, number: int, quoted: Callable[[str], str] | None = None) -> str:
        """Return the command for the input ``text``, the ``number``-th from 1.

        Args:
          text: the input.
          number: its number.
          quoted: makes one word for the shell of a text; `quote` by default.
        """
        filled = [_NUMBER.sub(str(number), part) for part in self._parts]
        values = (_value(placeholder, text) for placeholder in self._parts[1::2])
        filled[1::2] = map(quoted or quote, values)
        return "".join(filled)

    @property
    def _uses_input(self) -> bool:
        """Whether the command uses its input in any way."""
        text = self._parts[0]
        return len(self._parts) > 1 or bool(_NUMBER.search(text)) or "TURNSTILE_" in text

    def _with_input_last(self, end: str) -> Template:
        if end in ("comment", "unread", "operator"):
            raise ValueError(
                "the input cannot be put at the end of this command: write {} where it should go"
            )
        return Template((self._parts[0] + " ", "{}", ""))


def quote(text: str) -> str:
    """Return ``text`` as one word for the shell, always in quotes."""
    return "'" + text.replace("'", "'\"'\"'") + "'"


def quote_visibly(text: str) -> str:
    """Return ``text`` as one word for the shell, in which no terminal finds a control character."""
    pieces = re.split("([\x00-\x08\x0b-\x1f\x7f-\x9f]+)", text)
    pieces[::2] = [quote(piece) if piece else "" for piece in pieces[::2]]
    pieces[1::2] = map(_print_octal, pieces[1::2])
    return "".join(pieces) or quote("")


def _print_octal(text: str) -> str:
    octal = "".join(f"\\{byte:03o}" for byte in text.encode())
    return f"\"$(printf '{octal}')\""


def _value(placeholder: str, text: str) -> str:
    if placeholder == "{//}":
        return posixpath.dirname(text.rstrip("/")) or ("/" if text.startswith("/") else ".")
    if "/" in placeholder:
        text = posixpath.basename(text)
    return re.sub(r"\.[^/.]*\Z", "", text) if "." in placeholder else text


def _tokens(command: str) -> Iterator[tuple[str, str]]:
    """Yield the kinds and texts of the tokens that matter for what is quoted."""
    position, new_word = 0, True
    while match := _TOKEN.match(command, position):
        kind, text = str(match.lastgroup), match[0]
        if kind == "hash" and new_word:
            kind, text = "comment", command[position:].partition("\n")[0]
        elif kind == "unread":
            text = command[position:]
        yield kind, text
        position += len(text)
        # The shell removes a backslash before a newline, with that newline, before it
        # looks for words.
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
