"""`Cost`: how much of ``--rate`` an operation takes: a number, or a column. Sans-I/O."""

from __future__ import annotations

import math
import re
from typing import Protocol, final

import attrs

from ._columns import Columns, Input
from ._placeholders import Placeholder, Placeholders


class Costly(Protocol):
    """The part of an operation that its cost depends on."""

    @property
    def given(self) -> Input:
        """Its input."""
        ...


@final
@attrs.frozen
class Cost:
    """How much of a rate operations take."""

    _of: float | Placeholder
    _most: float
    """The most that an operation may take."""
    _text: str
    """The cost as the user wrote it."""

    @classmethod
    def parse(cls, text: str, columns: Columns, most: float) -> Cost:
        """Read a number, or a column such as ``{2}``, ``{tokens}`` or ``tokens``.

        Args:
          text: how the user wrote it.
          columns: the columns of the inputs.
          most: the most that the rate ever gives at once.

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
            f"it must be a number, or a column with the cost of each input, such as {{2}} or, with "
            f"--header, {{tokens}}, not {text!r}"
        )

    def of(self, operation: Costly) -> float:
        """Return the cost of an operation; 0 if `check` makes it fail."""
        cost = self._cost(operation.given)
        return cost if cost is not None and cost <= self._most else 0.0

    def check(self, given: Input) -> None:
        """Raise `ValueError` if the cost of an input is not a number, or is too high."""
        cost = self._cost(given)
        if cost is None:
            raise ValueError(f"--cost {self._text} is not a number of 0 or more for this input")
        if cost > self._most:
            raise ValueError(
                f"--cost {self._text} is {cost:g} for this input, but --rate never gives more "
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
