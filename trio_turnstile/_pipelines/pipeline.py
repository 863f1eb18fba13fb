"""Pipelines: `Producer` | `Processor` | `Consumer`, typed from end to end.

These are frozen values. A pipeline says what to do, and each `Pipeline.run` makes a
`PipelineRun` of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar, final, overload

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._engine.read_ahead import merge_sources, read_pages
from trio_turnstile._engine.recording import RunLedger
from trio_turnstile._engine.source import RunSource
from trio_turnstile._engine.sources import AnySource, TracedSource, open_source
from trio_turnstile._engine.tracing import OnSettled, Settled
from trio_turnstile._util import hold

from .opening import Opening, OpenSource
from .processors import Consumer, Processor
from .reports import PipelineReport
from .results import ChannelOutlet, Results
from .run import PipelineRun, run_steps
from .steps import Step

T = TypeVar("T")
U = TypeVar("U")
V = TypeVar("V")
C = TypeVar("C")
T_co = TypeVar("T_co", covariant=True)

SourceOf: TypeAlias = (
    AnySource[T] | Callable[[], AnySource[T] | AbstractAsyncContextManager[AnySource[T]]]
)
"""What a producer reads: something iterable, or a function that opens it for each run."""


@final
@attrs.frozen(init=False, eq=False)
class Producer(Generic[T_co]):
    """Where the items of a pipeline come from, and the processors joined to it so far.

    Args:
      source: an iterable, an async iterable or a memory receive channel; or a function
        without arguments, which is called for each run and returns one of these, or an
        async context manager that gives one.
      on_settled: a function that is told what became of each item, once everything that was made
        from it has ended: in later steps, as members of batches, as dead letters. It is called
        with a `Settled`, in the event loop, and must not block. It can put that into a channel
        without a bound, for a task that acknowledges the item. If it raises, the run ends soon.
    """

    _open: OpenSource
    _steps: tuple[Step, ...]

    def __init__(
        self,
        source: SourceOf[T_co],
        *,
        on_settled: Callable[[Settled[T_co]], object] | None = None,
    ) -> None:
        async def open_one(opening: Opening) -> RunSource[Any]:
            opened = await _open_any(source, opening)
            return opened if on_settled is None else _traced(opened, opening, on_settled)

        if on_settled is not None and not callable(on_settled):
            raise TypeError(f"on_settled must be a function, not {on_settled!r}")
        object.__setattr__(self, "_open", open_one)
        object.__setattr__(self, "_steps", ())

    @classmethod
    def pages(
        cls,
        fetch_page: Callable[[C], Awaitable[tuple[Iterable[T], C | None]]],
        start: C,
    ) -> Producer[T]:
        """Produce the items of pages, which are fetched one after the other.

        One page is fetched ahead of the items that are being worked on.

        Args:
          fetch_page: an async function that takes a cursor, and returns the items of its
            page and the next cursor, ``None`` after the last page.
          start: the cursor of the first page, which is ``None`` for many services.
        """

        async def open_pages(opening: Opening) -> RunSource[Any]:
            await trio.lowlevel.checkpoint()
            opening.expect(None)
            return read_pages(fetch_page, start)

        return _producer(open_pages, ())

    @classmethod
    def merge(cls, *producers: Producer[T]) -> Producer[T]:
        """Produce the items of several producers, in the order in which they come.

        Raises:
          ValueError: if one of them has processors joined to it: merge first.
        """
        if any(producer._steps for producer in producers):
            raise ValueError("merge takes only producers: join processors to what it returns")

        async def open_all(opening: Opening) -> RunSource[Any]:
            return merge_sources([await producer._open(opening) for producer in producers])  # noqa: ASYNC910 (its caller checkpoints)

        return _producer(open_all, ())

    @overload
    def __or__(self, other: Processor[T_co, U]) -> Producer[U]: ...

    @overload
    def __or__(self, other: Consumer[T_co]) -> Pipeline: ...

    def __or__(self, other: Any) -> Any:
        """Join the next step."""
        if isinstance(other, Processor):
            return _producer(self._open, (*self._steps, *other._steps))
        if isinstance(other, Consumer):
            return Pipeline(self._open, (*self._steps, *other._steps))
        return NotImplemented

    @asynccontextmanager
    @enable_ki_protection
    async def open(
        self, *, max_errors: int = 10_000, name: str | None = None
    ) -> AsyncIterator[Results[T_co]]:
        """Run without a consumer: ``async with producer.open() as results``.

        Iterate over ``results`` to get what comes out. Leaving the block early cancels
        what is in hand. ``results.report()`` works after that, too.

        Args:
          max_errors: how many errors to keep for the report.
          name: the name of the run, ``"pipeline"`` by default; see `Turnstile.runs`.

        Raises:
          Aborted: on leaving the block, if the pipeline was stopped by errors. If the block
            raised as well, perhaps because of that, its error is the context.
        """
        send, receive = trio.open_memory_channel[Any](0)

        async def run(task_status: trio.TaskStatus[PipelineRun]) -> None:  # noqa: ASYNC910 (`run_steps` checkpoints)
            await run_steps(
                self._open,
                self._steps,
                max_errors=max_errors,
                make_outlet=partial(ChannelOutlet, send),
                name=name,
                task_status=task_status,
            )

        async with hold(run) as live:
            with receive:
                try:
                    yield Results(live, receive)
                finally:
                    live.cancel()  # first, or senders would find the channel broken


def _producer(open_source: OpenSource, steps: tuple[Step, ...]) -> Producer[Any]:
    producer = object.__new__(Producer)
    object.__setattr__(producer, "_open", open_source)
    object.__setattr__(producer, "_steps", steps)
    return producer


async def _open_any(source: Any, opening: Opening) -> RunSource[Any]:
    ready = (Iterable, AsyncIterable, AbstractAsyncContextManager)
    if callable(source) and not isinstance(source, ready):
        source = source()
    if isinstance(source, AbstractAsyncContextManager) and not isinstance(
        source, trio.MemoryReceiveChannel
    ):
        source = await opening.enter(source, "the source")
    opening.expect(source)
    return open_source(source)  # noqa: ASYNC910 (its caller checkpoints)


def _traced(source: RunSource[Any], opening: Opening, on_settled: OnSettled) -> RunSource[Any]:
    opening.tracer.use()
    return TracedSource(source, partial(opening.tracer.trace, listener=on_settled))


@final
@attrs.frozen(eq=False)
class Pipeline:
    """A producer, processors and a consumer: ready to run, any number of times."""

    _open: OpenSource
    _steps: tuple[Step, ...]

    async def run(
        self,
        *,
        max_errors: int = 10_000,
        ledger: RunLedger | None = None,
        identity: Callable[[Any], str] | None = None,
        name: str | None = None,
        task_status: trio.TaskStatus[PipelineRun] = trio.TASK_STATUS_IGNORED,
    ) -> PipelineReport:
        """Run until the source has ended and every item has ended.

        Args:
          max_errors: how many errors to keep for the report.
          ledger: where to note what becomes of each item of the source; see `open_ledger`. An
            item is skipped if everything that an earlier run made from it has completed, was
            discarded, or was sent away as a dead letter. All others are done again, so a step
            may do something twice; see `commit_token`.
          identity: a function that returns a text for an item, the same in each run, by which
            the ledger knows the item. Without it, the items must be texts themselves.
          name: the name of the run, ``"pipeline"`` by default; see `Turnstile.runs`.
          task_status: for ``nursery.start``, which returns the `PipelineRun`.

        Returns:
          The report of the run, step by step.

        Raises:
          Aborted: the errors that stopped the pipeline: because the policies said so,
            because the source failed, or because a limiter was closed. If the source
            fails, what is in hand goes through first.

        Cancellation:
          What is in hand is cancelled, counted as such, and listed.
        """
        if identity is not None and ledger is None:
            raise TypeError("identity is for a ledger: give a ledger too, or leave identity out")
        return await run_steps(
            self._open,
            self._steps,
            max_errors=max_errors,
            ledger=ledger,
            identity=identity or _itself,
            name=name,
            task_status=task_status,
        )

    @asynccontextmanager
    @enable_ki_protection
    async def start(
        self,
        *,
        max_errors: int = 10_000,
        ledger: RunLedger | None = None,
        identity: Callable[[Any], str] | None = None,
        name: str | None = None,
    ) -> AsyncIterator[PipelineRun]:
        """Run beside a block: ``async with pipeline.start() as run``.

        Leaving the block waits for the end of the run. If the block raises, the run is
        cancelled, and the exception comes out unchanged. This is also true of
        `KeyboardInterrupt`, which a nursery would wrap in a group.

        Args:
          max_errors: how many errors to keep for the report.
          ledger: as for `run`.
          identity: as for `run`.
          name: as for `run`.

        Raises:
          Aborted: as `run` does; in that case the block is cancelled.
        """

        def run(task_status: trio.TaskStatus[PipelineRun]) -> Awaitable[PipelineReport]:
            return self.run(
                max_errors=max_errors,
                ledger=ledger,
                identity=identity,
                name=name,
                task_status=task_status,
            )

        block = trio.CancelScope()
        async with hold(run, on_abort=block.cancel) as live:
            with block:
                yield live


def _itself(item: Any) -> Any:
    return item
