"""Random runs: from one seed a pipeline or a run of phases, and all that happens to it."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio
from trio.testing import MockClock

from testkit.planned import Fallback, PlannedPipeline, StepPlan, three_keys, weigh
from trio_turnstile import (
    Aborted,
    Batch,
    ConcurrentError,
    Limiter,
    Manager,
    Overloaded,
    PhaseTimeouts,
    PipelineReport,
    PipelineRun,
    Producer,
    Retry,
    Scalable,
    Skip,
    Throttle,
    Turnstile,
    open_turnstile,
    start_phases,
)
from trio_turnstile.testing import assert_conserved

FOREVER = 100_000.0
"""Virtual seconds after which a run hangs."""


def step_plan(dice: random.Random) -> StepPlan:
    """Return a random step."""
    size = dice.choice([1, 2, 5])
    batches = [
        None,
        None,
        None,
        Batch(size, within=dice.choice([None, 0.3])),
        Batch(size, key=three_keys),
        Batch(size, weight=weigh, max_weight=6),
    ]
    batch = dice.choice(batches)
    fallbacks: list[Fallback] = ["skip", "skip", "letter", "abort"]
    return StepPlan(
        limiter=dice.choice(["none", "number", "trio", "own", "shared"]),
        tokens=dice.randint(1, 4),
        window=dice.choice([None, None, 5, 9]),
        order="none" if batch is not None else dice.choice(["none", "all", "key"]),
        batch=batch,
        fails=dice.random() < 0.5,
        retries=dice.randint(0, 2),
        fallback=dice.choice(fallbacks),
    )


class Operation(Scalable):
    """An operation that takes some time in each phase, and may fail in each."""

    def __init__(self, seed: str, cleaned: Counter[int], number: int) -> None:
        self.dice = random.Random(seed)
        self.cleaned = cleaned
        self.number = number

    @property
    def identifiers(self) -> tuple[str, ...]:
        return (str(self.number),)

    async def _do(self, phase: str) -> None:
        if phase == "prepare" and self.number not in self.cleaned:
            self.cleaned[self.number] = 0
        await trio.sleep(self.dice.choice([0, 0, 0.1, 0.5, 2]))
        chance = self.dice.random()
        if chance < 0.05:
            raise Overloaded(self.dice.choice([None, 1, 5, -1]))
        if chance < 0.15:
            raise self.dice.choice([OSError("x"), ConcurrentError("mine"), trio.WouldBlock()])

    async def prepare(self, channels: Any) -> None:
        await self._do("prepare")

    async def work(self, channels: Any) -> None:
        await self._do("work")

    async def monitor(self, channels: Any) -> None:
        await self._do("monitor")

    async def cleanup(self, channels: Any) -> None:
        self.cleaned[self.number] += 1
        await self._do("cleanup")


class Schedule:
    """One random run; `play` plays it and checks what has to hold afterwards."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.dice = random.Random(seed)
        self.limiters: list[Limiter] = []
        self.live: PipelineRun | Manager | None = None
        self.cleaned = Counter[int]()
        self.closed: list[str] = []
        self.planned: PlannedPipeline | None = None

    def play(self) -> str:
        """Play it; return how it ended."""
        aborted: Aborted | None = None
        try:
            ended = trio.run(self._main, clock=MockClock(autojump_threshold=0))
        except KeyboardInterrupt:
            ended = "interrupt"
        except Aborted as error:
            ended, aborted = "aborted", error
        if aborted is not None:
            assert all(isinstance(error, ConcurrentError) for error in aborted.exceptions)
            assert aborted.report.ended
        assert ended != "HANG", self.seed
        self._check()
        return ended

    async def _main(self) -> str:
        with trio.move_on_after(FOREVER):
            async with open_turnstile() as turnstile:
                patience = self.dice.choice([FOREVER, FOREVER, FOREVER, 3.0])
                with trio.move_on_after(patience) as scope:
                    async with self._run(turnstile) as live:
                        self.live = live
                        await self._happen(live)
            return "cancelled" if scope.cancelled_caught else "ended"
        return "HANG"

    def _run(self, turnstile: Turnstile) -> AbstractAsyncContextManager[PipelineRun | Manager]:
        return self._phases(turnstile) if self.dice.random() < 0.4 else self._pipeline(turnstile)

    def _pipeline(self, turnstile: Turnstile) -> AbstractAsyncContextManager[PipelineRun]:
        plans = [step_plan(self.dice) for _ in range(self.dice.randint(1, 4))]
        self.planned = planned = PlannedPipeline(plans, self.seed, self.dice.randint(0, 30))
        for limiter in {id(limiter): limiter for limiter in planned.limiters}.values():
            if isinstance(limiter, Limiter):
                self.limiters.append(turnstile.add(limiter))
                limiter.throttle = Throttle(min=1)  # at 0 a run waits for ever, as it should
        joined: Any = self._source(planned.source)
        for index in range(len(plans)):
            joined = joined | planned.step(index)
        held: AbstractAsyncContextManager[PipelineRun] = joined.start()
        return held

    def _source(self, items: Callable[[], Iterator[Any]]) -> Producer[Any]:
        async def generated() -> AsyncIterator[Any]:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                try:
                    for item in items():
                        await trio.sleep(self.dice.choice([0, 0.2]))
                        yield item
                finally:
                    self.closed.append("generator")
                nursery.cancel_scope.cancel()

        kind = self.dice.choice(["plain", "generator", "merged"])
        if kind == "plain":
            return Producer(items)
        if kind == "generator":
            return Producer(generated)
        return Producer.merge(Producer(generated), Producer([]))

    def _phases(self, turnstile: Turnstile) -> AbstractAsyncContextManager[Manager]:
        count, dice = self.dice.randint(0, 25), self.dice
        limiter = turnstile.limiter("ops", dice.randint(1, 4))
        self.limiters.append(limiter)
        prepare = turnstile.limiter("prepare", 2) if dice.random() < 0.3 else None
        self.limiters += [] if prepare is None else [prepare]
        return start_phases(
            (Operation(f"{self.seed} {n}", self.cleaned, n) for n in range(count)),
            limiter=limiter,
            prepare_limiter=prepare,
            on_error=[Retry(dice.randint(0, 2)), *dice.choice([[Skip()], [Skip(on=OSError)]])],
            timeouts=PhaseTimeouts(work=dice.choice([None, 1])),
            window=dice.choice([None, 3]),
        )

    async def _happen(self, live: PipelineRun | Manager) -> None:
        """Do some of what can be done to a run, at random times."""
        for _ in range(self.dice.randint(0, 6)):
            await trio.sleep(self.dice.choice([0, 0.1, 0.7, 2.5]))
            self._happening(live)

    def _happening(self, live: PipelineRun | Manager) -> None:
        what = self.dice.choice(
            ["up", "down", "assign", "pause", "resume"] * 3
            + ["close", "drain", "deadline", "cancel", "interrupt", "error"]
        )
        limiter = self.dice.choice(self.limiters) if self.limiters else None
        if what == "drain":
            live.drain()
        elif what == "deadline":
            live.drain(trio.current_time() + 1)
        elif what == "cancel":
            live.cancel()
        elif what == "interrupt":
            signal.raise_signal(signal.SIGINT)
        elif limiter is None or limiter.statistics().closed:
            return
        elif what == "assign":
            limiter.total_tokens = self.dice.randint(1, 5)
        elif what == "pause":
            limiter.pause(1.0)
        elif what != "error":
            getattr(limiter, what)()

    def _check(self) -> None:
        for limiter in self.limiters:
            assert limiter.borrowed_tokens == 0, (self.seed, limiter)
        if self.live is None:
            return
        report = self.live.report()
        assert report.ended, self.seed
        assert_conserved(self.live)
        assert set(self.cleaned.values()) <= {1}, (self.seed, self.cleaned)
        if self.planned is not None:
            assert isinstance(report, PipelineReport)
            letters = self.planned.dead.statistics().current_buffer_used
            assert letters == sum(step.diverted for step in report.steps)
