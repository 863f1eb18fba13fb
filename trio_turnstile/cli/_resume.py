"""``--resume`` and ``--resume-failed``: what an earlier run has done, according to a job log.

As in GNU parallel, the log knows a job by its number. So the inputs have to be the same, in the
same order. If a command in the log differs from the command of its number, the run ends.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import final

from ._printable import printable

_FIELDS = 9

_COMPARED = 1000
"""How many of the first commands are compared: enough to notice that the inputs differ."""


@final
class Resumed:
    """The jobs of a job log that need not be done again.

    Args:
      path: the job log; if it does not exist, nothing was done.
      failed_again: whether failed jobs are done again.
    """

    def __init__(self, path: Path, *, failed_again: bool) -> None:
        self._path = path
        self._done = bytearray(1)  # a byte for each number: a set of a million takes 64 MB
        self._commands: dict[int, str] = {}
        for number, exit_status, signum, command in _read(path):
            self._note(number, done=not failed_again or (exit_status, signum) == (0, 0))
            if number <= _COMPARED:
                self._commands[number] = command

    def _note(self, number: int, *, done: bool) -> None:
        if number >= len(self._done):
            self._done.extend(bytes(number + 1 - len(self._done)))
        self._done[number] = done

    def is_done(self, number: int, command: Callable[[], str]) -> bool:
        """Return whether a job need not be done again.

        Args:
          number: its number, from 1.
          command: gives its command.

        Raises:
          ValueError: if its command in the log differs.
        """
        before = self._commands.pop(number, None)
        if before is not None and _unquoted(before) != _unquoted(command()):
            raise ValueError(
                f"{self._path} has another command for number {number}: it was "
                f"{printable(before)!r}, but now it is {printable(command())!r}. Give the inputs "
                "in the same order, or use --ledger, which knows them by their texts"
            )
        return number < len(self._done) and bool(self._done[number])


def _unquoted(command: str) -> str:
    """Return a command without quotes, as GNU parallel quotes an input only if necessary."""
    return re.sub(r"[\\'\"]", "", command)


def _read(path: Path) -> Iterator[tuple[int, int, int, str]]:
    """Yield number, exit status, signal and command of each line; skip malformed lines."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            fields = line.rstrip(b"\n").split(b"\t", _FIELDS - 1)
            if len(fields) == _FIELDS and fields[0].isdigit():
                command = os.fsdecode(fields[8]).replace("\0", "\n")
                yield int(fields[0]), int(fields[6]), int(fields[7]), command
