"""`Scalable`: an operation in four phases, and what a phase gets."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, TypeAlias, final

import attrs
import trio

from trio_turnstile._errors import ConcurrentError
from trio_turnstile._util import seconds

Phase: TypeAlias = Literal["prepare", "work", "monitor", "cleanup"]
"""The name of a phase."""

PHASES: tuple[Phase, ...] = ("prepare", "work", "monitor", "cleanup")
"""The phases, in order."""


async def _forget(**facts: object) -> None:
    encode_facts(facts)
    await trio.lowlevel.checkpoint()


def encode_facts(facts: Mapping[str, object]) -> dict[str, str]:
    """Return facts, each as JSON.

    Raises:
      TypeError: for a fact that is not made of texts, numbers, booleans, lists and dicts.
    """
    return {name: _encode(name, value) for name, value in facts.items()}


def _encode(name: str, value: object) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"fact {name!r} is {value!r}, but facts must be values that JSON can hold, such as "
            f"texts, numbers, lists and dicts: {error}"
        ) from None


@final
@attrs.frozen
class Channels:
    """The channels on which a phase may report to the manager. Sending never waits for long.

    The runner reports the outcome of every operation automatically. A phase may send
    errors that are worth noting but do not fail its operation. With ``counting="phases"``,
    the phases send all the counts.
    """

    working: trio.MemorySendChannel[int]
    """``+1`` when something starts, ``-1`` when it ends."""
    completed: trio.MemorySendChannel[int]
    """How many more have completed."""
    failed: trio.MemorySendChannel[int]
    """How many more have failed."""
    errors: trio.MemorySendChannel[ConcurrentError]
    """What went wrong."""
    number: int = 0
    """The number of the operation in the ledger of the run; 0 without a ledger."""
    memory: Callable[..., Awaitable[object]] = attrs.field(default=_forget, repr=False, eq=False)
    """What `remember` calls."""

    async def remember(self, **facts: Any) -> None:
        """Keep facts about the operation in the ledger of the run, such as the number of a job.

        If the process is killed, the next run passes them to `Scalable.recall`. They are
        forgotten before another attempt. Without a ledger, nothing is kept.

        Args:
          **facts: texts, numbers, booleans, None, and lists and dicts of these. A fact replaces
            an earlier one of the same name.

        Raises:
          TypeError: for anything else.
          LedgerError: if the ledger cannot be written.

        Cancellation:
          It returns when the facts are on disk, and cannot be cancelled meanwhile, so a job
          that was submitted is not forgotten.
        """
        await self.memory(**facts)


class Scalable:
    """An operation in four phases. Override what you need; the rest do nothing."""

    @property
    def identifiers(self) -> tuple[str, ...]:
        """What the operation calls itself in errors, outermost first."""
        return ()

    @property
    def identity(self) -> str:
        """The text by which a ledger knows the operation, in this run and in later ones.

        By default its identifiers, joined by slashes.
        """
        return "/".join(map(str, self.identifiers))

    @property
    def goes_on(self) -> bool:
        """Whether work that was submitted elsewhere goes on even if the run is cancelled.

        If so, a run with a ledger leaves the operation as if the run had been killed: it is not
        cleaned up, and the next run recalls it. False by default.
        """
        return False

    def recall(self, facts: Mapping[str, Any]) -> Phase:
        """Return the phase to go on from, after a run that was killed during this operation.

        By default it is ``"prepare"``: the operation is first cleaned up, then done again.
        With any other phase it is not cleaned up first, so that, for example, a job that was
        submitted can be monitored. ``"cleanup"`` only cleans up: the operation has completed.

        Args:
          facts: what its phases passed to `Channels.remember`.
        """
        return "prepare"

    def skipped(self) -> None:
        """Called in place of the phases if the ledger of the run knows the operation already.

        An earlier run has ended it, or its identity came before in this run.
        """

    async def prepare(self, channels: Channels) -> None:
        """Get ready, for example fetch inputs."""

    async def work(self, channels: Channels) -> None:
        """Do the work, or submit it elsewhere, for example as a job on a cluster."""

    async def monitor(self, channels: Channels) -> None:
        """Wait for work that was submitted elsewhere. The operation still holds its token."""

    async def cleanup(self, channels: Channels) -> None:
        """Tidy up. Runs once if `prepare` began, whatever happened, and holds no token."""


_TIMEOUT = seconds(positive=True, optional=True)


@final
@attrs.frozen(kw_only=True)
class PhaseTimeouts:
    """How long each phase may take, in seconds; ``None`` for any time.

    A phase that takes longer is cancelled and fails with `trio.TooSlowError`, which the
    error policies treat like any other error. For clean-up, see ``cleanup_grace``.
    """

    prepare: float | None = attrs.field(default=None, validator=_TIMEOUT)
    """Seconds for `Scalable.prepare`."""
    work: float | None = attrs.field(default=None, validator=_TIMEOUT)
    """Seconds for `Scalable.work`."""
    monitor: float | None = attrs.field(default=None, validator=_TIMEOUT)
    """Seconds for `Scalable.monitor`."""
