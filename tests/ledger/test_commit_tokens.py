"""Commit tokens: a sink marks each item with one, so that the item is stored exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from testkit.ledger_pipelines import Store, aborted, run, split
from testkit.pipelines import unchanged
from trio_turnstile import (
    Aborted,
    Batch,
    BatchError,
    Consumer,
    Many,
    Processor,
    Producer,
    Retry,
    Settled,
    Skip,
    commit_token,
    commit_tokens,
    open_ledger,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the ledger."""
    return tmp_path / "ledger"


class Tokens(list[tuple[Any, str]]):
    """A step that notes each item with its token."""

    async def __call__(self, item: Any) -> Any:
        await trio.lowlevel.checkpoint()
        self.append((item, commit_token()))
        return item

    async def batch(self, members: list[Any]) -> None:
        await trio.lowlevel.checkpoint()
        self.extend(zip(members, commit_tokens(), strict=True))


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_token_is_the_same_in_each_attempt_and_in_each_run(
    path: Path, ordered: bool
) -> None:
    """The token depends neither on the order nor on what else is in the source."""
    tokens = Tokens()

    async def flaky(item: str) -> str:
        await tokens(item)
        raise ValueError(item)

    policies = [Retry(2, backoff=lambda failures: 0), Skip()]
    for items in ("abc", "cdba"):
        pipeline = Producer(items) | Consumer(flaky, on_error=policies, ordered=ordered)
        await run(pipeline, path)
    assert Counter(item for item, _ in tokens) == {"a": 6, "b": 6, "c": 6, "d": 3}
    assert len(set(tokens)) == 4
    assert len({token for _, token in tokens}) == 4


async def test_each_part_has_a_token_of_its_own(path: Path) -> None:
    """Parts of parts have one, too; a step in between that returns one thing changes nothing."""
    runs: list[Tokens] = []
    for _ in range(2):
        tokens = Tokens()
        runs.append(tokens)
        pipeline = (
            Producer(["ab", "cd", "a/0"])
            | Processor(split)
            | Processor(unchanged, limiter=3)
            | Processor(split)
            | Processor(tokens)
            | Consumer(Store("ab.0.0", "cd.0.0", "a/0.0.0"), limiter=2, on_error=Skip())
        )
        await run(pipeline, path)
    first, second = runs
    assert len({token for _, token in first}) == len(first) == 2 * 4 + 2 * 4 + 3 * 5
    assert sorted(first) == sorted(second)


async def test_no_item_has_the_token_of_a_part(path: Path) -> None:
    """No token collides, even if an item has the name that a part of another item has."""
    tokens = Tokens()

    async def some(item: str) -> Any:
        await trio.lowlevel.checkpoint()
        return Many([item, item]) if item in ("a", "a#") else item

    names = ["a", "a#0", "a##0", "a#", "a#/0", "a/0", "#", "a###0"]
    pipeline = Producer(names) | Processor(some) | Consumer(tokens)
    await run(pipeline, path)
    assert len({token for _, token in tokens}) == len(tokens) == 10


async def test_members_of_a_batch_have_their_own_tokens(path: Path) -> None:
    """A token does not depend on the batch, nor on whether a batch is retried in part."""
    alone, together, again = Tokens(), Tokens(), Tokens()

    async def part(members: list[str]) -> None:
        await again.batch(members)
        raise BatchError({index: ValueError(member) for index, member in enumerate(members[:1])})

    policies = [Retry(1, backoff=lambda failures: 0), Skip()]
    consumers: list[Consumer[Any]] = [
        Consumer(alone),
        Consumer(together.batch, batch=Batch(2)),
        Consumer(part, batch=Batch(3), on_error=policies),
    ]
    for number, consumer in enumerate(consumers):
        pipeline = Producer(["ab", "cd", "e"]) | Processor(split) | consumer
        async with open_ledger(path, run=str(number)) as ledger:
            await pipeline.run(ledger=ledger)
    assert len(alone) == 5
    assert sorted(alone) == sorted(together) == sorted(set(again))
    assert len(again) > len(alone)


async def test_what_a_batch_was_made_into_has_a_token_of_all_its_members(path: Path) -> None:
    """Equal members give an equal token; other members, or another order, give another."""

    async def join(members: Sequence[str]) -> str:
        await trio.lowlevel.checkpoint()
        return "".join(members)

    seen: dict[str, set[str]] = {}
    for items in ("abcd", "abcd", "badc", "ab"):
        tokens = Tokens()
        pipeline = Producer(items) | Processor(join, batch=Batch(2), limiter=1)
        async with open_ledger(path, run=f"{len(seen)} {items}") as ledger:
            await (pipeline | Consumer(tokens)).run(ledger=ledger)
        for item, token in tokens:
            seen.setdefault(item, set()).add(token)
    assert {item: len(tokens) for item, tokens in seen.items()} == dict.fromkeys(
        ["ab", "cd", "ba", "dc"], 1
    )
    assert len(set.union(*seen.values())) == 4


async def test_tokens_are_at_hand_in_what_a_step_calls(path: Path) -> None:
    """Tasks and threads of the step can ask for a token, with a timeout and a listener, too."""
    seen: list[tuple[str, str, str]] = []

    async def child(item: str) -> None:
        seen.append((item, commit_token(), await trio.to_thread.run_sync(commit_token)))

    async def work(item: str) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, item)

    told: list[Settled[str]] = []
    await run(Producer("abc", on_settled=told.append) | Consumer(work, timeout=60), path)
    assert len(told) == 3
    assert sorted(seen) == [("a", "a", "a"), ("b", "b", "b"), ("c", "c", "c")]


async def test_there_are_no_tokens_without_a_ledger(path: Path) -> None:
    """A clear error says what is missing, even if items are traced for a listener."""
    calls: list[Callable[[], object]] = [commit_token, commit_tokens]
    for call in calls:
        with pytest.raises(RuntimeError, match=r"run the pipeline with a ledger: pipeline.run\("):
            call()

    async def work(item: str) -> None:
        await trio.lowlevel.checkpoint()
        commit_token()

    for producer in (Producer("a"), Producer("a", on_settled=lambda settled: None)):
        with pytest.raises(Aborted) as caught:
            await (producer | Consumer(work)).run()
        assert "with a ledger" in str(caught.value.exceptions[0].__cause__)


async def test_one_token_is_not_asked_for_a_batch(path: Path) -> None:
    """A step with two members has two tokens, and the error names the other function."""

    async def work(members: list[str]) -> None:
        await trio.lowlevel.checkpoint()
        commit_token()

    error = await aborted(Producer("ab") | Consumer(work, batch=Batch(2)), path)
    assert str(error.exceptions[0].__cause__).endswith("commit_tokens()")
