r"""Finds places where a shell evaluates an input in spite of its quotes. Sans-I/O.

Quotes make an input one word. But some shells evaluate certain words again, as arithmetic or as
names. For them ``a[$(reboot)]`` is an element of an array, whose index they compute:

- bash does so in ``[[ x -gt 5 ]]``, ``let``, ``((x))``, ``$((x))``, indices, ``${text:x}``,
  ``${!x}``, ``${x@P}``, and names of variables;
- ksh and mksh do so in the same places, and in ``[ x -gt 5 ]``, ``exit x`` and the like.

The values of variables are evaluated as well. `Guard` reads a command word by word, and refuses
placeholders, and variables that hold an input, in these places. It sees only the text of the
command, and not what a script does that the command calls.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import final

HOLE = "\0"
"""Stands for a placeholder in a word."""

WORDS = "\1"
"""Stands for a placeholder that becomes any number of words."""

_EVALUATE = frozenset(
    {
        *("let", "unset", "read", "mapfile", "readarray", "getopts", "integer"),
        *("shift", "exit", "return", "break", "continue", "ulimit"),
    }
)
"""Commands that evaluate their arguments, in one shell or another."""

_DECLARE = frozenset({"declare", "typeset", "local", "export", "readonly"})

_NAMES = "|".join(
    map(re.escape, sorted({*_EVALUATE, *_DECLARE, "test", "printf", "wait", "[[", "["}))
)
_COMMAND_IN_TEXT = re.compile(
    rf"(?:^|[;&|(`\n]|\b(?:then|do|else)\b)\s*((?:{_NAMES})(?!\w)[^;&|\n`)]*)"
)
"""Finds such a command where only a complete shell could parse its words."""
_BEFORE_COMMAND = frozenset(
    {
        *("if", "then", "elif", "else", "while", "until", "do", "!", "{"),
        *("time", "command", "builtin", "exec", "coproc"),
    }
)
_COMPARISONS = frozenset({"-eq", "-ne", "-lt", "-le", "-gt", "-ge"})

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)\+?=", re.ASCII)
_INDEX = re.compile(r"(?:[A-Za-z_]\w*)?\[[^\]]*\0", re.ASCII)
_INDEXED = re.compile(r"(?:[A-Za-z_]\w*)?(\[[^\]]*\])\+?=", re.ASCII)
_ARITHMETIC = re.compile(r"\(\(.*?\)\)|\$\[.*?\]|\blet\b.*|\[\[.*?\]\]", re.DOTALL)
_EXPANSIONS = (
    re.compile(r"\$\{!([^}]*)"),
    re.compile(r"\$\{#?\w+(\[[^\]]*\])"),
    re.compile(r"\$\{[@*\w]+(?:\[[^\]]*\])?:(?![-=+?])([^}]*)"),
    re.compile(r"\$\{([^}]*@P)"),
)
"""The parts of ``${...}`` that a shell evaluates, or whose value it evaluates."""
_DESCRIPTOR = re.compile(r"\{[A-Za-z_]\w*\}", re.ASCII)  # as in exec {fd}>file of bash


@final
class Guard:
    """Reads the tokens of a command, and refuses inputs that would be evaluated.

    Args:
      refuse_unknown: checks the unquoted part of a word.
    """

    def __init__(
        self, refuse_unknown: Callable[[str], object], *, in_context: bool = False
    ) -> None:
        self._refuse_unknown = refuse_unknown
        self._in_context = in_context  # whether a word with {} is repeated
        self._words: list[str] = []
        self._word = ""  # as the shell sees it, without quotes
        self._plain = ""  # its unquoted part
        self._is_target = False  # of a redirection
        self._in_test = False  # between [[ and ]]
        self._holders = {r"TURNSTILE_INPUT(?:_\d+)?"}  # variables that may hold an input
        self._evaluated: list[str] = []  # texts in which a bare name is a variable
        self._words_evaluated: list[tuple[str, str]] = []  # words that need a $, and their places
        self._integers = False

    def read(self, kind: str, text: str) -> None:
        """Read the next token."""
        if kind in ("space", "operator", "redirection", "comment"):
            if kind == "redirection" and _DESCRIPTOR.fullmatch(self._plain):
                self._plain = ""
            self._end_word()
            self._is_target = kind == "redirection" and "&" not in text
            if kind == "operator" and not self._in_test:
                self._end_command()
        elif kind == "unread":
            self._evaluated += [text] if _ARITHMETIC.search(text) else []
            self._evaluated += [text] if text.startswith("((") else []
            self._evaluated += _parts_of_expansions(text)
            self._refuse_later("what an unread command evaluates", _COMMAND_IN_TEXT.findall(text))
        else:
            self._read_part(kind, text)

    def finish(self) -> None:
        """Check the whole command.

        Raises:
          ValueError: if an input might be evaluated.
        """
        self._end_word()
        self._end_command()
        for word, place in self._words_evaluated:
            self._refuse_if(self._holds_input(word), place)
        for text in self._evaluated:
            for name in sorted(self._holders):
                if found := re.search(rf"(?<!\w){name}(?!\w)", text):
                    raise ValueError(_refusal(f"the variable {found[0]} in {_short(text)!r}"))

    def _read_part(self, kind: str, text: str) -> None:
        if text == "\\\n":
            return
        if kind == "placeholder":
            text = HOLE
        elif kind == "placeholders":
            text = WORDS
        elif kind == "escape":
            text = text[1:]
        elif kind == "quoted":
            self._evaluated += [*_ARITHMETIC.findall(text), *_parts_of_expansions(text)]
            self._refuse_later("what an unread command evaluates", _commands_in_quotes(text))
            text = text[1:-1]
        elif kind == "expansion":
            self._evaluated += [text] if text.startswith("$((") else _parts_of_expansions(text)
        self._word += text
        self._plain += text if kind == "text" else HOLE

    def _end_word(self) -> None:
        word, self._word = self._word, ""
        plain, self._plain = self._plain, ""
        self._refuse_unknown(plain)
        several = WORDS in word
        if several and (self._is_target or not (word == WORDS or self._in_context)):
            raise ValueError(_part_of_a_word(word.replace(WORDS, "{}").replace(HOLE, "..")))
        if not word or self._is_target:
            return
        word = word.replace(WORDS, HOLE)
        if _INDEX.match(word):
            raise ValueError(_refusal("an index of an array"))
        if indexed := _INDEXED.match(word):
            self._evaluated.append(indexed[1])
        self._words += [word, word] if several else [word]
        if word == "]]" or (word == "[[" and len(_without_prefix(self._words)) == 1):
            self._in_test = word == "[["

    def _end_command(self) -> None:
        words, self._words = self._words, []
        self._in_test = False
        self._note_holders(words)
        command = _without_prefix(words)
        if command:
            self._check_command(command[0], command[1:])

    def _note_holders(self, words: Sequence[str]) -> None:
        for word in words:
            assigned = _ASSIGNMENT.match(word)
            if assigned and self._holds_input(word):
                self._holders.add(assigned[1])
                self._refuse_if(self._integers, "the value of an integer")
        if len(words) > 3 and "for" in words[:2] and any(map(self._holds_input, words[3:])):
            self._holders.add(re.escape(words[words.index("for") + 1]))
        if words[:1] == ["set"] and any(map(self._holds_input, words)):
            self._holders.update(("[1-9]", "@", r"\*"))

    def _holds_input(self, word: str) -> bool:
        return HOLE in word or any(
            re.search(rf"\$\{{?{name}(?!\w)", word) for name in self._holders
        )

    def _check_command(self, command: str, words: Sequence[str]) -> None:
        if command in _EVALUATE:
            self._refuse_later(f"an argument of {command}", words)
            self._evaluated += words if command == "let" else []
        elif command in _DECLARE:
            self._check_declaration(command, words)
        elif command == "[[":
            self._refuse_if(any(HOLE in word for word in words), "an operand of [[ ]]")
            self._evaluated += _operands(words)
            self._refuse_later("an operand of [[ ]]", _after("-v", words))
        elif command in ("[", "test"):
            # A word next to an operand may be an operator, such as -v or -gt.
            pairs = pairwise(map(self._holds_input, words))
            self._refuse_if(any(map(all, pairs)), f"an operand of {command} next to another")
            compared = [*_operands(words), *_after("-v", words), *_after("-t", words)]
            self._refuse_later(f"an operand of {command}", compared)
        elif command == "printf":
            self._refuse_later("a name", _after("-v", words))
            self._refuse_if(_may_be_option(words), "an option of printf")
        elif command == "wait":
            self._refuse_later("a name", _after("-p", words))

    def _check_declaration(self, command: str, words: Sequence[str]) -> None:
        integers = any(re.match(r"[-+]\w*[in]", word) for word in words)
        self._integers = self._integers or integers
        self._refuse_later(f"a name for {command}", [word.partition("=")[0] for word in words])
        if integers:
            self._refuse_later(f"an integer for {command}", words)

    def _refuse_later(self, place: str, words: Sequence[str]) -> None:
        """Note words to check at the end, when it is known which variables hold an input."""
        self._words_evaluated += [(word, place) for word in words]

    @staticmethod
    def _refuse_if(evaluated: bool, place: str) -> None:
        if evaluated:
            raise ValueError(_refusal(place))


def _without_prefix(words: Sequence[str]) -> Sequence[str]:
    """Return the words of a command, starting with its name."""
    for index, word in enumerate(words):
        is_option = word.startswith("-") and index > 0 and words[0] in _BEFORE_COMMAND
        if not (is_option or word in _BEFORE_COMMAND or _ASSIGNMENT.match(word)):
            return words[index:]
    return ()


def _parts_of_expansions(text: str) -> list[str]:
    return [part for expansion in _EXPANSIONS for part in expansion.findall(text)]


def _commands_in_quotes(text: str) -> list[str]:
    return [
        command
        for substitution in re.findall(r"\$(\([^()]*)\)", text)
        for command in _COMMAND_IN_TEXT.findall(substitution)
    ]


def _operands(words: Sequence[str]) -> list[str]:
    """Return the words that are compared as numbers."""
    return [
        word
        for index, word in enumerate(words)
        if _COMPARISONS.intersection(words[max(index - 1, 0) : index + 2]) - {word}
    ]


def _after(option: str, words: Sequence[str]) -> list[str]:
    return [word for before, word in pairwise(words) if before == option]


def _may_be_option(words: Sequence[str]) -> bool:
    """Tell whether an input is in a place where printf looks for options."""
    before = ""
    for word in words:
        if before != "-v":
            if word.startswith(HOLE) or (word.startswith("-") and HOLE in word):
                return True
            if word == "--" or not word.startswith("-"):
                return False
        before = "" if before == "-v" else word
    return False


def _short(text: str) -> str:
    return text if len(text) < 40 else text[:40] + "..."


def _refusal(place: str) -> str:
    return (
        f"an input as {place} could become code, as some shells evaluate it. Convert it to a "
        "number first, as in n=$(printf %d {}), and use $n; for text use case, or [ a = b ]"
    )


def _part_of_a_word(word: str) -> str:
    return (
        f"{word!r} would join several words: {{}} is every column of an input as a separate "
        "word. Name the column, as in {1}, or put blanks around {}. -X and -N repeat the word"
    )
