"""The options of ``turnstile run`` that cut standard input into blocks."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Annotated, final

import attrs
from cyclopts import Parameter

from ._arguments import UsageError
from ._blocks import Blocks, Boundary
from ._columns import Columns
from ._input_options import INPUTS, InputOptions, OpenInputs, unescape
from ._options import to_size
from ._rates import Size

_BLOCK = Size(1 << 20, "1M")


@final
@Parameter(name="*", group=INPUTS)
@attrs.frozen(kw_only=True)
class PipeOptions:
    r"""How standard input is cut into blocks.

    Attributes:
      pipe: Cut standard input into blocks of whole lines. Each is the standard input of the
        --work of one operation, and {} is its number.
      block: The most bytes of a block, unless a record is longer: 64k or 10M.
      recstart: Records start with this text. It may have escapes, as in --delimiter.
      recend: Records end with this text. The default is a newline, and nothing with
        --recstart. With both, a record ends where the two follow one another.
    """

    pipe: Annotated[bool, Parameter(negative=(), show_default=False)] = False
    block: Annotated[
        Size,
        Parameter(
            converter=to_size,
            n_tokens=1,
            accepts_keys=False,
            show_default=attrgetter("text"),
        ),
    ] = _BLOCK
    recstart: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    recend: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None

    def open(
        self, source: InputOptions, inputs: Sequence[str], rest: Sequence[str] | None
    ) -> OpenInputs:
        """Open the blocks, or the inputs if there are to be none.

        Args:
          source: how inputs are read.
          inputs: the arguments before a ``--``.
          rest: the arguments from the ``--`` or the first mark on, if there is one.
        """
        if not self.pipe:
            if self != PipeOptions():
                raise UsageError("--block, --recstart and --recend are about --pipe: give it too")
            return source.open(inputs, rest)
        if source != InputOptions() or inputs or (rest or ())[1:]:
            raise UsageError(
                "--pipe cuts standard input into blocks, so it goes with no inputs, and with none "
                "of the options that read inputs"
            )
        return Blocks(0, self.block.bytes, self._boundary()), Columns(in_commands=False)

    def _boundary(self) -> Boundary:
        start = unescape(self.recstart or "")
        end = b"\n" if self.recend is None and not start else unescape(self.recend or "")
        if not start + end:
            raise UsageError("--recend must not be empty without --recstart")
        if self.block.bytes < 1:
            raise UsageError("--block must be 1 or more")
        return Boundary(end, start)
