"""Pipelines with a ledger: a run goes on where the last one ended, however that was.

The clock of the tests may jump while a thread writes the ledger, so these tests use the real clock.
Where a task has to wait, it waits for an event.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel

from testkit.ledger_pipelines import Store, aborted, outcomes, run, split
from testkit.pipelines import into, unchanged
from trio_turnstile import (
    DISCARD,
    Abort,
    Aborted,
    Batch,
    BatchError,
    ConcurrentError,
    Consumer,
    DeadLetter,
    LedgerError,
    Many,
    Processor,
    Producer,
    Retry,
    Settled,
    Skip,
    open_ledger,
    read_ledger,
)
from trio_turnstile._engine.recording import Beginning
from trio_turnstile._engine.tracing import Tracer
from trio_turnstile.testing import assert_conserved


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the ledger."""
    return tmp_path / "ledger"


async def keep(letter: ConcurrentError) -> None:
    """Keep a dead letter, no matter where."""
    await trio.lowlevel.checkpoint()


# ---- what is skipped, and what is done again ----


async def test_what_is_settled_well_is_skipped(path: Path) -> None:
    """A second run of the same items does nothing, and its books say so."""
    store = Store()
    pipeline = Producer("abc") | Consumer(store)
    first = await run(pipeline, path)
    second = await run(pipeline, path)
    assert sorted(store.items) == ["a", "b", "c"]
    assert (first.steps[0].skipped, first.steps[0].completed) == (0, 3)
    assert (second.steps[0].skipped, second.steps[0].completed) == (3, 0)
    assert second.steps[0].received == 3


@pytest.mark.parametrize(
    ("policies", "outcome", "again"),
    [
        ([Skip()], "failed", True),
        ([DeadLetter(keep)], "diverted", False),
        ([Retry(2, backoff=lambda failures: 0), Skip()], "failed", True),
        ([Abort()], "failed", True),
    ],
)
async def test_the_outcome_says_whether_an_item_is_done_again(
    path: Path, policies: list[Any], outcome: str, again: bool
) -> None:
    """A failed item is done again; an item sent as a dead letter is no longer ours to do."""
    store = Store("b")
    pipeline = Producer("ab") | Consumer(store, limiter=1, on_error=policies)
    with suppress(Aborted):
        await run(pipeline, path)
    assert outcomes(path) == {"a": "completed", "b": outcome}
    store.items.clear()
    store.bad.clear()
    report = await run(pipeline, path)
    assert store.items == (["b"] if again else [])
    assert report.steps[0].skipped == (1 if again else 2)
    assert outcomes(path) == {"a": "completed", "b": "completed" if again else "diverted"}


async def test_what_was_discarded_is_settled(path: Path) -> None:
    """An item that a step dropped, or that became nothing, is skipped."""

    async def drops(item: str) -> Any:
        await trio.lowlevel.checkpoint()
        return DISCARD if item == "a" else Many([])

    pipeline = Producer("ab") | Processor(drops) | Consumer(unchanged)
    await run(pipeline, path)
    report = await run(pipeline, path)
    assert report.steps[0].skipped == 2


async def test_what_was_cut_off_is_done_again(path: Path) -> None:
    """A cancelled run notes the items in hand as cancelled, but not items that it never read."""
    begun: list[str] = []

    async def hangs(item: str) -> None:
        begun.append(item)
        await trio.sleep(0 if item == "a" else 1000)

    async with open_ledger(path) as ledger:
        pipeline = Producer("abcd") | Consumer(hangs, limiter=1, window=1)
        async with pipeline.start(ledger=ledger) as live:
            while begun != ["a", "b"]:
                await trio.lowlevel.checkpoint()
            live.cancel()
    assert_conserved(live)
    cut_off = dict.fromkeys(live.steps[0].cut_off, "cancelled")
    assert outcomes(path) == {"a": "completed"} | cut_off
    assert "b" in cut_off
    store = Store()
    report = await run(Producer("abcd") | Consumer(store), path)
    assert sorted(store.items) == ["b", "c", "d"]
    assert report.steps[0].skipped == 1


async def test_a_cancellation_from_outside_loses_nothing(path: Path) -> None:
    """Items completed before it are on disk, and the next run does the rest."""
    stored: list[str] = []

    async def work(item: str) -> None:
        if item == "c":
            scope.cancel()
        await trio.lowlevel.checkpoint()
        stored.append(item)

    with trio.CancelScope() as scope:
        await run(Producer("abcde") | Consumer(work, limiter=1), path)
    assert outcomes(path)["a"] == outcomes(path)["b"] == "completed"
    await run(Producer("abcde") | Consumer(into(stored)), path)
    assert sorted(stored) == list("abcde")


async def test_an_aborted_run_goes_on(path: Path) -> None:
    """One item aborts each run, and nothing is lost or done twice except that item."""
    store = Store("b", "d")
    items = list("abcdef")
    pipeline = Producer(items) | Consumer(store, limiter=1)
    for bad in ("b", "d"):
        error = await aborted(pipeline, path)
        assert [each.item for each in error.exceptions] == [bad]
        store.bad.remove(bad)
    await run(pipeline, path)
    assert Counter(store.items) == Counter("abbcddef")


async def test_inputs_are_known_by_identity_and_not_by_position(path: Path) -> None:
    """Items may be shuffled, added to and taken away between runs."""
    store = Store()
    items = [str(number) for number in range(30)]
    draw = random.Random(1)
    for count in (10, 20, 30):
        given = draw.sample(items[:count], count)
        report = await run(Producer(given) | Consumer(store, limiter=3), path)
        assert report.steps[0].skipped == count - 10
    report = await run(Producer(items[5:15]) | Consumer(store), path)
    assert report.steps[0].skipped == 10
    assert sorted(store.items) == sorted(items)


async def test_an_error_is_in_the_ledger(path: Path) -> None:
    """The ledger has the first error that ended a part of the item, as text."""
    await run(Producer("a") | Consumer(Store("a"), on_error=Skip()), path)
    with read_ledger(path) as entries:
        (entry,) = entries
    assert (entry.outcome, entry.error) == ("failed", "ValueError('a')")


async def test_names_keep_the_runs_of_one_file_apart(path: Path) -> None:
    """A run does not know what another run in the same ledger has done."""
    for name in ("first", "second"):
        store = Store()
        async with open_ledger(path, run=name) as ledger:
            await (Producer("ab") | Consumer(store)).run(ledger=ledger)
        assert len(store.items) == 2


# ---- identities ----


@pytest.mark.parametrize(
    ("items", "identity", "message"),
    [
        ([7], None, "the identity of 7 is 7, and must be a text: .* run(ledger=..., identity=...)"),
        ([7], lambda item: "", "the identity of 7 is '', and must be a text: "),
        ([""], None, "the identity of '' is '', and must be a text: "),
        ([7], lambda item: None, "the identity of 7 is None, and must be a text: "),
        (["a", "b", "a"], None, "identity 'a' came before in this run, .* an identity of its own"),
        ([1, 2], lambda item: "x", "identity 'x' came before in this run, "),
    ],
)
async def test_identities_that_name_nothing_end_the_run(
    path: Path, items: list[Any], identity: Callable[[Any], str] | None, message: str
) -> None:
    """A clear error of the source names the item, and the items read before go through."""
    store = Store()
    error = await aborted(Producer(items) | Consumer(store), path, identity=identity)
    (reason,) = error.exceptions
    assert reason.phase == "source"
    assert isinstance(reason.__cause__, ValueError)
    parts = message.split(".*")
    assert all(part.strip() in str(reason.__cause__) for part in parts)
    assert outcomes(path) == {
        str(identity(item) if identity else item): "completed" for item in store.items
    }


async def test_a_doubled_identity_is_found_among_what_is_skipped(path: Path) -> None:
    """The second item may be a different one, so later runs raise the error, too."""
    await run(Producer("abc") | Consumer(unchanged), path)
    for _ in range(2):
        error = await aborted(Producer("abcb") | Consumer(unchanged), path)
        assert "identity 'b' came before" in str(error.exceptions[0].__cause__)


async def test_an_identity_function_that_fails_is_a_fault_of_the_source(path: Path) -> None:
    """If the identity function raises, its error is the cause of the error of the source."""

    def name(item: dict[str, str]) -> str:
        return item["id"]

    error = await aborted(Producer([{"no": "id"}]) | Consumer(unchanged), path, identity=name)
    assert isinstance(error.exceptions[0].__cause__, KeyError)


async def test_items_of_any_kind_have_an_identity(path: Path) -> None:
    """A function makes it from the item; it may be a text that no file system would accept."""
    rows = [{"id": text} for text in ("a\0b", "\ud800", "é", "x" * 10_000, "'; DROP TABLE")]
    for skipped in (0, 5):
        report = await run(Producer(rows) | Consumer(unchanged), path, identity=itemgetter("id"))
        assert report.steps[0].skipped == skipped
    assert list(outcomes(path)) == [row["id"] for row in rows]


async def test_identity_needs_a_ledger() -> None:
    """Alone it would have no effect, so it is refused before anything begins."""
    with pytest.raises(TypeError, match="identity is for a ledger: give a ledger too"):
        await (Producer("a") | Consumer(unchanged)).run(identity=str)


async def test_two_live_runs_may_not_do_the_same_item(path: Path) -> None:
    """Of two runs with one ledger, the second is refused an item that the first has in hand."""
    begun, let_go = trio.Event(), trio.Event()

    async def hold(item: str) -> None:
        begun.set()
        await let_go.wait()

    async with open_ledger(path) as ledger, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: (Producer("a") | Consumer(hold)).run(ledger=ledger))
        await begun.wait()
        with pytest.raises(Aborted) as caught:
            await (Producer("a") | Consumer(hold)).run(ledger=ledger)
        assert "identity 'a' came before" in str(caught.value.exceptions[0].__cause__)
        let_go.set()


# ---- parts, batches, dead letters ----


async def test_an_item_is_done_again_if_one_of_its_parts_has_failed(path: Path) -> None:
    """All parts of this item are made again, but not those of other items."""
    store = Store("bb.1")
    items = Producer(["aa", "bb", "cc"])
    pipeline = items | Processor(split) | Consumer(store, limiter=2, on_error=Skip())
    await run(pipeline, path)
    assert outcomes(path) == {"aa": "completed", "bb": "failed", "cc": "completed"}
    store.items.clear()
    store.bad.clear()
    await run(pipeline, path)
    assert sorted(store.items) == ["bb.0", "bb.1"]
    assert set(outcomes(path).values()) == {"completed"}


async def test_an_item_is_not_settled_before_its_last_part(path: Path) -> None:
    """A run that is cut off between two parts leaves the item to the next run."""
    stored: list[str] = []

    async def store(part: str) -> None:
        await trio.lowlevel.checkpoint()
        stored.append(part)
        if part == "abc.1":
            live.cancel()
            await trio.sleep_forever()

    async with open_ledger(path) as ledger:
        pipeline = Producer(["abc"]) | Processor(split) | Consumer(store, limiter=1)
        async with pipeline.start(ledger=ledger) as live:
            pass
    assert_conserved(live)
    assert outcomes(path) == {"abc": "cancelled"}


async def test_members_of_a_batch_are_settled_one_by_one(path: Path) -> None:
    """Only the failed members are in a batch of the next run."""
    batches: list[list[str]] = []

    async def store(members: list[str]) -> None:
        await trio.lowlevel.checkpoint()
        batches.append(members)
        bad = {index: ValueError(m) for index, m in enumerate(members) if m in "be"}
        if bad and len(batches) <= 2:
            raise BatchError(bad)

    pipeline = Producer("abcdef") | Consumer(store, batch=Batch(3), limiter=1, on_error=Skip())
    await run(pipeline, path)
    await run(pipeline, path)
    assert batches == [["a", "b", "c"], ["d", "e", "f"], ["b", "e"]]


async def test_what_a_batch_was_made_into_settles_all_members(path: Path) -> None:
    """If the sum of three fails, the next run has all three again."""
    store = Store("abc")

    async def join(members: Sequence[str]) -> str:
        await trio.lowlevel.checkpoint()
        return "".join(members)

    pipeline = (
        Producer("abcde")
        | Processor(join, batch=Batch(3), limiter=1)
        | Consumer(store, on_error=Skip())
    )
    await run(pipeline, path)
    store.bad.clear()
    await run(pipeline, path)
    assert store.items == ["abc", "de", "abc"]


async def test_a_letter_that_cannot_be_sent_leaves_its_item(path: Path) -> None:
    """The dead letter was not delivered, so the item has failed, and is done again."""

    async def refuses(letter: ConcurrentError) -> None:
        raise OSError("full")

    store = Store("a")
    pipeline = Producer("a") | Consumer(store, on_error=DeadLetter(refuses))
    await aborted(pipeline, path)
    assert outcomes(path) == {"a": "failed"}
    store.bad.clear()
    await run(pipeline, path)
    assert outcomes(path) == {"a": "completed"}


# ---- all kinds of sources ----


async def generated(items: Sequence[str]) -> AsyncIterator[str]:
    for item in items:
        await trio.lowlevel.checkpoint()
        yield item


def channelled(items: Sequence[str]) -> Any:
    send, receive = trio.open_memory_channel[str](len(items))
    with send:
        for item in items:
            send.send_nowait(item)
    return receive


@asynccontextmanager
async def opened(items: Sequence[str]) -> AsyncIterator[Sequence[str]]:
    await trio.lowlevel.checkpoint()
    yield items


def paged(items: Sequence[str]) -> Producer[str]:
    async def fetch_page(at: int) -> tuple[Sequence[str], int | None]:
        await trio.lowlevel.checkpoint()
        return items[at : at + 4], at + 4 if at + 4 < len(items) else None

    return Producer.pages(fetch_page, 0)


def merged(items: Sequence[str]) -> Producer[str]:
    return Producer.merge(
        Producer(items[::3]), Producer(generated(items[1::3])), paged(items[2::3])
    )


SOURCES: dict[str, Callable[[Sequence[str]], Producer[str]]] = {
    "iterable": Producer,
    "generator": lambda items: Producer(generated(items)),
    "channel": lambda items: Producer(channelled(items)),
    "opened": lambda items: Producer(opened(items)),
    "pages": paged,
    "merge": merged,
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize(
    "options", [{}, {"limiter": 3}, {"ordered": True}, {"key": len}, {"batch": Batch(4)}], ids=str
)
async def test_any_source_can_go_on(
    path: Path, source: Callable[[Sequence[str]], Producer[str]], options: dict[str, Any]
) -> None:
    """The first run has half of the items, the second all of them, shuffled."""
    store: list[Any] = []
    items = [str(number) for number in range(40)]
    steps = Processor(unchanged, **options) | Consumer(into(store), limiter=1)
    if "batch" in options:
        steps = Consumer(into(store), **options)
    shuffled = random.Random(0).sample(items, len(items))
    for given, skipped in [(items[:20], 0), (shuffled, 20), (items, 40)]:
        report = await run(source(given) | steps, path)
        assert report.steps[0].skipped == skipped
        assert report.steps[0].received == len(given)
    stored = [each for part in store for each in part] if "batch" in options else store
    assert sorted(stored) == sorted(items)
    if "ordered" in options and source is not merged:
        assert stored == items[:20] + [item for item in shuffled if int(item) >= 20]


async def test_a_source_that_fails_ends_the_run_after_what_it_gave(path: Path) -> None:
    """The items given before the error are done and noted, and skipped items are in the books."""

    async def breaks(items: Sequence[str]) -> AsyncIterator[str]:
        for item in items:
            await trio.lowlevel.checkpoint()
            yield item
        raise OSError("gone")

    await run(Producer("abc") | Consumer(unchanged), path)
    error = await aborted(Producer(breaks("abcde")) | Consumer(unchanged), path)
    assert isinstance(error.exceptions[0].__cause__, OSError)
    assert error.exceptions[0].phase == "source"
    assert outcomes(path) == dict.fromkeys("abcde", "completed")
    assert error.report.steps[0].skipped == 3


async def test_a_source_without_end_is_left_open_while_items_are_through(path: Path) -> None:
    """A generator that holds open what its items need is closed after the last one."""
    events: list[str] = []

    async def lends() -> AsyncIterator[str]:
        try:
            await trio.lowlevel.checkpoint()
            yield "a"
            yield "b"
            await trio.sleep_forever()
        finally:
            events.append("closed")

    async def store(item: str) -> None:
        if item == "b":
            live.drain()
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        events.append(item)

    pipeline = Producer(lends) | Consumer(store, limiter=1)
    async with open_ledger(path) as ledger, pipeline.start(ledger=ledger) as live:
        pass
    assert events == ["a", "b", "closed"]
    assert outcomes(path) == {"a": "completed", "b": "completed"}


@pytest.mark.parametrize("with_ledger", [True, False])
async def test_a_ledger_changes_nothing_about_reading_ahead(path: Path, with_ledger: bool) -> None:
    """A generator is one item ahead of the workers, and no more."""
    given: list[str] = []
    enough, let_go = trio.Event(), trio.Event()

    async def counted() -> AsyncIterator[str]:
        for item in "abcd":
            await trio.lowlevel.checkpoint()
            given.append(item)
            if item == "b":
                enough.set()
            yield item

    async def work(item: str) -> None:
        with trio.fail_after(10):
            await enough.wait()
        if item == "a":
            await let_go.wait()

    async with open_ledger(path) as ledger:
        pipeline = Producer(counted) | Consumer(work, limiter=1)
        async with pipeline.start(ledger=ledger if with_ledger else None):
            await enough.wait()
            await trio.sleep(0.02)
            assert given == ["a", "b"]
            let_go.set()


# ---- a drain, and the books ----


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
async def test_a_drained_run_goes_on(
    path: Path, source: Callable[[Sequence[str]], Producer[str]]
) -> None:
    """A drained run cuts off no item that has begun, and the next run goes on.

    An item may be cut off if it was asked for before the drain and given or looked up after it.
    """
    store: list[str] = []
    items = [str(number) for number in range(40)]

    async def work(item: str) -> None:
        await trio.lowlevel.checkpoint()
        store.append(item)
        if len(store) == 10:
            live.drain()

    async with open_ledger(path) as ledger:
        pipeline = source(items) | Consumer(work, limiter=2)
        async with pipeline.start(ledger=ledger) as live:
            pass
    report = live.report()
    assert_conserved(report)
    assert 10 <= report.steps[0].completed < 40
    late, noted = report.steps[0].cut_off, outcomes(path)
    assert len(late) <= 2
    assert {item: noted.pop(item) for item in store} == dict.fromkeys(store, "completed")
    assert noted == {item: "cancelled" for item in late if item in noted}
    await run(source(items) | Consumer(into(store)), path)
    assert sorted(store) == sorted(items)


async def test_a_drain_while_all_is_skipped(path: Path) -> None:
    """No item begins after the drain, and the run ends although its source does not."""
    items = [str(number) for number in range(300)]
    await run(Producer(items) | Consumer(unchanged), path)
    given = 0

    async def endless() -> AsyncIterator[str]:
        nonlocal given
        for item in items:
            await trio.lowlevel.checkpoint()
            given += 1
            yield item
            if given == 200:
                live.drain()
        await trio.sleep_forever()

    pipeline = Producer(endless) | Consumer(unchanged)
    async with open_ledger(path) as ledger, pipeline.start(ledger=ledger) as live:
        pass
    assert_conserved(live)
    assert 0 < live.steps[0].skipped <= 201
    assert set(outcomes(path).values()) == {"completed"}


async def test_the_books_balance_at_every_moment(path: Path) -> None:
    """Skipped items are counted in the books while the run goes on, too."""
    await run(Producer("ace") | Consumer(unchanged), path)
    seen: list[int] = []

    async def look(item: str) -> str:
        await trio.lowlevel.checkpoint()
        assert_conserved(live)
        seen.append(live.steps[0].skipped)
        return item

    async with open_ledger(path) as ledger:
        pipeline = Producer("abcdef") | Processor(look, limiter=1) | Consumer(look, batch=Batch(2))
        async with pipeline.start(ledger=ledger) as live:
            pass
    assert_conserved(live)
    first, second = live.steps
    assert (first.received, first.completed, first.skipped) == (6, 3, 3)
    assert (second.received, second.skipped) == (3, 0)
    assert seen[0] >= 1
    assert seen[-1] == 3


async def test_a_listener_is_told_what_was_skipped(path: Path) -> None:
    """A message settled by an earlier run is acknowledged anyway, and only once."""
    told: list[Settled[str]] = []
    store = Store("b")
    pipeline = Producer("abc", on_settled=told.append) | Consumer(store, on_error=Skip())
    await run(pipeline, path)
    assert {each.item: each.outcome for each in told} == {
        "a": "completed",
        "b": "failed",
        "c": "completed",
    }
    told.clear()
    store.bad.clear()
    await run(pipeline, path)
    assert sorted((each.item, each.outcome, each.error) for each in told) == [
        ("a", "skipped", None),
        ("b", "completed", None),
        ("c", "skipped", None),
    ]


async def test_producers_that_are_merged_tell_of_their_own_with_a_ledger(path: Path) -> None:
    """The ledger knows all items, and each listener gets those of its own producer."""
    told: list[str] = []
    producers = (
        Producer("ab", on_settled=lambda settled: told.append(settled.item)),
        Producer("cd"),
    )
    await run(Producer.merge(*producers) | Consumer(unchanged), path)
    assert sorted(told) == ["a", "b"]
    assert sorted(outcomes(path)) == ["a", "b", "c", "d"]


# ---- a ledger that can no longer be written ----


def move_away(path: Path) -> None:
    """Move the files of a ledger, as an operator might do when tidying up."""
    for file in path.parent.glob("ledger*"):
        file.rename(file.with_name(file.name.replace("ledger", "ledger-moved")))


@pytest.mark.parametrize("options", [{}, {"limiter": 2}, {"batch": Batch(3, within=0.01)}], ids=str)
async def test_a_ledger_that_fails_ends_the_run_once(path: Path, options: dict[str, Any]) -> None:
    """The ledger's error is the only reason. Items in hand go through, and nothing new begins."""
    store: list[Any] = []

    async def work(item: Any) -> None:
        await trio.lowlevel.checkpoint()
        store.append(item)
        if len(store) == 3:
            move_away(path)

    items = [str(number) for number in range(100)]
    told: list[Settled[str]] = []
    pipeline = Producer(items, on_settled=told.append) | Consumer(work, **options)
    error = await aborted(pipeline, path)
    (reason,) = error.exceptions
    assert isinstance(reason.__cause__, LedgerError)
    assert f"the ledger {path} cannot be written any more: " in str(reason)
    (step,) = error.report.steps
    assert len(error.report.errors) == 1
    assert step.completed < 100
    assert step.failed == 0
    assert len(told) == step.received


async def test_a_ledger_that_failed_is_not_torn(path: Path) -> None:
    """The ledger is as it was after the last commit, so the next run goes on from there."""
    moved = path.with_name("ledger-moved")
    store: list[str] = []

    async def work(item: str) -> None:
        await trio.lowlevel.checkpoint()
        store.append(item)
        if len(store) == 20:
            move_away(path)

    items = [str(number) for number in range(50)]
    await aborted(Producer(items) | Consumer(work, limiter=1), path)
    known = outcomes(moved)
    done = [item for item, outcome in known.items() if outcome == "completed"]
    assert 0 < len(done) <= len(store)
    assert set(done) <= set(store)
    report = await run(Producer(items) | Consumer(unchanged), moved)
    assert report.steps[0].skipped == len(done)


async def test_a_full_disk_leaves_the_ledger_whole(path: Path) -> None:
    """The run reports the error once. When there is room again, the next run goes on."""
    resource = pytest.importorskip("resource", reason="a limit on files stands for a full disk")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    items = [f"{number:01000}" for number in range(1000)]
    pipeline = Producer(items) | Consumer(unchanged)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        error = await aborted(pipeline, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (reason,) = error.exceptions
    assert isinstance(reason.__cause__, LedgerError)
    done = list(outcomes(path).values()).count("completed")
    assert 0 < done < 1000
    report = await run(pipeline, path)
    assert (report.steps[0].skipped, report.steps[0].completed) == (done, 1000 - done)


async def test_a_ledger_that_fails_at_the_end_is_told(path: Path) -> None:
    """If the ledger fails at the end, the run says that its work is done, but not noted."""

    async def work(item: str) -> None:
        await trio.lowlevel.checkpoint()
        move_away(path)

    error = await aborted(Producer("a") | Consumer(work), path)
    assert [each.phase for each in error.exceptions] == ["ledger"]
    assert error.report.steps[0].completed == 1


async def test_a_ledger_that_was_closed_says_so(path: Path) -> None:
    """With a ledger that was closed the run does not begin."""
    async with open_ledger(path) as ledger:
        pass
    with trio.fail_after(10), pytest.raises(LedgerError, match="is closed"):
        await (Producer("a") | Consumer(unchanged)).run(ledger=ledger)


# ---- what it costs ----


class CountingLedger:
    """A ledger that stores nothing, and counts how often it is asked, and for how many items."""

    def __init__(self, done: bool) -> None:
        self.done = done
        self.asked: list[int] = []

    @asynccontextmanager
    async def recording(self) -> AsyncIterator[Any]:
        await trio.lowlevel.checkpoint()
        yield self

    async def begin(self, identities: Sequence[str], phase: str, done: object) -> list[Any]:
        await trio.lowlevel.checkpoint()
        self.asked.append(len(identities))
        return [Beginning("done" if self.done else "new", 1) for _ in identities]

    def note_end(self, number: int, outcome: object, error: str | None) -> None:
        """Note nothing."""

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("done", [True, False])
async def test_what_is_skipped_is_looked_up_in_bulk(done: bool) -> None:
    """An item that has to be done is looked up alone, when a worker wants it."""
    ledger = CountingLedger(done)
    items = [str(number) for number in range(1000)]
    report = await (Producer(items) | Consumer(unchanged, limiter=1)).run(ledger=ledger)
    assert sum(ledger.asked) == 1000
    assert max(ledger.asked) == (64 if done else 1)
    assert (len(ledger.asked) < 30) == done
    assert report.steps[0].skipped == (1000 if done else 0)


async def test_one_look_up_is_for_all_workers_that_wait() -> None:
    """A look-up takes as long as a commit, so twenty workers must not wait for twenty of them."""
    ledger, together = CountingLedger(done=False), trio.Event()
    begun = 0

    async def work(item: str) -> None:
        nonlocal begun
        begun += 1
        if begun == 20:
            together.set()
        await together.wait()

    items = [str(number) for number in range(200)]
    await (Producer(items) | Consumer(work, limiter=20)).run(ledger=ledger)
    assert sum(ledger.asked) == 200
    assert 10 <= max(ledger.asked) <= 20


async def test_nothing_is_traced_where_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline without a ledger or a listener never runs the code that traces items."""

    def refuse(*arguments: object) -> None:
        raise AssertionError("an item is traced")

    for name in ("trace", "end", "derive", "pass_on"):
        monkeypatch.setattr(Tracer, name, refuse)
    steps = Processor(split) | Processor(unchanged, ordered=True)
    report = await (
        Producer(["ab", "c"]) | steps | Consumer(unchanged, batch=Batch(2), on_error=Skip())
    ).run()
    assert report.steps[-1].completed == 3
