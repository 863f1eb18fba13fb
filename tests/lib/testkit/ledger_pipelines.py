"""Runs of pipelines with a ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from trio_turnstile import Aborted, Many, Pipeline, PipelineReport, open_ledger, read_ledger
from trio_turnstile.testing import assert_conserved


async def run(pipeline: Pipeline, path: Path, **options: Any) -> PipelineReport:
    """Run a pipeline with a ledger, and check its books."""
    async with open_ledger(path) as ledger:
        report = await pipeline.run(ledger=ledger, **options)
    assert_conserved(report)
    return report


async def aborted(pipeline: Pipeline, path: Path, **options: Any) -> Aborted:
    """Run a pipeline that will be aborted, and check its books."""
    with pytest.raises(Aborted) as caught:
        await run(pipeline, path, **options)
    assert_conserved(caught.value.report)
    return caught.value


def outcomes(path: Path) -> dict[str, str | None]:
    """Return the outcome of each item in the ledger."""
    with read_ledger(path) as entries:
        return {entry.identity: entry.outcome for entry in entries}


class Store:
    """A step that keeps the items that it was called with, and fails for some of them."""

    def __init__(self, *bad: str) -> None:
        self.items: list[Any] = []
        self.bad = set(bad)

    async def __call__(self, item: Any) -> None:
        await trio.lowlevel.checkpoint()
        self.items.append(item)
        if item in self.bad:
            raise ValueError(item)


async def split(item: str) -> Many[str]:
    """Split an item into parts: 'ab' becomes 'ab.0' and 'ab.1'."""
    await trio.lowlevel.checkpoint()
    return Many(f"{item}.{index}" for index in range(len(item)))
