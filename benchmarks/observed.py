"""What it costs a pipeline to be observed by everything at once, in processor time.

Each run with everything on takes a few seconds. It comes between two runs with everything off, and
is compared with their mean, because the machine's speed drifts. *On* means that statistics go to
SQLite every ten seconds, Prometheus and OpenTelemetry each collect metrics every five seconds, and
twenty clients, in a process of their own, listen to the control API as the page does.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time

import trio

from trio_turnstile import Consumer, Processor, Producer, Turnstile, open_turnstile

from ._harness import Benchmark, Figure, Goal, Result

ITEMS, CLIENTS, ASKED_EVERY = 300_000, 20, 5.0

_LISTEN = """
import selectors, socket, sys
waiting = selectors.DefaultSelector()
for _ in range(int(sys.argv[2])):
    client = socket.socket(socket.AF_UNIX)
    client.connect(sys.argv[1])
    client.sendall(b"GET /api/v1/events HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    waiting.register(client, selectors.EVENT_READ)
while waiting.get_map():
    for key, _ in waiting.select():
        if not key.fileobj.recv(65536):
            waiting.unregister(key.fileobj)
"""


def measure(rounds: int) -> Result:
    """Take the median of the rounds' ratios."""
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        trio.run(_cost, True, Path(folder))  # this run does all late imports
        for _ in range(rounds):
            before, on, after = (
                trio.run(_cost, each, Path(folder)) for each in (False, True, False)
            )
            ratios.append(on / ((before + after) / 2))
    spread = min(ratios), max(ratios)
    what = "a no-op pipeline, observed by everything / by nobody"
    return Result([Figure(what, "x", median(ratios), spread, Goal(1.05))])


async def _cost(observed: bool, folder: Path) -> float:
    async with AsyncExitStack() as stack:
        turnstile = await stack.enter_async_context(open_turnstile())
        limiter = turnstile.limiter("work", 10)
        if observed:
            await stack.enter_async_context(_observed(turnstile, folder))
        start = process_time()
        await (Producer(range(ITEMS)) | Processor(_pass, limiter=limiter) | Consumer(_drop)).run()
        return process_time() - start


@asynccontextmanager
async def _observed(turnstile: Turnstile, folder: Path) -> AsyncIterator[None]:
    from trio_turnstile.integrations.control import serve_control
    from trio_turnstile.integrations.statistics import record_statistics

    socket = folder / "socket"
    async with (
        record_statistics(turnstile, f"sqlite:///{folder}/turnstile.db"),
        trio.open_nursery() as nursery,
    ):
        await nursery.start(partial(serve_control, turnstile, path=socket))
        nursery.start_soon(_ask, turnstile)
        listen = [sys.executable, "-c", _LISTEN, str(socket), str(CLIENTS)]
        await nursery.start(partial(trio.run_process, listen, check=False))
        await trio.sleep(1)  # until all clients have received the present state
        yield
        nursery.cancel_scope.cancel()


async def _ask(turnstile: Turnstile) -> None:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from trio_turnstile.integrations.opentelemetry import observe_metrics
    from trio_turnstile.integrations.prometheus import TurnstileCollector

    reader, collector = InMemoryMetricReader(), TurnstileCollector(turnstile)
    observe_metrics(turnstile, MeterProvider([reader]))
    while True:
        await trio.sleep(ASKED_EVERY)
        await collector.text()
        await trio.to_thread.run_sync(reader.get_metrics_data)


async def _pass(item: int) -> int:
    return item


async def _drop(item: int) -> None:
    pass


BENCHMARKS = (Benchmark("observed", "a pipeline that everything observes", measure),)
