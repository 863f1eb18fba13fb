"""Dead letters on disk: a letter in JSON, and a file that letters are added to."""

from __future__ import annotations

import json
import threading
from os import PathLike
from typing import Any, final

import trio

from trio_turnstile._errors import ConcurrentError, cause_of
from trio_turnstile._texts import notes_of, shown, shown_error

from .files import append_once


def dead_letter_to_dict(error: ConcurrentError) -> dict[str, Any]:
    """Return a dead letter as a dictionary that JSON can hold, if JSON can hold its item."""
    return {
        "item": error.item,
        "identifiers": list(error.identifiers),
        "step": error.phase,
        "attempt": error.attempt,
        "notes": [*error.notes, *notes_of(error.__cause__)],
        "error": shown_error(cause_of(error)),
    }


def letter_line(letter: ConcurrentError) -> bytes:
    """Return the line of a letter; parts of its item that JSON cannot hold become text."""
    fields = dead_letter_to_dict(letter)
    try:
        text = json.dumps(fields, default=shown)
    except (TypeError, ValueError, RecursionError):  # its keys are not text, or it holds itself
        text = json.dumps(fields | {"item": shown(letter.item)})
    return text.encode() + b"\n"


@final
class LetterFile:
    """Adds letters to a JSON Lines file; each is there, whole, when the call returns.

    Letters are rare, so the file is opened for each of them. That leaves nothing to close at the
    end of a run, where an interrupt could prevent it.

    Args:
      path: the file; it is made if it does not exist, and added to if it does.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self._path = path
        self._turn = threading.Lock()  # letters of several runs, perhaps in several threads

    def __repr__(self) -> str:
        return f"LetterFile({str(self._path)!r})"

    async def __call__(self, letter: ConcurrentError) -> None:
        """Add a letter. Once writing has begun, it is finished, cancelled or not.

        Raises:
          OSError: if the line cannot be written; then no part of it is in the file.
        """
        await trio.to_thread.run_sync(self._append, letter_line(letter))

    def _append(self, line: bytes) -> None:
        with self._turn:
            append_once(self._path, line)
