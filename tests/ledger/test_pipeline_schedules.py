"""Random pipelines with a ledger, ended at random moments, lose nothing and repeat nothing."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import trio

from testkit.ledger_pipelines import outcomes
from testkit.soak import name_of, seeds
from trio_turnstile import (
    Abort,
    Aborted,
    Batch,
    ConcurrentError,
    Consumer,
    DeadLetter,
    Many,
    Processor,
    Producer,
    Settled,
    Skip,
    commit_token,
    commit_tokens,
    open_ledger,
)
from trio_turnstile.testing import assert_conserved

WELL = ("completed", "diverted", "skipped")


class Schedule:
    """Runs of one pipeline with one ledger; the seed determines all but the order of tasks."""

    def __init__(self, seed: int, path: Path) -> None:
        self.draw = random.Random(seed)
        self.path = path
        self.items = [f"item#{number}" for number in range(self.draw.randrange(1, 60))]
        self.settled: dict[str, str] = {}
        """The last outcome of each item, as it was reported."""
        self.rows: dict[str, tuple[str, int]] = {}
        """What a sink that keeps marks has stored, by token."""
        self.stop_in = 0
        self.calls = 0

    async def split(self, item: str) -> Many[tuple[str, int]]:
        await self.event()
        assert self.settled.get(item) not in WELL, f"{item} was settled, and is done again"
        assert commit_token() == item.replace("#", "##")
        return Many((item, index) for index in range(len(item) % 3))

    async def change(self, part: tuple[str, int]) -> tuple[str, int]:
        await self.event()
        return part

    async def store(self, part: tuple[str, int]) -> None:
        self.keep(commit_token(), part)
        await self.event()

    async def store_batch(self, parts: list[tuple[str, int]]) -> None:
        for token, part in zip(commit_tokens(), parts, strict=True):
            self.keep(token, part)
        await self.event()

    def keep(self, token: str, part: tuple[str, int]) -> None:
        assert self.rows.setdefault(token, part) == part, "two parts have the same token"

    async def event(self) -> None:
        """Sleep a little, fail, or end the run."""
        await trio.sleep(self.draw.choice([0, 0, 0, 0.001]))
        self.calls += 1
        if self.calls == self.stop_in:
            self.draw.choice([self.live.drain, self.live.cancel])()
            await trio.lowlevel.checkpoint()
        if self.stop_in and self.draw.random() < 0.1:
            raise self.draw.choice([ValueError, OSError, LookupError])("by chance")

    async def keep_letter(self, letter: ConcurrentError) -> None:
        await trio.lowlevel.checkpoint()

    def policies(self) -> list[Any]:
        last = self.draw.choice([Abort(), Skip(), Skip()])
        return [DeadLetter(self.keep_letter, on=LookupError), last]

    def options(self) -> dict[str, Any]:
        return self.draw.choice(
            [{}, {"limiter": 2}, {"ordered": True}, {"key": str}, {"window": 3}]
        )

    def pipeline(self) -> Any:
        middle = [
            Processor(self.change, on_error=self.policies(), **self.options())
            for _ in range(self.draw.randrange(3))
        ]
        consumer: Any = Consumer(self.store, on_error=self.policies(), **self.options())
        if self.draw.random() < 0.5:
            consumer = Consumer(
                self.store_batch, on_error=self.policies(), batch=Batch(3, within=0.01)
            )
        producer: Any = self.producer()
        for step in [Processor(self.split, on_error=self.policies(), **self.options()), *middle]:
            producer = producer | step
        return producer | consumer

    def producer(self) -> Producer[str]:
        items = self.draw.sample(self.items, len(self.items))
        half = len(items) // 2

        async def generated() -> Any:
            for item in items[:half]:
                await trio.lowlevel.checkpoint()
                yield item

        async def fetch_page(at: int) -> tuple[list[str], int | None]:
            await trio.lowlevel.checkpoint()
            return items[at : at + 7], at + 7 if at + 7 < len(items) else None

        if self.draw.random() < 0.3:
            return Producer(items, on_settled=self.tell)
        if self.draw.random() < 0.5:
            return Producer.pages(fetch_page, 0)
        return Producer.merge(
            Producer(generated, on_settled=self.tell), Producer(items[half:], on_settled=self.tell)
        )

    def tell(self, settled: Settled[str]) -> None:
        outcome = settled.outcome
        if outcome == "skipped":
            assert self.settled[settled.item] in WELL
        else:
            self.run_told[settled.item] = outcome
            self.settled[settled.item] = outcome

    async def run(self, stop_in: int) -> None:
        """Run until the end or until some calls were made, and compare all accounts."""
        self.stop_in, self.calls = stop_in, 0
        self.run_told: dict[str, str] = {}
        pipeline = self.pipeline()
        try:
            async with open_ledger(self.path) as ledger, pipeline.start(ledger=ledger) as self.live:
                pass
        except Aborted as error:
            for each in error.exceptions:
                assert type(each.__cause__) in (ValueError, OSError, LookupError)
        assert_conserved(self.live)
        known = outcomes(self.path)
        assert None not in known.values()
        for item, outcome in self.run_told.items():
            # Items read ahead may be cut off before the ledger is asked.
            assert outcome in ("cancelled", known.get(item))
        self.settled = {item: str(outcome) for item, outcome in known.items()}


@pytest.mark.parametrize("part", seeds(12, part=6), ids=name_of)
async def test_any_pipeline_goes_on(part: range, tmp_path: Path) -> None:
    """A completed item is never done again, all accounts agree, and in the end all is done."""
    for seed in part:
        schedule = Schedule(seed, tmp_path / str(seed))
        for _ in range(schedule.draw.randrange(1, 6)):
            await schedule.run(schedule.draw.randrange(1, 40))
        await schedule.run(0)
        assert schedule.settled.keys() == set(schedule.items)
        assert set(schedule.settled.values()) <= set(WELL)
        completed = [item for item, fate in schedule.settled.items() if fate == "completed"]
        stored = set(schedule.rows.values())
        assert stored >= {(item, n) for item in completed for n in range(len(item) % 3)}
