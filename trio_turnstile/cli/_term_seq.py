"""The signals that end a command, as users write them on a command line. Sans-I/O."""

from __future__ import annotations

import re
import signal
from typing import Self, final

import attrs


@final
@attrs.frozen
class TermSeq:
    """Signals that end a command, one after the other, and then SIGKILL."""

    steps: tuple[tuple[signal.Signals, float], ...]
    """The signals, each with the seconds to wait after it."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a text such as ``TERM,5000,KILL``, with the times in milliseconds.

        Raises:
          ValueError: for anything else.
        """
        fields = text.strip().split(",")
        names, times = fields[::2], fields[1::2]
        last = names.pop()
        if last.removeprefix("SIG") != "KILL" or not all(map(_is_time, times)):
            raise ValueError(_rule(text))
        try:
            numbers = [signal.Signals[f"SIG{name.removeprefix('SIG')}"] for name in names]
        except KeyError:
            raise ValueError(_rule(text)) from None
        return cls(tuple(zip(numbers, (int(each) / 1000 for each in times), strict=True)))


def _is_time(text: str) -> bool:
    return bool(re.fullmatch(r"\d{1,9}", text, re.ASCII))


def _rule(text: str) -> str:
    return (
        "it must be signals and milliseconds between them, with KILL at the end, as in "
        f"TERM,5000,KILL or INT,200,TERM,1000,KILL, not {text!r}"
    )
