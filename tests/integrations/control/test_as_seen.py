"""A program that ends its runs in a different way than the runs themselves do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from testkit.control import program
from trio_turnstile import LiveRun, RunStage, Scalable, run_phases


class Slow(Scalable):
    async def work(self, channels: object) -> None:
        await trio.sleep_forever()


@attrs.define
class Stand:
    """A stand-in for a run: the program ends it, and knows how much there is to do."""

    run: LiveRun
    state: RunStage = "running"
    total: int = 1000

    def __getattr__(self, name: str) -> Any:
        return getattr(self.run, name)

    def drain(self, deadline: float | None = None) -> None:
        self.state = "draining"

    def cancel(self) -> None:
        self.state = "cancelling"


@pytest.fixture
def as_seen() -> Callable[[LiveRun], Any]:
    stands: dict[LiveRun, Stand] = {}
    return lambda run: stands.setdefault(run, Stand(run))


async def test_what_is_seen_and_ended_in_the_place_of_a_run(
    tmp_path: Path, as_seen: Callable[[LiveRun], Any]
) -> None:
    """State, length and end come from the stand-in, and the counts from the run."""
    async with program(tmp_path, as_seen=as_seen) as running:
        work = running.turnstile.limiters["work"]
        manager = await running.nursery.start(
            partial(run_phases, [Slow(), Slow()], limiter=work, name="night")
        )
        run = await running.owner.get("/runs/night")
        assert (run["state"], run["total"]) == ("running", 1000)
        answer = await running.owner.post("/runs/night/drain", {"seconds": 0.01})
        assert answer["state"] == "draining"
        answer = await running.owner.post("/runs/night/cancel")
        assert answer["state"] == "cancelling"
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert (manager.state, manager.working) == ("running", 2)
        assert (await running.owner.get("/runs"))[0]["steps"][0]["in_flight"] == 2
