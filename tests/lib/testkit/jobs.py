"""Jobs of clusters, for tests on real clusters and on simulated ones."""

from __future__ import annotations

import trio

from trio_turnstile.clusters import Cluster, JobResult, JobSpec


async def all_ends(cluster: Cluster, specs: list[JobSpec]) -> list[JobResult]:
    """Submit all jobs at once, wait for them, and return their results."""
    results: dict[int, JobResult] = {}

    async def one(index: int, spec: JobSpec) -> None:
        results[index] = await (await cluster.submit(spec)).wait()

    async with trio.open_nursery() as nursery:
        for index, spec in enumerate(specs):
            nursery.start_soon(one, index, spec)
    return [results[index] for index in range(len(specs))]
