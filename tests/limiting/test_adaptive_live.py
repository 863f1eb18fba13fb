"""A real service, a real client: the limit follows the capacity, down and up.

This is the one test that takes real time, because nothing in it is simulated: an HTTP server
on the loopback interface with a pool of workers, a pipeline that calls it through an HTTP client,
and a limiter that adapts. The test checks broad facts and waits for them, so on a slow machine
it is slow, but does not fail.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import repeat

import httpx2
import pytest
import trio

from trio_turnstile import (
    Consumer,
    Limiter,
    PipelineReport,
    PipelineRun,
    Processor,
    Producer,
    Reason,
    open_turnstile,
)
from trio_turnstile.limits import KneeLimit
from trio_turnstile.testing import assert_conserved

MANY, FEW, BETWEEN = 20, 4, 10
"""The capacity before and after a change, and a limit that is right for neither."""

SERVICE_TIME = 0.1
"""Seconds that a worker spends on a call: much more than the machine needs for one."""

PATIENCE = 60.0
"""After so many seconds, a limit that should move counts as one that never will."""


class Service:
    """An HTTP server with a pool of workers that can be resized."""

    def __init__(self, workers: int) -> None:
        self.workers = trio.CapacityLimiter(workers)
        self.answered = 0

    async def serve(self, task_status: trio.TaskStatus[str]) -> None:
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(
                partial(trio.serve_tcp, self._converse, 0, host="127.0.0.1")
            )
            port = listener.socket.getsockname()[1]
            task_status.started(f"http://127.0.0.1:{port}/")

    async def _converse(self, stream: trio.SocketStream) -> None:
        request = b""
        async for data in stream:
            request += data
            if request.endswith(b"\r\n\r\n"):
                request = b""
                async with self.workers:
                    await trio.sleep(SERVICE_TIME)
                self.answered += 1
                await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


async def drive(service: Service, follow: Callable[[Limiter], Awaitable[None]]) -> PipelineReport:
    """Call the service at the adaptive limit for as long as ``follow`` runs."""
    async with trio.open_nursery() as nursery, open_turnstile() as turnstile:
        url = await nursery.start(service.serve)
        api = turnstile.limiter("api", 200, policy=KneeLimit(FEW))
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(limits=limits, timeout=None) as client:

            async def fetch(url: str) -> int:
                return (await client.get(url)).status_code

            async def check(status: int) -> None:
                assert status == 200

            pipeline = Producer(repeat(url)) | Processor(fetch, limiter=api) | Consumer(check)
            async with trio.open_nursery() as running:
                flow: PipelineRun = await running.start(pipeline.run)
                await follow(api)
                flow.drain()
        nursery.cancel_scope.cancel()
    return flow.report()


async def until(holds: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE):
        while not holds():
            await trio.sleep(0.05)


@pytest.mark.slow
async def test_the_limit_follows_the_capacity_of_a_real_server() -> None:
    """The limit rises from a low start, falls when most workers go, and rises when they return."""
    service = Service(MANY)

    async def follow(api: Limiter) -> None:
        await until(lambda: api.total_tokens > BETWEEN)
        service.workers.total_tokens = FEW
        await until(lambda: api.total_tokens < BETWEEN)
        service.workers.total_tokens = MANY
        await until(lambda: api.total_tokens > BETWEEN)
        assert {decision.reason for decision in api.decisions} == {Reason.POLICY}

    report = await drive(service, follow)
    assert_conserved(report)
    assert report.steps[-1].completed == service.answered > 0


def draw(path: str) -> None:
    """Draw such a run, for the documentation: ``python tests/test_adaptive_live.py FILE``."""
    service = Service(MANY)
    times: list[float] = []
    workers: list[float] = []
    limits: list[float] = []

    async def follow(api: Limiter) -> None:
        began = trio.current_time()
        for capacity in (MANY, FEW, MANY):
            service.workers.total_tokens = capacity
            for _ in range(200):
                times.append(trio.current_time() - began)
                workers.append(capacity)
                limits.append(api.total_tokens)
                await trio.sleep(0.05)

    trio.run(drive, service, follow)

    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.8), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(times, workers, step="post", color="0.85", label="workers of the server")
    axes.step(times, limits, where="post", linewidth=1, label="limit")
    axes.set_xlim(0, times[-1])
    axes.set_ylim(0, 2.5 * MANY)
    axes.set_xlabel("seconds")
    axes.legend()
    figure.savefig(path)


if __name__ == "__main__":
    draw(sys.argv[1])
