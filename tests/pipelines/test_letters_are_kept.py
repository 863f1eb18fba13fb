"""A dead letter is never dropped, however the run ends."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_turnstile import (
    Aborted,
    Batch,
    ConcurrentError,
    Consumer,
    DeadLetter,
    JsonLinesBatchWriter,
    JsonLinesReader,
    JsonLinesWriter,
    PipelineRun,
    Producer,
    Scalable,
    open_dead_letters,
    run_phases,
)
from trio_turnstile.testing import assert_conserved

ENDS = ["source", "abort", "cancel", "outside", "interrupt", "drain"]


async def bad(item: int) -> None:
    await trio.sleep(0.1)
    if item == 50:
        raise KeyError("no policy is for this")
    if item % 2:
        raise ValueError(item)


async def run_to_the_end(how: str, policy: DeadLetter, runs: list[PipelineRun]) -> None:
    source = range(49 if how == "source" else 51 if how == "abort" else 49)
    items = source if how in ("source", "abort") else [*range(49), *range(51, 10_000)]
    with trio.move_on_after(1.05 if how == "outside" else math.inf):
        async with (Producer(items) | Consumer(bad, limiter=20, on_error=policy)).start() as run:
            runs.append(run)
            await trio.sleep(1.05)
            if how == "cancel":
                run.cancel()
            elif how == "drain":
                run.drain()
            elif how == "interrupt":
                raise KeyboardInterrupt


def check(how: str, main: Callable[[], Any], runs: list[PipelineRun], path: Path) -> None:
    try:
        trio.run(main, clock=MockClock(autojump_threshold=0))
        raised = ""
    except (Aborted, KeyboardInterrupt) as error:
        raised = type(error).__name__
    assert raised == {"abort": "Aborted", "interrupt": "KeyboardInterrupt"}.get(how, "")
    (account,) = runs[0].steps
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert account.diverted == len(lines) > 0
    assert len({line["item"] for line in lines}) == len(lines)
    assert_conserved(runs[0])


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("kind", ["text", "path", "writer"])
def test_each_letter_is_in_the_file_when_it_counts(tmp_path: Path, how: str, kind: str) -> None:
    """The sink may be a path, or a writer that nobody has to open."""
    path, runs = tmp_path / "dead.jsonl", list[PipelineRun]()
    sink: Any = {"text": str(path), "path": path, "writer": JsonLinesWriter(path)}[kind]

    async def main() -> None:
        await run_to_the_end(how, DeadLetter(sink, on=ValueError), runs)

    check(how, main, runs, path)


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("batched", [False, True])
def test_each_letter_that_was_sent_goes_through_its_reader(
    tmp_path: Path, how: str, batched: bool
) -> None:
    """The reader of `open_dead_letters` is not cancelled with the run."""
    path, runs = tmp_path / "dead.jsonl", list[PipelineRun]()
    consumer: Any = Consumer(JsonLinesWriter(path))
    if batched:
        consumer = Consumer(JsonLinesBatchWriter(path), batch=Batch(7, within=0.5))

    async def main() -> None:
        # The clock would jump over any time while a thread writes.
        async with open_dead_letters(consumer, buffer=3, grace=math.inf) as letters:
            await run_to_the_end(how, DeadLetter(letters, on=ValueError), runs)

    check(how, main, runs, path)


async def test_a_reader_that_hangs_is_cancelled_in_the_end(autojump_clock: MockClock) -> None:
    """A reader that hangs is cancelled when the time for the letters is over."""

    async def hang(letter: ConcurrentError) -> None:
        await trio.sleep_forever()

    with trio.move_on_after(5) as scope:
        async with open_dead_letters(Consumer(hang), grace=10) as letters:
            await letters.send(ConcurrentError("m"))
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == 15


async def test_a_slow_reader_has_all_its_time_if_all_is_well(autojump_clock: MockClock) -> None:
    """The grace period applies only to a block that did not end normally."""
    done: list[object] = []

    async def slow(letter: ConcurrentError) -> None:
        await trio.sleep(50)
        done.append(letter.item)

    async with open_dead_letters(Consumer(slow, limiter=1), grace=10) as letters:
        for number in range(3):
            await letters.send(ConcurrentError("m", item=number))
    assert done == [0, 1, 2]


async def test_a_reader_that_fails_stops_the_run(autojump_clock: MockClock) -> None:
    """No sender waits for ever, and no letter is lost silently."""

    async def broken(letter: ConcurrentError) -> None:
        raise OSError("disk is full")

    with trio.fail_after(100), pytest.raises(Aborted) as caught:
        async with open_dead_letters(Consumer(broken), buffer=0) as letters:
            await run_to_the_end("drain", DeadLetter(letters), [])
    assert isinstance(caught.value.exceptions[0].__cause__, OSError)


async def test_a_letter_that_cannot_be_written_stops_the_run(tmp_path: Path) -> None:
    """The item fails, and its error is in the report with a note."""
    policy = DeadLetter(tmp_path / "no folder" / "dead.jsonl")
    with pytest.raises(Aborted) as caught:
        await (Producer([1]) | Consumer(bad, on_error=policy)).run()
    (error,) = caught.value.exceptions
    assert "its dead letter could not be sent: FileNotFoundError" in error.notes[0]
    assert caught.value.report.steps[0].failed == 1


async def test_a_letter_goes_to_an_async_function() -> None:
    """When the function returns, it has kept the letter."""
    kept: list[object] = []

    async def keep(letter: ConcurrentError) -> None:
        await trio.lowlevel.checkpoint()
        kept.append(letter.item)

    report = await (Producer([1, 2, 3]) | Consumer(bad, on_error=DeadLetter(keep))).run()
    assert sorted(map(int, kept)) == [1, 3]  # type: ignore[call-overload]
    assert report.steps[0].diverted == 2


class Odd:
    """A value that JSON cannot represent."""

    def __repr__(self) -> str:
        return "<odd>"


@pytest.mark.parametrize(
    "item", [Odd(), [Odd()], {(1, 2): 3}, "\ud800"], ids=["odd", "inside", "keys", "surrogate"]
)
async def test_an_item_that_json_cannot_hold_is_there_as_a_text(tmp_path: Path, item: Any) -> None:
    """A letter that cannot be played again is better than none."""

    async def fails(item: Any) -> None:
        raise ValueError

    path = tmp_path / "dead.jsonl"
    report = await (Producer([item]) | Consumer(fails, on_error=DeadLetter(path))).run()
    assert report.steps[0].diverted == 1
    async with Producer(JsonLinesReader(path)).open() as results:
        (letter,) = [letter async for letter in results]
    assert letter["step"] == "fails"


async def test_operations_have_letters_too(tmp_path: Path) -> None:
    """With phases, the item of a letter is shown as a text."""

    class Fails(Scalable):
        async def work(self, channels: Any) -> None:
            raise OSError("x")

    path = tmp_path / "dead.jsonl"
    report = await run_phases([Fails()], limiter=1, on_error=DeadLetter(path))
    assert report.diverted == 1
    assert "OSError('x')" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("sink", [5, None, JsonLinesWriter, (1, 2)])
def test_other_things_are_no_sinks(sink: Any) -> None:
    """Other values are refused when the policy is made."""
    with pytest.raises(TypeError, match="a dead letter goes to the path of a file, the send end"):
        DeadLetter(sink)


@pytest.mark.parametrize("options", [{"buffer": -1}, {"grace": -1}, {"grace": "1"}])
async def test_wrong_options_of_the_channel_are_named(options: dict[str, Any]) -> None:
    """Wrong options are refused before anything is opened."""
    with pytest.raises((TypeError, ValueError), match=r"buffer|grace"):
        async with open_dead_letters(Consumer(bad), **options):  # type: ignore[arg-type]
            pass
