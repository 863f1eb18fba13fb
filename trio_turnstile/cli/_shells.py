"""The shells that can run the commands: those whose quoting the template reader knows."""

from __future__ import annotations

import shutil
from pathlib import Path

_KNOWN = ("sh", "bash", "dash", "ksh", "mksh")


def find_shell(name: str) -> str:
    """Return the path of a shell.

    Args:
      name: its name or path.

    Raises:
      ValueError: if it does not exist, or its quoting differs, as in fish.
    """
    if Path(name).name not in _KNOWN:
        raise ValueError(
            f"it must be one of {', '.join(_KNOWN)}, not {name!r}: other shells quote differently"
        )
    path = shutil.which(name)
    if path is None:
        raise ValueError(f"there is no {name!r}")
    return path
