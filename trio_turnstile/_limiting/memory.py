"""`LimitMemory`: the limits that policies have found, kept in a file from one run to the next.

A limit that was right yesterday is only a hint today, because the service may have changed. So a
policy checks it: `KneeLimit` starts at half of it, and goes up as fast as throughput follows.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import trio

from trio_turnstile._texts import shown_error
from trio_turnstile._util import check_seconds

from .limiter import Limiter
from .turnstile import Turnstile

_LOG = logging.getLogger("trio_turnstile.limiter")

_NOT_FOUND = frozenset({"initial", "hint", "the policy failed"})
"""The reasons that a policy gives for a limit that it has not found itself."""


@final
class LimitMemory:
    """Remembers the limits that adaptive policies find.

    Make the limiters with the hints of the last run, and let the memory watch the turnstile::

        memory = LimitMemory("limits.json")
        async with open_turnstile() as turnstile:
            turnstile.watch(memory.watch)
            policy = KneeLimit(hint=memory.hint("api"))
            api = turnstile.limiter("api", 200, policy=policy)

    It writes the file every ``every`` seconds, in a thread, and when the turnstile is closed. If
    that fails, it is logged, and the run goes on. Limits of other names stay in the file.

    Args:
      path: the file. If it does not exist, nothing is remembered yet.
      every: the seconds between two writes.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if the file holds something else.
    """

    def __init__(self, path: str | os.PathLike[str], *, every: float = 60.0) -> None:
        check_seconds("every", every, positive=True)
        self._path = Path(path)
        self._every = every
        self._limits = _read(self._path)

    def hint(self, name: str) -> float | None:
        """Return the limit that was found for the limiter of this name, or ``None``."""
        return self._limits.get(name)

    async def watch(self, turnstile: Turnstile) -> None:
        """Write what the policies of a turnstile find, until it closes; see `Turnstile.watch`."""
        try:
            while True:
                await trio.sleep(self._every)
                self._note(turnstile.limiters)
                await trio.to_thread.run_sync(self._write)
        finally:
            self._note(turnstile.limiters)
            self._write()  # a small file: writing it takes less time than starting a thread

    def _note(self, limiters: Mapping[str, Limiter]) -> None:
        for name, limiter in limiters.items():
            bound = limiter.statistics().bounds.get("policy")
            if bound is not None and bound.why.get("reason") not in _NOT_FOUND:
                self._limits[name] = bound.tokens

    def _write(self) -> None:
        finite = {name: tokens for name, tokens in self._limits.items() if tokens < math.inf}
        text = json.dumps({"limits": finite}, indent=1)
        new = self._path.with_name(f"{self._path.name}.new")
        try:
            new.write_text(text, encoding="utf-8")
            new.replace(self._path)
        except OSError as error:
            _LOG.warning("the limits cannot be kept in %s: %s", self._path, shown_error(error))


def _read(path: Path) -> dict[str, float]:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return {}
    try:
        limits: Any = json.loads(text)["limits"]
        return {str(name): _whole(tokens) for name, tokens in limits.items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} holds no limits ({shown_error(error)}): name another file, or remove it"
        ) from None


def _whole(tokens: object) -> float:
    if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1:
        raise ValueError(f"{tokens!r} is not a limit")
    return tokens
