"""The two kinds of random schedules: of a pipeline, and of operations in phases."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

import attrs
import trio

from testkit.limits import LimitCheck
from testkit.phases import EachPhase
from testkit.planned import Item, PlannedError, PlannedPipeline, StepPlan, three_keys, weigh
from testkit.schedules import Strike, Trial
from testkit.trial_sources import FOR_PHASES, FOR_PIPELINES
from trio_turnstile import (
    Abort,
    Batch,
    Channels,
    DeadLetter,
    Halt,
    Manager,
    Overloaded,
    PhaseTimeouts,
    PipelineRun,
    Producer,
    Retry,
    Skip,
    Turnstile,
    start_phases,
)

# ---- pipelines ----


class TrialPipeline(PlannedPipeline):
    """A planned pipeline with limiters in a turnstile and a source of any kind."""

    def __init__(self, trial: PipelineTrial, turnstile: Turnstile, plans: list[StepPlan]) -> None:
        self.trial = trial
        self.turnstile = turnstile
        super().__init__(plans, trial.seed, 0)
        self.shared = trial.make_limiter(turnstile, "shared", 2)
        self.limiters = [self.limiter_of(plan) for plan in plans]
        self.sink = trial.divert
        self.checks = {id(check.limiter): check for check in trial.checks.values()}

    def limiter(self, plan: StepPlan) -> Any:
        return None  # the limiters are made once there is a turnstile

    def limiter_of(self, plan: StepPlan) -> Any:
        if plan.limiter == "shared":
            return self.shared
        if plan.limiter == "own":
            return self.trial.make_limiter(self.turnstile, "own", plan.tokens)
        made = super().limiter(plan)
        if isinstance(made, trio.CapacityLimiter):
            self.trial.trio_limiters.append(made)
        return made

    def given(self) -> list[Item]:
        return [item for source in self.trial.sources for item in source.given()]

    def first_items(self) -> list[Item]:
        run = self.trial.run
        # A drained run may cut off items that a source had read ahead; it lists them.
        ahead = set() if run is None else set(run.steps[0].cut_off)
        return [item for item in self.given() if item not in ahead]

    def error(self, step: int, item: Item) -> Exception:
        draw = self.chance(step, item, f"error {self.calls[step, item]}")
        if draw.random() < 0.4:
            return Overloaded(retry_after=draw.choice([None, 0.5, 2, 100]))
        return PlannedError(step, item)

    async def work(self, step: int, item: Item) -> Any:
        self.trial.called()
        return await super().work(step, item)

    async def work_batch(self, step: int, items: list[Item]) -> Any:
        self.trial.called()
        return await super().work_batch(step, items)

    def pipeline(self) -> Any:
        producers = [source.producer(self.turnstile) for source in self.trial.sources]
        joined: Any = producers[0] if len(producers) == 1 else Producer.merge(*producers)
        for index in range(len(self.plans)):
            joined = joined | self.step(index)
        return joined


class PipelineTrial(Trial):
    """A random schedule of a pipeline."""

    planned: TrialPipeline
    run: PipelineRun | None

    def prepare(self, turnstile: Turnstile) -> None:
        draw = self.random
        plans = [self._draw_plan() for _ in range(draw.randrange(1, 5))]
        number = draw.choice([1, 1, 1, 2, 3])
        items = draw.choice([0, 3, 12, 40])
        for part in range(number):
            mine: list[Item] = [(index,) for index in range(part, items, number)]
            self.make_source(draw.choice(FOR_PIPELINES), mine)
        self.planned = TrialPipeline(self, turnstile, plans)

    def start(self, turnstile: Turnstile) -> AbstractAsyncContextManager[Any]:
        started: AbstractAsyncContextManager[Any] = self.planned.pipeline().start()
        return started

    def _draw_plan(self) -> StepPlan:
        draw = self.random
        batch = self._draw_batch() if draw.random() < 0.35 else None
        order: list[Literal["none", "all", "key"]] = ["none", "none", "all", "key"]
        return StepPlan(
            limiter=draw.choice(["none", "number", "trio", "own", "own", "shared", "shared"]),
            tokens=draw.randrange(1, 5),
            window=draw.choice([None, 4, 8]),
            order=draw.choice(order) if batch is None else "none",
            batch=batch,
            fails=draw.random() < 0.5,
            retries=draw.randrange(4),
            fallback=draw.choice(["skip", "skip", "skip", "letter", "letter", "abort"]),
        )

    def _draw_batch(self) -> Batch:
        draw = self.random
        key = three_keys if draw.random() < 0.3 else None
        size, within = draw.randrange(1, 5), draw.choice([None, 0.7])
        if draw.random() < 0.3:
            return Batch(size, within=within, weight=weigh, max_weight=6.0, key=key)
        return Batch(size, within=within, key=key)

    # ---- the end ----

    def diverted(self) -> int:
        assert self.run is not None
        return sum(step.diverted for step in self.run.steps)

    def check_run(self) -> None:
        assert self.run is not None
        steps, planned = self.run.steps, self.planned
        for step in steps:
            assert step.in_flight == 0
            assert step.cancelled == len(step.cut_off)
        assert len(planned.stored) == len(set(planned.stored))
        if self.happening.outcome == "interrupted":
            return
        given = planned.given()
        if any(source.lost for source in self.sources):
            assert steps[0].received <= len(given)
            return
        assert steps[0].received == len(given)
        if self.ending not in ("itself", "drain") or self.happening.outcome != "report":
            return
        if self.ending == "itself":
            assert steps[0].cancelled == 0
        assert not planned.doomed()
        expected = planned.expected()
        for step, fates in zip(steps, expected, strict=True):
            for fate in ("completed", "discarded", "failed", "diverted"):
                assert getattr(step, fate) == fates[fate], (step, fates)
            assert step.cancelled == 0 or step is steps[0]
        assert len(planned.stored) == expected[-1]["completed"]
        for (index, item), calls in planned.calls.items():
            assert calls == min(planned.failures(index, item), planned.plans[index].retries) + 1


# ---- phases ----


@attrs.frozen
class OperationPlan:
    """How one operation behaves."""

    seconds: dict[str, float]
    """How long each phase takes, by its name."""
    fails_in: str | None
    failures: int
    retry_after: float | None
    """The ``retry_after`` of an overloaded service; ``None`` for another error."""


class TrialOperation(EachPhase):
    """An operation that follows its plan, and checks the limits."""

    def __init__(self, trial: PhasesTrial, number: int, plan: OperationPlan) -> None:
        self.trial = trial
        self.number = number
        self.plan = plan
        self.failures = self.prepared = self.cleaned = 0
        self.inside: LimitCheck | None = None

    @property
    def identifiers(self) -> tuple[str, ...]:
        return (f"op {self.number}",)

    async def phase(self, name: str) -> None:
        if name == "prepare":
            self.prepared += 1
        self._enter(name)
        try:
            self.trial.called()
            await trio.sleep(self.plan.seconds[name])
            if self.plan.fails_in == name and self.failures < self.plan.failures:
                self.failures += 1
                if self.plan.retry_after is None:
                    raise PlannedError(name, self.number)
                raise Overloaded(self.plan.retry_after)
        except BaseException:
            self._leave()
            raise
        if name == "monitor" or (name == "prepare" and self.trial.prepare_check is not None):
            self._leave()

    def _enter(self, name: str) -> None:
        if self.inside is None:
            check = self.trial.work_check
            if name == "prepare" and self.trial.prepare_check is not None:
                check = self.trial.prepare_check
            self.inside = check
            check.enter()

    def _leave(self) -> None:
        if self.inside is not None:
            self.inside.leave()
            self.inside = None

    async def cleanup(self, channels: Channels) -> None:
        self.cleaned += 1
        self._leave()  # a deadline may have come before the first checkpoint of a phase
        await trio.sleep(self.plan.seconds["cleanup"])
        if self.plan.fails_in == "cleanup":
            raise PlannedError("cleanup", self.number)


class PhasesTrial(Trial):
    """A random schedule of operations in phases."""

    work_check: LimitCheck
    prepare_check: LimitCheck | None
    run: Manager | None

    def prepare(self, turnstile: Turnstile) -> None:
        draw = self.random
        work = self.make_limiter(turnstile, "work", draw.randrange(1, 5))
        self.work_check = self.checks[work.name]
        self.prepare_check = None
        self.options: dict[str, Any] = {"limiter": work}
        if draw.random() < 0.4:
            ahead = self.make_limiter(turnstile, "prepare", draw.randrange(1, 4))
            self.prepare_check = self.checks[ahead.name]
            self.options["prepare_limiter"] = ahead
        letters = DeadLetter(self.divert)
        self.options |= {
            "on_error": [
                Retry(draw.randrange(3), backoff=lambda n: 0.3 * n),
                draw.choice([Skip(), Skip(), letters, letters, Abort(), Halt("soon", fail=3)]),
            ],
            "timeouts": PhaseTimeouts(
                prepare=draw.choice([None, 0.8]), work=draw.choice([None, 0.8]), monitor=None
            ),
            "cleanup_grace": draw.choice([0.3, 30.0]),
            "window": draw.choice([None, 1, 4]),
            "max_errors": draw.choice([2, 10_000]),
        }
        count = draw.choice([0, 3, 12, 30])
        self.operations = [TrialOperation(self, n, self._draw_plan()) for n in range(count)]
        self.make_source(draw.choice(FOR_PHASES), self.operations)

    def start(self, turnstile: Turnstile) -> AbstractAsyncContextManager[Any]:
        return start_phases(self.sources[0].source(turnstile), **self.options)

    def _draw_plan(self) -> OperationPlan:
        draw = self.random
        names = ("prepare", "work", "monitor", "cleanup")
        return OperationPlan(
            seconds={name: draw.choice([0, 0, 0.1, 0.5, 1]) for name in names},
            fails_in=draw.choice([None, None, None, *names]),
            failures=draw.randrange(1, 4),
            retry_after=draw.choice([None, None, 0.5, 100]),
        )

    # ---- the end ----

    def diverted(self) -> int:
        assert self.run is not None
        return self.run.diverted

    def check_run(self) -> None:
        assert self.run is not None
        report = self.run.report()
        assert report.working == 0
        assert len(report.errors) <= self.options["max_errors"]
        assert report.cancelled == len(report.cut_off)
        (source,) = self.sources
        for operation in self.operations:
            begun = operation.prepared > 0
            if self.strike is None:
                assert operation.cleaned == begun
            else:  # Ctrl-C may come between the lines of the engine that begin the two phases
                assert operation.cleaned <= 1
                assert begun <= operation.cleaned or "grace.py" in self.happening.struck
        if self.happening.outcome != "interrupted":
            assert source.lost or report.received == len(source.given())
        if self.ending == "itself" and self.happening.outcome == "report":
            assert report.cancelled == 0


def trial_of(seed: int, *, strike: Strike | None = None) -> Trial:
    """Return the schedule of the seed: two of three schedules are for pipelines."""
    kind = PhasesTrial if seed % 3 == 0 else PipelineTrial
    return kind(seed, strike=strike)
