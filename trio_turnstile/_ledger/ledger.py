"""`Ledger`: what a run has done, on disk, so that it can be killed and go on.

Give one to `run_phases`. Each operation is known by its identity. The next run with the same ledger
skips operations that have ended. It first cleans up after interrupted ones, and then does them
again or goes on where they were.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._engine.counts import Fate
from trio_turnstile._engine.recording import Beginning, Recorder
from trio_turnstile._limiting.instant import now
from trio_turnstile._limiting.observers import Observation
from trio_turnstile._limiting.override import Override
from trio_turnstile._limiting.turnstile import Turnstile

from .opening import Fingerprint, OpenFile, Synchronous, open_file
from .overrides import OverrideKeeper, read
from .reading import LedgerEntry, open_entries
from .store import Store
from .writer import Writer

_SETTINGS = ("off", "normal", "full", "extra")


@final
@attrs.frozen(eq=False)
class Ledger:
    """What runs have done, on disk; made by `open_ledger`."""

    path: Path
    """The file."""
    run: str
    """The name of the run in the file; empty if none was given."""
    _store: Store
    _writer: Writer

    async def interrupted(self) -> tuple[LedgerEntry, ...]:
        """Return the operations that a killed run has left open, oldest first.

        Give them to the next run first, so that it cleans up after them before it does anything
        else. An operation that is not given to any run stays interrupted.
        """
        return await self._writer.do(self._interrupted)

    def _interrupted(self) -> tuple[LedgerEntry, ...]:
        store = self._store
        return tuple(open_entries(store.connection, store.run, but_of=store.live))

    async def leave(self, identities: Iterable[str]) -> None:
        """Note operations that will not begin now, so that `read_ledger` can name them.

        What the ledger knows of an operation already stays as it is. The next run begins the
        operations that were left.

        Args:
          identities: the identities of the operations.
        """
        await self._writer.do(partial(self._store.leave, tuple(identities)))

    async def overrides(self) -> Mapping[str, Override]:
        """Return the overrides that were set with `Turnstile.ask`, by the names of the limiters.

        It has the overrides that `keep_overrides` has noted, and that have not ended.
        """
        store, instant = self._store, now()
        return await self._writer.do(partial(read, store.connection, store.run, instant))

    async def keep_overrides(self, turnstile: Turnstile) -> Observation:
        """Set the overrides of earlier runs again, and from now on note those that are set.

        So a limit that somebody has set with `Turnstile.ask` stays in force even if the process
        is killed and started again, until somebody releases it or its time is over. An override
        is noted some milliseconds after it was set.

        Args:
          turnstile: the turnstile, whose limiters are known by their names. A limiter that is
            not there yet gets its override when it joins.

        Returns:
          An `Observation`, whose ``close()`` ends the noting. It need not be closed.
        """
        kept = await self.overrides()
        turnstile.restore(kept)
        return turnstile.observe(OverrideKeeper(turnstile, self._store, self._writer, kept))

    @asynccontextmanager
    @enable_ki_protection
    async def recording(self) -> AsyncIterator[Recorder]:
        """Open a recorder for one run; `run_phases` does."""
        session = await self._writer.do(self._store.begin_session)
        try:
            yield _Recorder(self._store, self._writer, session)
        finally:
            self._writer.post(partial(self._store.end_session, session))


@final
@attrs.frozen(eq=False)
class _Recorder:
    """Notes what becomes of the operations of one run."""

    _store: Store
    _writer: Writer
    _session: int

    async def begin(
        self, identities: Sequence[str], phase: str, done: frozenset[Fate]
    ) -> list[Beginning]:
        begin = partial(self._store.begin, self._session, phase=phase, done=done)
        return await self._writer.do(lambda: [begin(identity) for identity in identities])

    async def is_done(self, identity: str, done: frozenset[Fate]) -> bool:
        return await self._writer.do(partial(self._store.is_done, self._session, identity, done))

    def note(self, number: int, phase: str, attempt: int, outcome: Fate | None = None) -> None:
        # An outcome at once: until it is on disk, a kill would make the next run do it again.
        note = partial(self._store.note, number, phase, attempt, outcome)
        self._writer.post(note, at_once=outcome is not None)

    async def remember(self, number: int, facts: Mapping[str, str]) -> None:
        await self._writer.do(partial(self._store.remember, number, facts))

    async def forget(self, number: int) -> None:
        await self._writer.do(partial(self._store.forget, number))

    async def end(self, number: int, outcome: Fate, error: str | None) -> None:
        await self._writer.do(partial(self._store.end, number, outcome, error))

    def note_end(self, number: int, outcome: Fate, error: str | None) -> None:
        self._writer.post(partial(self._store.end, number, outcome, error))

    async def flush(self) -> None:
        await self._writer.do(lambda: None)


@asynccontextmanager
@enable_ki_protection
async def open_ledger(
    path: str | os.PathLike[str],
    *,
    run: str | None = None,
    fingerprint: Fingerprint | str | None = None,
    synchronous: Synchronous = "normal",
    accept_changes: bool = False,
    fresh: bool = False,
) -> AsyncIterator[Ledger]:
    """Open the ledger of a run, and make it if there is none.

    It is an SQLite file. A thread writes it, so the event loop never waits for the disk. Beside
    it are the files of SQLite, and a file ``PATH-lock`` that stays empty.

    Args:
      path: the file. It should be on a local disk, because the processes that use an SQLite file
        share memory.
      run: names the run, if the file keeps several.
      fingerprint: what must not change between runs: texts by name, such as the commands and
        the version of the data; or one text. By default anything may change.
      synchronous: what a power cut may destroy. With ``"full"`` and ``"extra"``, every commit
        waits for the disk, and nothing that was noted is lost. With ``"normal"``, the last commits
        may be lost, and with ``"off"``, the file may be damaged. If only the process is killed,
        none of the settings loses anything that was noted. See `PRAGMA synchronous
        <https://www.sqlite.org/pragma.html#pragma_synchronous>`__.
      accept_changes: whether to go on even if the fingerprint has changed.
      fresh: whether to forget what the run has done before, and its fingerprint.

    Raises:
      LedgerError: if the file is not a ledger, is damaged, is in use by another process, or
        cannot be opened; or if the fingerprint has changed, with the ``differences``. The
        file is left as it was.
      TypeError, ValueError: for arguments of a wrong type or value.

    Cancellation:
      Leaving the block waits until everything is on disk, shielded from cancellation.
    """
    if not isinstance(run, str | None):
        raise TypeError(f"run must be a name, not {run!r}")
    if synchronous not in _SETTINGS:
        raise ValueError(f"synchronous must be one of {', '.join(_SETTINGS)}, not {synchronous!r}")
    where, name = Path(path), run or ""
    file = await trio.to_thread.run_sync(
        partial(
            open_file,
            where,
            name,
            _as_mapping(fingerprint),
            synchronous=synchronous,
            accept_changes=accept_changes,
            fresh=fresh,
        )
    )
    with ExitStack() as stack:
        stack.callback(file.close)
        writer = Writer(file.store.connection, where)
        stack.pop_all()
    try:
        yield Ledger(where, name, file.store, writer)
    finally:
        writer.stop()
        await _close(writer, file)


async def _close(writer: Writer, file: OpenFile) -> None:
    with ExitStack() as stack:
        stack.callback(file.close)
        stack.callback(writer.join)
        last = stack.pop_all()
    # In a thread, which Ctrl-C does not reach. It is not one of the default limiter's threads:
    # the tasks that use all of those may be waiting for this one.
    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(last.close, limiter=trio.CapacityLimiter(1))


def _as_mapping(fingerprint: Fingerprint | str | None) -> Fingerprint:
    if fingerprint is None:
        return {}
    if isinstance(fingerprint, str):
        return {"fingerprint": fingerprint}
    texts: dict[Any, Any] = dict(fingerprint)
    for name, text in texts.items():
        if not (isinstance(name, str) and isinstance(text, str)):
            raise TypeError(
                f"fingerprint must be a text, or texts by name; {name!r} is {text!r}: give a str"
            )
    return texts
