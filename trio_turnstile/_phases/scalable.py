"""`Scalable`: an operation in four phases, and what a phase is given."""

from __future__ import annotations

from typing import Literal, TypeAlias, final

import attrs
import trio

from trio_turnstile._errors import ConcurrentError
from trio_turnstile._util import seconds

Phase: TypeAlias = Literal["prepare", "work", "monitor", "cleanup"]
"""The name of a phase."""


@final
@attrs.frozen
class Channels:
    """The channels on which a phase may report to the manager. Sending never waits for long.

    The runner reports the outcome of every operation by itself. A phase may send
    errors worth noting that do not fail its operation. With ``counting="phases"``, the
    phases send all the counts.
    """

    working: trio.MemorySendChannel[int]
    """``+1`` when something starts, ``-1`` when it ends."""
    completed: trio.MemorySendChannel[int]
    """How many more have completed."""
    failed: trio.MemorySendChannel[int]
    """How many more have failed."""
    errors: trio.MemorySendChannel[ConcurrentError]
    """What went wrong."""


class Scalable:
    """An operation in four phases. Override what you need; the rest do nothing."""

    @property
    def identifiers(self) -> tuple[str, ...]:
        """What the operation calls itself in errors, outermost first."""
        return ()

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
    error policies judge like any other error. For clean-up, see ``cleanup_grace``.
    """

    prepare: float | None = attrs.field(default=None, validator=_TIMEOUT)
    """Seconds for `Scalable.prepare`."""
    work: float | None = attrs.field(default=None, validator=_TIMEOUT)
    """Seconds for `Scalable.work`."""
    monitor: float | None = attrs.field(default=None, validator=_TIMEOUT)
    """Seconds for `Scalable.monitor`."""
