"""`KeptDebt`: what was taken from a quota, in a file, for the next process.

The file is ahead of what is taken, so that the file of a process that is killed never says too
little. It is written each time another hundredth of the quota is begun, and not for each call. It
is replaced as a whole, so nobody ever reads half of it.
"""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import final

_KIND = "trio_turnstile quota 1"
_AHEAD = 0.01


@final
class KeptDebt:
    """A debt, in a file.

    Args:
      path: the file; it need not be there.
      ahead: how far the file is ahead of what is taken, as a share of the quota.

    Raises:
      ValueError: if the file holds something else.
      OSError: if the file cannot be read.
    """

    __slots__ = ("_ahead", "_noted", "path")

    def __init__(self, path: str | os.PathLike[str], ahead: float = _AHEAD) -> None:
        self.path = Path(path)
        self._ahead = ahead
        self._noted = 0.0
        self.read(0.0)

    def read(self, per_second: float) -> float:
        """Return what is left of the kept debt at this rate."""
        try:
            kept = json.loads(self.path.read_bytes())
            if kept["kind"] != _KIND:
                raise ValueError(kept["kind"])
            debt, at = float(kept["debt"]), float(kept["at"])
        except FileNotFoundError:
            debt = at = 0.0
        except (ValueError, TypeError, LookupError) as error:
            raise ValueError(
                f"{str(self.path)!r} holds no quota: give another file, or remove it if what was "
                "used up may be forgotten"
            ) from error
        passed = max(0.0, time.time() - at)
        self._noted = max(0.0, debt - passed * per_second) if math.isfinite(per_second) else 0.0
        return self._noted

    def pay_off(self, paid: float) -> None:
        """Note that an amount was paid off; readers of the file see that from its time."""
        self._noted = max(0.0, self._noted - paid)

    def cover(self, debt: float, quota: float) -> None:
        """Make the file say no less than this debt, and not much more.

        Raises:
          OSError: if the file cannot be written.
        """
        ahead = self._ahead * quota
        if not debt <= self._noted <= debt + 2 * ahead:
            self._write(debt + ahead)

    def _write(self, debt: float) -> None:
        new = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        new.write_text(json.dumps({"kind": _KIND, "debt": debt, "at": time.time()}))
        new.replace(self.path)
        self._noted = debt
