"""``--weight``: how many tokens of the limit an operation takes. Sans-I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import attrs

from trio_turnstile import ConcurrentError, Verdict

from ._columns import Columns
from ._shell import ShellOperation
from ._template import Template


@final
@attrs.frozen
class Weight:
    """The weight of an operation: a number, or a text with placeholders that gives one."""

    _number: int | None
    _template: Template

    @classmethod
    def parse(cls, text: str, columns: Columns, maximum: float) -> Weight:
        """Read the option.

        Raises:
          ValueError: if it has no placeholder, and is not a number that an operation can have.
        """
        template = Template.of_text(text, columns)
        if not template.is_constant:
            return cls(None, template)
        number = _whole(text)
        if number > maximum:
            raise ValueError(f"{number} is more than the limit can ever be, which is {maximum}")
        return cls(number, template)

    @property
    def for_phases(self) -> int | Callable[[ShellOperation], int]:
        """The weight as `run_phases` takes it."""
        return self._weigh if self._number is None else self._number

    def _weigh(self, operation: ShellOperation) -> int:
        return _whole(operation.fill_plainly(self._template))


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ValueError(f"--weight: {text!r} is not a whole number of 1 or more")
    return int(text)


@final
class TellRefused:
    """Tells an operation that its tokens were refused, so that nobody waits for its output."""

    def decide(self, error: ConcurrentError) -> Verdict | None:
        """Leave the verdict to others."""
        if error.phase == "limiter" and isinstance(error.item, ShellOperation):
            error.item.refused(error.__cause__)
        return None
