"""`Cost`: what an operation takes of ``--rate``, by a column of its input or a number. Sans-I/O."""

from __future__ import annotations

import math
import re
from typing import Protocol, final

import attrs

from ._columns import Columns, Input
from ._placeholders import Placeholder, Placeholders


class Costly(Protocol):
    """An operation of the command, as far as its cost is concerned."""

    @property
    def given(self) -> Input:
        """Its input."""
        ...


@final
@attrs.frozen
class Cost:
    """What operations take of a rate."""

    _of: float | Placeholder
    _most: float
    """What they may take at most."""
    _text: str
    """How it was written."""

    @classmethod
    def parse(cls, text: str, columns: Columns, most: float) -> Cost:
        """Read a number, or a column such as ``{2}``, ``{tokens}`` or ``tokens``.

        Args:
          text: how the user wrote it.
          columns: the columns that there are.
          most: what the rate gives in its time.

        Raises:
          ValueError: for anything else.
        """
        number = _number(text)
        if number is not None:
            if number > most:
                raise ValueError(f"{text} is more than the {most:g} that --rate ever gives at once")
            return cls(number, most, text)
        known = Placeholders(columns)
        is_name = re.search(r"[^\d.+-]", text) is not None
        for column in (text, f"{{{text}}}")[: 1 + is_name]:
            found = known.match(column, 0)
            if found is not None and found[0] == column:
                return cls(known.read(column), most, text)
        raise ValueError(
            f"it is a number, or a column with the cost of each input, such as {{2}} or, with "
            f"--header, {{tokens}}, not {text!r}"
        )

    def of(self, operation: Costly) -> float:
        """Return what an operation takes; 0 if it is to fail, as `check` says."""
        cost = self._cost(operation.given)
        return cost if cost is not None and cost <= self._most else 0.0

    def check(self, given: Input) -> None:
        """Raise `ValueError` if the cost of an input is no number, or more than it can be."""
        cost = self._cost(given)
        if cost is None:
            raise ValueError(f"--cost {self._text} is no number of 0 or more for this input")
        if cost > self._most:
            raise ValueError(
                f"--cost {self._text} is {cost:g} for this input, and --rate never gives more "
                f"than {self._most:g} at once"
            )

    def _cost(self, given: Input) -> float | None:
        if isinstance(self._of, Placeholder):
            return _number(" ".join(self._of.texts(given)))
        return self._of


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None
