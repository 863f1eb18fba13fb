"""What comes out of a pipeline without a consumer: `Results`, and how it gets there."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, final

import trio

from trio_turnstile._engine.counts import Fate
from trio_turnstile._engine.tracing import Tracer, untraced
from trio_turnstile._errors import ConcurrentError
from trio_turnstile._limiting.live_run import RunKind, RunStage

from .reports import PipelineReport, StepReport
from .run import PipelineRun

T_co = TypeVar("T_co", covariant=True)


@final
class ChannelOutlet:
    """Puts what comes out of a pipeline without a consumer into a memory channel."""

    def __init__(self, channel: trio.MemorySendChannel[Any], tracer: Tracer) -> None:
        self._channel = channel
        self._tracer = tracer
        self.put = self._put_traced if tracer.is_used else channel.send

    def put_nowait(self, item: Any) -> bool:
        return False

    async def _put_traced(self, item: Any) -> None:
        await self._channel.send(untraced(item))
        self._tracer.end(item, Fate.COMPLETED)

    async def wait_for_room(self) -> None:
        """Do nothing: a channel cannot say whether it has room."""

    def close(self) -> None:
        self._channel.close()


@final
class Results(Generic[T_co]):
    """What comes out of a pipeline without a consumer; made by `Producer.open`."""

    def __init__(self, run: PipelineRun, channel: trio.MemoryReceiveChannel[T_co]) -> None:
        self._run = run
        self._channel = channel

    def __aiter__(self) -> Results[T_co]:
        return self

    async def __anext__(self) -> T_co:
        return await self._channel.__anext__()

    @property
    def name(self) -> str:
        """The name of the run; a turnstile may have added a number to make it unique."""
        return self._run.name

    @property
    def id(self) -> str:
        """A random UUID, in hex, that identifies the run."""
        return self._run.id

    @property
    def kind(self) -> RunKind:
        """``"pipeline"``."""
        return self._run.kind

    @property
    def started(self) -> float:
        """When it was started, on trio's clock, in seconds."""
        return self._run.started

    @property
    def state(self) -> RunStage:
        """How far it has come: ``"running"``, ``"draining"``, ``"cancelling"`` or ``"ended"``.

        It is draining if it was told to stop, or stops because of an error, and is finishing
        what is in hand.
        """
        return self._run.state

    @property
    def total(self) -> int | None:
        """How many items its source has; ``None`` if that is not known, as for a generator."""
        return self._run.total

    @property
    def steps(self) -> tuple[StepReport, ...]:
        """The report of each step, at this moment."""
        return self._run.steps

    @property
    def stopped_by(self) -> ConcurrentError | None:
        """The error that ends the run early; ``None`` while none does."""
        return self._run.stopped_by

    async def wait_stopping(self) -> None:
        """Wait until the run was told to stop, by whatever means, or has ended."""
        await self._run.wait_stopping()

    def report(self) -> PipelineReport:
        """Return a report of the run so far."""
        return self._run.report()

    def drain(self, deadline: float | None = None) -> None:
        """Receive nothing more from the source, and let what is in hand come out.

        Args:
          deadline: when to cancel what is still in hand, on trio's clock
            (``trio.current_time() + seconds``); ``None`` for never.
        """
        self._run.drain(deadline)

    def cancel(self) -> None:
        """End the run now. What is in hand is cancelled and accounted for."""
        self._run.cancel()
