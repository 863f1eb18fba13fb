"""Steps and operations that take several tokens for an item: ``weight=``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.lowlevel
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from trio_turnstile import (
    Aborted,
    Batch,
    Channels,
    Consumer,
    DeadLetter,
    Limiter,
    Pipeline,
    Processor,
    Producer,
    RateLimiter,
    Retry,
    Scalable,
    Skip,
    Throttle,
    TooWide,
    amap_list,
    open_ledger,
    run_phases,
)
from trio_turnstile.testing import assert_conserved


@attrs.define
class Load:
    """The tokens of what runs, and the most there ever were."""

    limiter: Limiter
    now: int = 0
    most: int = 0
    order: list[int] = attrs.field(factory=list)

    async def carry(self, tokens: int) -> int:
        """Take a second, with as many tokens as are needed."""
        self.order.append(tokens)
        self.now += tokens
        self.most = max(self.most, self.now)
        assert self.now <= self.limiter.borrowed_tokens <= self.limiter.total_tokens
        try:
            await trio.sleep(1)
        finally:
            self.now -= tokens
        return tokens


def limiter(tokens: int = 4) -> Limiter:
    return Limiter("memory", tokens, throttle=Throttle(min=0))


@given(st.lists(st.integers(1, 5), max_size=30), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=50)
def test_the_sum_of_weights_is_never_over_the_limit(
    weights: list[int], ordered: bool, keyed: bool
) -> None:
    """The limit holds for any weights; wider items fail, and the books balance."""

    async def main() -> None:
        load = Load(limiter())
        options: dict[str, Any] = {"key": lambda n: n % 2} if keyed else {"ordered": ordered}
        pipeline: Pipeline = Producer(weights) | Consumer(
            load.carry, limiter=load.limiter, weight=lambda n: n, on_error=Skip(), **options
        )
        report = await pipeline.run()
        assert_conserved(report)
        too_wide = weights.count(5)
        assert (report.steps[0].failed, report.steps[0].completed) == (
            too_wide,
            len(weights) - too_wide,
        )
        assert all(isinstance(error.__cause__, TooWide) for error in report.errors)
        assert load.most <= 4
        assert load.limiter.borrowed_tokens == load.limiter.statistics().tasks_waiting == 0
        if not keyed:
            assert sorted(load.order) == sorted(n for n in weights if n < 5)

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_items_take_their_tokens_in_the_order_in_which_they_came(
    autojump_clock: MockClock,
) -> None:
    """Later items do not overtake a wide one."""
    load = Load(limiter())
    await (Producer([1, 4, 1, 1, 1]) | Consumer(load.carry, limiter=load.limiter, weight=int)).run()
    assert load.order == [1, 4, 1, 1, 1]
    assert trio.current_time() == pytest.approx(3, abs=1e-6) or load.most == 4


async def test_one_weight_for_all(autojump_clock: MockClock) -> None:
    """A weight may be one number for each item, or for each batch."""
    load = Load(limiter(), order=[])
    begin = trio.current_time()
    await (Producer([2] * 6) | Consumer(load.carry, limiter=load.limiter, weight=2)).run()
    assert trio.current_time() - begin == pytest.approx(3)

    async def carry_all(items: list[int]) -> None:
        await load.carry(sum(items))

    await (
        Producer([1] * 6) | Consumer(carry_all, limiter=load.limiter, weight=len, batch=Batch(3))
    ).run()
    assert load.order[-2:] == [3, 3]
    assert load.most == 4


async def test_what_comes_after_in_the_same_task_needs_no_tokens(
    autojump_clock: MockClock,
) -> None:
    """The step gives back all of its tokens before the next one begins."""
    load, seen = Load(limiter()), list[int]()

    async def check(tokens: int) -> None:
        seen.append(load.limiter.borrowed_tokens)
        await trio.sleep(1)

    report = await (
        Producer([4, 4, 3])
        | Processor(load.carry, limiter=load.limiter, weight=int)
        | Consumer(check)
    ).run()
    assert_conserved(report)
    assert load.most == 4
    assert max(seen) <= 1  # of the foreman, who checks whether one is free


async def test_another_attempt_takes_as_many(autojump_clock: MockClock) -> None:
    """An item holds no tokens during the back-off, and as many as before in the next attempt."""
    load, failed = Load(limiter()), list[int]()

    async def fail_once(tokens: int) -> None:
        await load.carry(tokens)
        if len(failed) < 2:
            failed.append(tokens)
            raise OSError

    report = await (
        Producer([3, 2])
        | Consumer(fail_once, limiter=load.limiter, weight=int, on_error=Retry(3, on=OSError))
    ).run()
    assert (report.steps[0].retried, report.steps[0].completed) == (2, 2)
    assert load.most <= 4


async def test_a_limit_that_falls_fails_items_that_wait_and_lets_retries_decide(
    autojump_clock: MockClock,
) -> None:
    """An item that is to be retried may wait until there is room for it."""
    tight, attempts = limiter(), list[int]()

    async def work(tokens: int) -> None:
        attempts.append(tokens)
        if len(attempts) == 1:
            tight.total_tokens = 2
            raise OSError
        await trio.sleep(1)

    async def raise_later() -> None:
        await trio.sleep(10)
        tight.total_tokens = 4

    async with trio.open_nursery() as nursery:
        nursery.start_soon(raise_later)
        report = await (
            Producer([4, 3])
            | Consumer(
                work, limiter=tight, weight=int, on_error=[Retry(30, on=OSError | TooWide), Skip()]
            )
        ).run()
    assert_conserved(report)
    assert attempts == [4, 4]
    assert report.steps[0].failed == 1
    assert "limit of 2 tokens, and 3 were asked for" in str(report.errors[0])


async def test_a_limit_that_falls_fails_a_batch_that_backs_off(autojump_clock: MockClock) -> None:
    """All members fail, because they wait for their tokens together."""
    tight = limiter()

    async def lower(items: list[int]) -> None:
        tight.total_tokens = 1
        raise OSError

    report = await (
        Producer([1, 2])
        | Consumer(
            lower,
            limiter=tight,
            weight=len,
            batch=Batch(2),
            on_error=[Retry(2, on=OSError), Skip()],
        )
    ).run()
    assert_conserved(report)
    assert (report.steps[0].failed, report.steps[0].retried) == (2, 2)
    assert isinstance(report.errors[0].__cause__, TooWide)


async def test_a_batch_that_is_refused_may_be_cut_off(autojump_clock: MockClock) -> None:
    """While the letter of one member is sent, the others are cancelled with it."""

    async def never(letter: object) -> None:
        await trio.sleep_forever()

    with trio.move_on_after(1):
        async with trio.open_nursery() as nursery:
            pipeline: Pipeline = Producer([1, 2]) | Consumer(
                trio.sleep,  # type: ignore[arg-type]
                limiter=1,
                weight=len,
                batch=Batch(2),
                on_error=DeadLetter(never),
            )
            run = await nursery.start(pipeline.run)
    assert_conserved(run.report())
    assert run.report().steps[0].cancelled == 2


@pytest.mark.parametrize("batch", [None, Batch(1)])
@pytest.mark.parametrize("bad", [0, 2.5, "heavy", True])
async def test_a_weight_that_is_none_fails_the_item(bad: Any, batch: Batch | None) -> None:
    """The item never waits and is not retried, since another attempt would not help."""
    letters = list[object]()

    async def note(letter: object) -> None:
        letters.append(letter)

    options: dict[str, Any] = {} if batch is None else {"batch": batch}

    async def nothing(item: object) -> None:
        raise AssertionError

    report = await (
        Producer([1, 2])
        | Consumer(
            nothing,
            limiter=limiter(),
            weight=lambda _: bad,
            on_error=[Retry(3), DeadLetter(note)],
            **options,
        )
    ).run()
    assert_conserved(report)
    assert report.steps[0].diverted == len(letters) == 2
    assert report.steps[0].retried == 0


async def test_without_a_policy_such_an_item_aborts_the_run() -> None:
    """An item without a policy aborts the run, even if later items wait for their turn."""
    for options in ({"ordered": True}, {"key": str}, {}):
        load = Load(limiter())
        with pytest.raises(Aborted) as caught:
            await (
                Producer([9, 1]) | Consumer(load.carry, limiter=load.limiter, weight=int, **options)
            ).run()
        assert isinstance(caught.value.exceptions[0].__cause__, TooWide)
        assert_conserved(caught.value.report)


async def test_cancelling_gives_all_tokens_back(autojump_clock: MockClock) -> None:
    """Items that run and items that wait both give their tokens back."""
    for seconds in (0, 0.5, 1.5):
        load = Load(limiter())
        with trio.move_on_after(seconds):
            await (
                Producer([3, 3, 1, 4]) | Consumer(load.carry, limiter=load.limiter, weight=int)
            ).run()
        assert load.limiter.borrowed_tokens == load.now == 0
        assert load.limiter.statistics().tasks_waiting == 0


async def test_a_closed_limiter_ends_the_run() -> None:
    """A closed limiter ends the run even while an item waits for several tokens."""
    closing = limiter()

    async def close(tokens: int) -> None:
        await trio.testing.wait_all_tasks_blocked()
        closing.close()

    with pytest.raises(Aborted) as caught:
        await (Producer([3, 3, 3]) | Consumer(close, limiter=closing, weight=int)).run()
    assert_conserved(caught.value.report)
    assert isinstance(caught.value.exceptions[0].__cause__, trio.ClosedResourceError)


async def test_a_list_of_calls_with_weights(autojump_clock: MockClock) -> None:
    """The short form for a list of calls takes a weight, too."""
    load = Load(limiter())
    assert await amap_list(load.carry, [3, 1, 4], limiter=load.limiter, weight=int) == [3, 1, 4]
    assert load.most == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weight": 2}, "a weight needs a limiter"),
        ({"weight": 2, "limiter": trio.CapacityLimiter(3)}, "a weight needs a Limiter, not <trio"),
        ({"weight": 0, "limiter": 3}, "weight must be"),
        ({"weight": "heavy", "limiter": 3}, "weight must be"),
    ],
)
def test_weights_that_cannot_be(options: dict[str, Any], words: str) -> None:
    """An impossible weight is refused when the step is made."""
    with pytest.raises((TypeError, ValueError), match=words):
        Consumer(trio.sleep, **options)


# ---- operations ----


@attrs.define(eq=False)
class Job(Scalable):
    """An operation with a weight; its phases look at what is borrowed."""

    tokens: int
    seen: Callable[[str, int], object]
    limiter: Limiter

    async def prepare(self, channels: Channels) -> None:
        self.seen("prepare", self.limiter.borrowed_tokens)
        await trio.sleep(1)

    async def work(self, channels: Channels) -> None:
        self.seen("work", self.limiter.borrowed_tokens)
        await trio.sleep(1)

    async def cleanup(self, channels: Channels) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("prepare", [None, 5])
async def test_operations_of_some_weight(autojump_clock: MockClock, prepare: int | None) -> None:
    """Tokens are held from prepare on, or from work on if preparing has its own tokens."""
    memory, seen = limiter(), list[tuple[str, int]]()
    jobs = [Job(n, lambda *what: seen.append(what), memory) for n in (4, 3, 1, 9, 2)]
    report = await run_phases(
        jobs, limiter=memory, weight=lambda job: job.tokens, prepare_limiter=prepare
    )
    assert_conserved(report)
    assert (report.completed, report.failed) == (4, 1)
    assert "were asked for" in str(report.errors[0])
    assert max(tokens for _, tokens in seen) == 4
    assert memory.borrowed_tokens == 0
    if prepare is None:
        assert seen[0] == ("prepare", 4)
    else:
        assert seen[0] == ("prepare", 0)


async def test_what_a_ledger_knows_to_be_done_needs_no_tokens(tmp_path: Path) -> None:
    """With a rate, too, an operation known to be done is skipped before it is weighed."""
    memory = limiter()

    class Known(Scalable):
        identity = "known"

        async def work(self, channels: Channels) -> None:
            assert memory.borrowed_tokens == 3

    asked = list[object]()

    def weigh(job: object) -> int:
        asked.append(job)
        return 3

    for completed, skipped in ((1, 0), (0, 1)):
        async with open_ledger(tmp_path / "run.db") as ledger:
            report = await run_phases(
                [Known()], limiter=memory, weight=weigh, ledger=ledger, rate=RateLimiter(100)
            )
        assert_conserved(report)
        assert (report.completed, report.skipped) == (completed, skipped)
    assert len(asked) == 1


async def test_what_is_no_operation_is_refused_before_it_is_weighed() -> None:
    """The error says what the value is, and not what went wrong in weighing it."""
    things: Any = [1]
    with pytest.raises(Aborted) as caught:
        await run_phases(things, limiter=3, weight=lambda job: job.tokens)
    assert "an operation must be a Scalable" in str(caught.value.exceptions[0])
