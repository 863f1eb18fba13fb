"""The options of ``turnstile run`` for its inputs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeAlias, final

import attrs
from cyclopts import Group, Parameter
from cyclopts.validators import Number

from trio_turnstile import Phase

from ._arguments import MARKS, UsageError
from ._columns import Columns, Input, Separator
from ._combinations import Groups, Shuffled
from ._fitting import Fitted, room_for_command
from ._inputs import Inputs
from ._sources import Source, open_sources, parse_marks
from ._template import Template

INPUTS = Group("Inputs", sort_key=2)

_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(.))", re.DOTALL)
_LETTERS = dict(zip(b"abfnrtv\\", b"\a\b\f\n\r\t\v\\", strict=True))

OpenInputs: TypeAlias = tuple[Inputs[Input], Columns]


@final
@Parameter(name="*", group=INPUTS)
@attrs.frozen(kw_only=True)
class InputOptions:
    r"""How inputs are read and combined.

    Attributes:
      arg_file: Read the inputs from this file, one per line. A dash (-) is standard input.
        Several files are combined as with ::::.
      null: Inputs end with NUL instead of newline, as find -print0 writes them.
      delimiter: Inputs in files end with this text instead of newline. It may have escapes
        such as \t, \0 and \x1e.
      colsep: Split each input into columns at this regular expression. Blanks around a column
        are dropped. If an input has too few columns, the missing ones are empty.
      header: The first input of each source names its columns: {name} stands for the column.
        With --pipe and --pipe-part, every block begins with the first line.
      max_args: Take this many inputs for each operation. {} is all of them, each as a separate
        word, and {1} the first. With --pipe, a block is this many records.
      fill_words: Take as many inputs for each operation as fit into its commands, as xargs
        does. The last inputs are shared out among as many operations as may run. The word that
        contains {} is repeated for each input: a{}.gz is a1.gz a2.gz. The same holds for -N.
      fill: Like -X, but {} has to be a separate word.
      xargs: Like -m, but the last inputs are not shared out.
      max_chars: With -X, -m or --xargs, the maximum length of a command in bytes, plus one.
      shuf: Run the inputs in random order. All are read before the first operation starts.
    """

    arg_file: Annotated[
        Sequence[Path] | None,
        Parameter(name=["--arg-file", "-a"], allow_leading_hyphen=True, negative=()),
    ] = None
    null: Annotated[bool, Parameter(name=["--null", "-0"], negative=())] = False
    delimiter: Annotated[
        str | None, Parameter(name=["--delimiter", "-d"], allow_leading_hyphen=True)
    ] = None
    colsep: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    header: Annotated[bool, Parameter(negative=())] = False
    max_args: Annotated[
        int | None, Parameter(name=["--max-args", "-N"], validator=Number(gte=1))
    ] = None
    fill_words: Annotated[bool, Parameter(name=["-X"], negative=())] = False
    fill: Annotated[bool, Parameter(name=["-m"], negative=())] = False
    xargs: Annotated[bool, Parameter(negative=())] = False
    max_chars: Annotated[
        int | None, Parameter(name=["--max-chars", "-s"], validator=Number(gte=2))
    ] = None
    shuf: Annotated[bool, Parameter(negative=())] = False

    def open(self, inputs: Sequence[str], rest: Sequence[str] | None) -> OpenInputs:
        """Open the inputs.

        Args:
          inputs: the arguments before a ``--``.
          rest: the arguments from the ``--`` or the first mark on, if there is one.
        """
        sources = self._sources(inputs, rest)
        made, columns = open_sources(
            sources, end=self._end(), separator=self._separator(), header=self.header
        )
        if self.shuf:
            made = Shuffled(made)
        filling = self._filling()
        if self.max_args is None and filling is None:
            return made, columns
        if len(sources) > 1 or self.colsep is not None:
            name = filling or "--max-args"
            raise UsageError(f"{name} goes with neither several sources nor --colsep")
        in_context = filling in (None, "-X")
        if filling is not None or self.max_args is None:
            return made, Columns(None, in_context=in_context)
        return Groups(made, self.max_args), Columns(self.max_args, in_context=in_context)

    def fit(
        self, inputs: Inputs[Input], commands: Mapping[Phase, Template], limit: float
    ) -> Inputs[Input]:
        """Return the inputs; with ``-X`` and the like, as many at a time as fit the commands.

        Args:
          inputs: the inputs.
          commands: the commands by phase.
          limit: how many operations may run at a time.

        Raises:
          UsageError: if ``--work`` cannot take any number of inputs.
        """
        filling = self._filling()
        if filling is None:
            return inputs
        if not commands["work"].has_all_columns:
            raise UsageError(
                f"{filling} puts any number of inputs in place of {{}}, but --work has no {{}}: "
                "write {}, or use -N to take a fixed number of inputs"
            )
        room = room_for_command(os.environ)
        if self.max_chars is not None and self.max_chars > room:
            raise UsageError(f"--max-chars must be at most {room} on this system")
        return Fitted(
            inputs,
            tuple(commands.values()),
            room=room if self.max_chars is None else self.max_chars - 1,
            most=self.max_args,
            shares=1 if self.xargs else max(int(limit), 1),
        )

    def _filling(self) -> str | None:
        options = {"-X": self.fill_words, "-m": self.fill, "--xargs": self.xargs}
        given = [name for name, is_given in options.items() if is_given]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} do not go together: leave out one of them")
        if self.max_chars is not None and not given:
            raise UsageError("--max-chars is only for -X, -m and --xargs: give one of these too")
        return given[0] if given else None

    def _sources(self, inputs: Sequence[str], rest: Sequence[str] | None) -> list[Source]:
        files = [Source.of_file(path) for path in self.arg_file or ()]
        if rest is not None and rest[0] in MARKS:
            if inputs:
                raise UsageError(f"give inputs before -- or after {rest[0]}, not both")
            return _with_files(files, rest)
        given = None if rest is None and not inputs else (*inputs, *(rest or ())[1:])
        if given is not None and files:
            raise UsageError("give inputs as arguments or by --arg-file, not both")
        return [Source(given)] if given is not None else files or [Source.of_file(None)]

    def _end(self) -> bytes:
        if self.delimiter is None:
            return b"\0" if self.null else b"\n"
        if self.null or not self.delimiter:
            raise UsageError("--delimiter must not be empty, and does not go with --null")
        return unescape(self.delimiter)

    def _separator(self) -> Separator | None:
        try:
            return None if self.colsep is None else Separator.parse(self.colsep)
        except ValueError as error:
            raise UsageError(f"--colsep: {error}") from None


def _with_files(files: list[Source], rest: Sequence[str]) -> list[Source]:
    if files and rest[0].endswith("+"):
        first, *others = parse_marks([rest[0].removesuffix("+"), *rest[1:]])
        return [*files, attrs.evolve(first, is_linked=True), *others]
    return [*files, *parse_marks(rest)]


def unescape(text: str) -> bytes:
    r"""Return a text in which escapes such as ``\t`` and ``\x1e`` are replaced."""
    return _ESCAPE.sub(_unescaped, os.fsencode(text))


def _unescaped(found: re.Match[bytes]) -> bytes:
    octal, hexadecimal, letter = found.groups()
    if letter is not None:
        return bytes([_LETTERS.get(letter[0], letter[0])])
    return bytes([int(octal, 8) & 255 if octal else int(hexadecimal, 16)])
