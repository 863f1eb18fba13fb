"""The options of ``turnstile run`` that cut standard input or files into blocks."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, final

import attrs
from cyclopts import Parameter, Token

from ._arguments import UsageError
from ._blocks import Blocks, Boundary
from ._columns import Columns
from ._input_options import INPUTS, InputOptions, OpenInputs, unescape
from ._parts import Parts
from ._pieces import Pieces
from ._rates import Share, Size

_BLOCK = Size(1 << 20, "1M")


def _to_block(_: Any, tokens: Sequence[Token]) -> Size | Share:
    text = tokens[0].value
    return Share.parse(text) if text.strip().startswith("-") else Size.parse(text)


@final
@Parameter(name="*", group=INPUTS)
@attrs.frozen(kw_only=True)
class PipeOptions:
    r"""How standard input, or files, are cut into blocks.

    Attributes:
      pipe: Cut standard input into blocks of whole lines. Each block is the standard input of
        the --work command of one operation, and {} is its number.
      pipe_part: Cut the files of --arg-file into blocks. The blocks do not pass through
        turnstile or its memory, and you can use --ledger. {} is the name of the file with
        the first byte and the end of the block.
      block: The maximum size of a block, unless a record is longer: 64k or 10M. With
        --pipe-part a block ends with the record in which it reaches this size, and -2 makes
        two blocks for each operation that may run at the start.
      recstart: Records start with this text. It may have escapes, as in --delimiter.
      recend: Records end with this text. The default is a newline, or nothing with
        --recstart. With both, a record ends where --recend is followed by --recstart.
    """

    pipe: Annotated[bool, Parameter(negative=(), show_default=False)] = False
    pipe_part: Annotated[bool, Parameter(negative=(), show_default=False)] = False
    block: Annotated[
        Size | Share,
        Parameter(
            converter=_to_block,
            n_tokens=1,
            accepts_keys=False,
            allow_leading_hyphen=True,
            show_default=attrgetter("text"),
        ),
    ] = _BLOCK
    recstart: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    recend: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None

    def open(
        self, source: InputOptions, inputs: Sequence[str], rest: Sequence[str] | None, limit: int
    ) -> OpenInputs:
        """Open the blocks, or the inputs if no blocks are asked for.

        Args:
          source: how inputs are read.
          inputs: the arguments before a ``--``.
          rest: the arguments from the ``--`` or the first mark on, if there is one.
          limit: how many operations may run at the start.
        """
        if self.pipe_part:
            return self._open_parts(source, inputs, rest, limit)
        if not self.pipe:
            if self != PipeOptions():
                raise UsageError(
                    "--block, --recstart and --recend are only for --pipe and --pipe-part: give "
                    "one of these too"
                )
            return source.open(inputs, rest)
        plain = InputOptions(header=source.header, max_args=source.max_args)
        if source != plain or inputs or (rest or ())[1:]:
            raise UsageError(
                "--pipe cuts standard input into blocks, so give no inputs, and none of the "
                "options that read inputs except --header and --max-args"
            )
        blocks = Blocks(
            0, self._size(), self._boundary(), header=source.header, records=source.max_args
        )
        return Pieces(blocks.take), Columns(in_commands=False)

    def _open_parts(
        self, source: InputOptions, inputs: Sequence[str], rest: Sequence[str] | None, limit: int
    ) -> OpenInputs:
        if self.pipe:
            raise UsageError(
                "--pipe and --pipe-part do not go together: --pipe cuts standard input, and "
                "--pipe-part the files of --arg-file"
            )
        paths = source.arg_file or ()
        plain = InputOptions(arg_file=paths, header=source.header)
        if not paths or source != plain or inputs or (rest or ())[1:]:
            raise UsageError(
                "--pipe-part cuts files into blocks: name them with --arg-file FILE. Give no "
                "inputs, and none of the other options that read inputs except --header"
            )
        total = sum(map(_size_of, paths))
        size = self.block.size(total, limit) if isinstance(self.block, Share) else self._size()
        parts = Parts(paths, size, self._boundary(), header=source.header)
        return Pieces(parts.take), Columns(in_commands=False)

    def _size(self) -> int:
        if isinstance(self.block, Share):
            raise UsageError(
                f"--block {self.block.text} is a share of a file, but --pipe cannot know how long "
                "standard input is: give a size, as in 10M, or use --pipe-part"
            )
        if self.block.bytes < 1:
            raise UsageError("--block must be 1 or more")
        return self.block.bytes

    def _boundary(self) -> Boundary:
        start = unescape(self.recstart or "")
        end = b"\n" if self.recend is None and not start else unescape(self.recend or "")
        if not start + end:
            raise UsageError("--recend must not be empty without --recstart")
        return Boundary(end, start)


def _size_of(path: Path) -> int:
    """Return the size of a file that is to be cut."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
            with path.open("rb") as file:
                return file.seek(0, os.SEEK_END)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"--arg-file: cannot read {str(path)!r}: {why}") from None
    raise UsageError(
        f"--pipe-part reads at any position, but {str(path)!r} is not a regular file: use --pipe, "
        "as in turnstile run --pipe ... < FILE"
    )
