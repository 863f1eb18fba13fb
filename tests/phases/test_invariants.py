"""Invariants of any run of phases, tested with Hypothesis."""

from __future__ import annotations

from typing import Any

import attrs
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from testkit.limits import LimitCheck
from testkit.phases import EachPhase
from trio_turnstile import (
    Abort,
    Aborted,
    Channels,
    Limiter,
    Manager,
    Retry,
    Skip,
    Throttle,
    run_phases,
)
from trio_turnstile.testing import assert_conserved


@attrs.frozen
class Plan:
    """How one operation behaves, in ticks of a tenth of a second."""

    prepare: int
    work: int
    monitor: int
    cleanup: int
    fails_in: str | None
    failures: int


class Planned(EachPhase):
    """An operation that follows its plan, and checks the limit."""

    def __init__(self, plan: Plan, check: LimitCheck) -> None:
        self.plan = plan
        self.check = check
        self.failures = 0
        self.prepared = self.cleaned = 0

    async def phase(self, name: str) -> None:
        if name == "prepare":
            self.prepared += 1
            self.check.enter()
        try:
            await trio.sleep(getattr(self.plan, name) / 10)
            if self.plan.fails_in == name and self.failures < self.plan.failures:
                self.failures += 1
                raise OSError(name)
        except BaseException:
            self.check.leave()
            raise
        if name == "monitor":
            self.check.leave()

    async def cleanup(self, channels: Channels) -> None:
        self.cleaned += 1
        await trio.sleep(self.plan.cleanup / 10)


ticks = st.integers(0, 5)


plans = st.builds(
    Plan,
    ticks,
    ticks,
    ticks,
    ticks,
    st.sampled_from([None, None, "prepare", "work", "monitor"]),
    st.integers(1, 3),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(plans, max_size=25),
    st.integers(0, 4),
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 6)), max_size=5),
    st.sampled_from([[Skip()], [Retry(2, backoff=lambda n: 0.2), Skip()], [Retry(1), Abort()]]),
    st.sampled_from(["none", "none", "cancel", "drain"]),
    st.integers(0, 20),
    st.sampled_from([None, 1, 3]),
)
def test_invariants_hold_whatever_happens(
    drawn: list[Plan],
    limit: int,
    retunes: list[tuple[int, int]],
    policies: list[Any],
    ending: str,
    end_at: int,
    window: int | None,
) -> None:
    """Books balance, limits hold, and each operation that began is cleaned up once."""

    async def main() -> None:
        limiter = Limiter("ops", limit, throttle=Throttle(min=0))
        check = LimitCheck(limiter)
        operations = [Planned(plan, check) for plan in drawn]

        async def retune() -> None:
            for wait, tokens in retunes:
                await trio.sleep(wait / 10)
                check.retune(tokens)
            await trio.sleep(0.35)
            check.retune(3)

        async def run(task_status: trio.TaskStatus[Manager]) -> None:
            try:
                await run_phases(
                    operations,
                    limiter=limiter,
                    on_error=policies,
                    window=window,
                    task_status=task_status,
                )
            except Aborted as aborted:
                if not all(isinstance(error.__cause__, OSError) for error in aborted.exceptions):
                    raise

        async def audit(manager: Manager) -> None:
            while True:
                assert_conserved(manager)
                assert window is None or manager.working <= window
                await trio.sleep(0.1)

        async def supervise(scope: trio.CancelScope) -> None:
            async with trio.open_nursery() as auditors:
                async with trio.open_nursery() as nursery:
                    manager: Manager = await nursery.start(run)
                    auditors.start_soon(audit, manager)
                    nursery.start_soon(retune)
                    managers.append(manager)
                    await trio.sleep(end_at / 10)
                    if ending == "cancel":
                        scope.cancel()
                    if ending == "drain":
                        manager.drain()
                        drained_at.append(manager.received)
                auditors.cancel_scope.cancel()

        managers: list[Manager] = []
        drained_at: list[int] = []
        with trio.fail_after(1000), trio.CancelScope() as scope:
            await supervise(scope)
        (manager,) = managers
        assert_conserved(manager)
        assert manager.working == 0
        assert limiter.borrowed_tokens == 0
        assert check.running == 0
        assert check.exceeded == []
        assert drained_at in ([], [manager.received])
        for operation in operations:
            assert operation.cleaned == (1 if operation.prepared else 0)

    trio.run(main, clock=MockClock(autojump_threshold=0))
