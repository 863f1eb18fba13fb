"""``--results DIR``: a folder for each operation, with the files stdout, stderr and seq.

The files grow as output comes, so that a running operation can be inspected. The name of a
folder is the input, made safe. A second operation of the run with the same input has a
number at the end of the name. Files of earlier runs are replaced.
"""

from __future__ import annotations

import hashlib
import os
import re
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile
from typing import final

_LONGEST = 200
"""The longest name, in bytes. Most file systems allow 255."""

_ESCAPES = {"+": "++", "/": "+z"}


@final
class Results:
    """The folders of a run.

    Args:
      folder: contains them; it is made if it does not exist.

    Raises:
      OSError: if it cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder) as file:
            # By the clock of the file system, which may be on another machine.
            self._started = os.fstat(file.fileno()).st_mtime_ns

    def open(self, seq: int, text: str) -> tuple[Path, Path]:
        """Make the folder of an operation, and return the paths for its two outputs.

        Raises:
          OSError: if it cannot be made.
        """
        folder = self._folder_for(seq, text)
        folder.mkdir(exist_ok=True)
        paths = (folder / "stdout", folder / "stderr")
        for path in paths:
            path.write_bytes(b"")
        (folder / "seq").write_text(f"{seq}\n")
        return paths

    def _folder_for(self, seq: int, text: str) -> Path:
        name = safe_name(text)
        for number in count(2):
            path = self._folder / name / "seq"
            if not self._is_taken(path, seq):
                break
            name = f"{safe_name(text)}+{number}"
        return self._folder / name

    def _is_taken(self, path: Path, seq: int) -> bool:
        """Return whether another operation of this run has a folder."""
        try:
            return path.stat().st_mtime_ns >= self._started and path.read_text() != f"{seq}\n"
        except OSError:
            return False


def safe_name(text: str) -> str:
    """Return a file name for any text; different texts have different names."""
    name = re.sub(r"[+/]", lambda match: _ESCAPES[match[0]], text)
    name = re.sub(r"[\x00-\x1f\x7f]", lambda match: f"+x{ord(match[0]):02x}", name)
    if name in ("", ".", ".."):
        return f"+{name}."
    data = name.encode(errors="surrogateescape")
    if len(data) <= _LONGEST:
        return name
    digest = hashlib.sha256(data).hexdigest()[:32]
    return data[: _LONGEST - len(digest)].decode(errors="ignore") + "+h" + digest
