"""The pipes of processes that commands have left in the background.

When an operation has ended, its output is printed, and later output is not needed. But if
nobody had the pipe of a process open, SIGPIPE would end the process at its next output. So the
pipes are read for as long as they have a writer: by us while the run goes on, and then by a
cat(1) for each pipe, which ends with its writer.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from typing import final

import trio

_PAUSE = 0.1
_MOST = 16
"""How many pipes to read ourselves: each takes a file descriptor."""


@final
class Leftovers:
    """Reads pipes, and drops their contents."""

    def __init__(self) -> None:
        self._pipes: list[int] = []
        self._news = trio.lowlevel.ParkingLot()

    def add(self, pipe: int) -> None:
        """Read ``pipe``, which is non-blocking, and close it when it no longer has a writer."""
        self._pipes.append(pipe)
        if len(self._pipes) > _MOST:
            self.hand_over()
        self._news.unpark()

    async def run(self) -> None:
        """Read the pipes, until cancelled."""
        # Looking from time to time is enough: a writer that has to wait is not harmed.
        while True:
            if not self._pipes:
                await self._news.park()
            self._read_all()
            await trio.sleep(_PAUSE)

    def hand_over(self) -> None:
        """Pass each pipe that still has a writer to its own process."""
        self._read_all()
        pipes, self._pipes = self._pipes, []
        for pipe in pipes:
            os.set_blocking(pipe, True)
            with suppress(OSError):  # then their writers have no reader
                _leave_to_cat(pipe)
            os.close(pipe)

    def _read_all(self) -> None:
        self._pipes = [pipe for pipe in self._pipes if _has_writer(pipe)]


def _leave_to_cat(pipe: int) -> None:
    subprocess.run(
        ["/bin/sh", "-c", "exec 3<&0; cat <&3 >/dev/null 2>&1 &"],
        stdin=pipe,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
        check=False,
    )


def _has_writer(pipe: int) -> bool:
    try:
        if os.read(pipe, 1 << 20):
            return True
    except BlockingIOError:
        return True
    os.close(pipe)
    return False
