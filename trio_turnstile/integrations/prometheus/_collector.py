"""`TurnstileCollector`: gives the metrics of a turnstile to Prometheus."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import (
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    MutableMapping,
    Sequence,
)
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, final

import trio

from trio_turnstile import Event, RunClosed, Turnstile

from ._durations import Durations
from ._metrics import Numbers, add
from ._reader import Reader, counts_of
from ._text import CONTENT_TYPE, as_metrics, as_text

if TYPE_CHECKING:
    from prometheus_client.core import Metric

T = TypeVar("T")

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

RUNS = 100
"""The counts of this many ended runs are kept."""


@final
class TurnstileCollector:
    """Gives the metrics of a turnstile to Prometheus.

    It can be registered with a registry of ``prometheus_client``::

        REGISTRY.register(TurnstileCollector(turnstile))

    Or serve the result of ``await collector.text()``, or the ASGI application `app`. Make the
    collector in the trio run of the turnstile.

    Args:
      turnstile: the turnstile to read.
      detail: whether to include the cap, the ceiling and the floor of each limiter, and whether
        it is paused, in addition to its limit and the numbers of running and waiting tasks.
      buckets: if given, the durations of calls of steps and phases are counted in buckets with
        these upper bounds, in seconds, for runs that begin from now on. Measuring costs one or
        two microseconds for each call.
      group: returns the name under which a limiter is shown. Limiters with the same name are
        added up, for example all limiters that are made for one customer each.

    Raises:
      ValueError: if the buckets are not in ascending order.
      trio.ClosedResourceError: if the turnstile has been closed.
    """

    def __init__(
        self,
        turnstile: Turnstile,
        *,
        detail: bool = False,
        buckets: Sequence[float] = (),
        group: Callable[[str], str] = str,
    ) -> None:
        self._reader = Reader(turnstile, group, detail)
        self._trio = trio.lowlevel.current_trio_token()
        self._past: dict[str, Numbers] = {}
        """The counts of ended runs, by name; the next run of a name continues its counts."""
        self._durations = Durations(buckets)
        turnstile.observe(self._hear)
        if buckets:
            turnstile.observe_durations(self._durations)

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering does not collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, in any thread; after the end of the trio run, the last ones."""
        yield from as_metrics(self._in_trio(self._read))

    async def text(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        numbers = await self._reader.read_in_portions()
        self._add_own(numbers)
        return await trio.to_thread.run_sync(as_text, numbers)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the metrics: an ASGI application, for a server in this trio run or on asyncio.

        A server on asyncio may be in another thread; its event loop does not wait for the trio
        run.
        """
        if scope["type"] != "http":
            return
        if _current_run() is self._trio:
            body = await self.text()
        else:
            body = await asyncio.to_thread(self._text_from_thread)
        headers = [(b"content-type", CONTENT_TYPE.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    # ---- inside ----

    def _hear(self, event: Event) -> None:
        if isinstance(event, RunClosed):
            name = event.run.name
            counts = self._past.pop(name, defaultdict(float))
            add(counts, counts_of(name, event.report))
            self._past[name] = counts
            if len(self._past) > RUNS:
                del self._past[next(iter(self._past))]

    def _in_trio(self, read: Callable[[], T]) -> T:
        """Call a function in the trio run: elsewhere, its data could change while it reads."""
        if _current_run() is self._trio:
            return read()
        try:
            return trio.from_thread.run_sync(read, trio_token=self._trio)
        except trio.RunFinishedError:
            return read()

    def _text_from_thread(self) -> bytes:
        return trio.from_thread.run(self.text, trio_token=self._trio)

    def _read(self) -> Numbers:
        numbers = self._reader.read()
        self._add_own(numbers)
        return numbers

    def _add_own(self, numbers: Numbers) -> None:
        for counts in self._past.values():
            add(numbers, counts)
        self._durations.add_to(numbers)


async def metrics_text(turnstile: Turnstile, *, detail: bool = False) -> bytes:
    """Return the current metrics of a turnstile, in Prometheus' text format.

    They do not include ended runs. A `TurnstileCollector` that you make once remembers these.

    Args:
      turnstile: the turnstile to read.
      detail: as for `TurnstileCollector`.

    """
    numbers = await Reader(turnstile, str, detail).read_in_portions()
    return await trio.to_thread.run_sync(as_text, numbers)


def _current_run() -> trio.lowlevel.TrioToken | None:
    """Return the trio run of this thread, if there is one."""
    try:
        return trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None
