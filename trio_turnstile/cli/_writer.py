"""Writing to standard error without ever waiting for its reader.

A terminal that was stopped by Ctrl-S, or a pipe that nobody reads, blocks whoever writes to
it. So a thread does the writing, and texts for it wait in a queue.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import final

from ._output import write_all

_MOST = 1000
"""How many texts may wait; more are dropped."""


@final
class Writer:
    """Writes texts to a file descriptor, in a thread of its own.

    Args:
      fd: where to write. If it cannot be written to, texts are dropped.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._texts: deque[bytes] = deque()
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def behind(self) -> bool:
        """Whether a text is waiting to be written."""
        return bool(self._texts)

    def write(self, text: bytes) -> None:
        """Queue a text for writing."""
        with self._change:
            if len(self._texts) < _MOST:
                self._texts.append(text)
            if self._thread is None:
                self._start()

    def flush(self) -> None:
        """Wait until all texts are written. Blocks as long as that takes."""
        with self._change:
            if self._texts and self._thread is None:
                self._start()
            self._change.wait_for(lambda: not self._texts)

    def _start(self) -> None:
        thread = threading.Thread(target=self._write_all, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread is available now, but perhaps for the next text
            return
        self._thread = thread

    def _write_all(self) -> None:
        """Write until nothing is left; the next text starts another thread."""
        while True:
            text = self._texts[0]
            with suppress(OSError):  # the run goes on, even if nobody can read this
                write_all(self._fd, text)
            with self._change:
                self._texts.popleft()
                if not self._texts:
                    self._thread = None
                    return self._change.notify_all()
