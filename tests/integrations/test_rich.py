"""Progress drawn by rich."""

from __future__ import annotations

import re
from functools import partial
from io import StringIO
from typing import Any

import pytest
import trio
from rich.console import Console
from trio.testing import MockClock

from testkit.pipelines import into, takes
from trio_turnstile import (
    DISCARD,
    Aborted,
    Consumer,
    PipelineRun,
    Processor,
    Producer,
    Retry,
    Scalable,
    Skip,
    amap,
    run_phases,
)
from trio_turnstile.integrations.rich import show_progress


class Terminal:
    """A record of what a rich console has drawn."""

    def __init__(self, *, terminal: bool = True) -> None:
        self.file = StringIO()
        self.console = Console(file=self.file, force_terminal=terminal, width=100)

    @property
    def lines(self) -> list[list[str]]:
        """All lines so far, in words, without control sequences."""
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.file.getvalue())
        return [line.split() for line in re.split(r"[\r\n]+", text) if line.strip()]


async def fails_on_odd(number: int) -> Any:
    await trio.sleep(1)
    if number % 2:
        raise OSError(number)
    return DISCARD if number == 4 else number


PIPELINE = (
    Producer(range(5))
    | Processor(fails_on_odd, limiter=1, on_error=[Retry(1, backoff=lambda n: 0), Skip()])
    | Consumer(into([]))
)


async def show(terminal: Terminal, pipeline: Any, **options: Any) -> PipelineRun:
    """Run a pipeline to its end, with its progress shown."""
    async with trio.open_nursery() as nursery:
        run: PipelineRun = await nursery.start(pipeline.run)
        nursery.start_soon(partial(show_progress, run, console=terminal.console, **options))
    return run


async def test_the_last_counts_stay(autojump_clock: MockClock) -> None:
    """At the end each step has a line, and a column for each way in which an item ended."""
    terminal = Terminal()
    await show(terminal, PIPELINE)
    assert terminal.lines[-3:] == [
        ["in", "hand", "completed", "discarded", "failed", "retried"],
        ["fails_on_odd", "0", "2", "1", "2", "2"],
        ["store", "0", "2", "0", "0", "0"],
    ]


async def test_counts_are_redrawn_at_its_own_pace(autojump_clock: MockClock) -> None:
    """A drawing follows after each pause, whatever happens in between."""
    terminal = Terminal()
    work = Producer(range(6)) | Consumer(takes(1), limiter=1)
    async with trio.open_nursery() as nursery:
        run = await nursery.start(work.run)
        nursery.start_soon(partial(show_progress, run, console=terminal.console, every=1.6))
        await trio.sleep(3.5)
        assert [line[2] for line in terminal.lines if line[0] == "work"] == ["0", "1", "3"]


async def test_it_ends_with_the_run(autojump_clock: MockClock) -> None:
    """The last drawing comes when the run has ended, at most one pause later."""
    await show(Terminal(), Producer([1]) | Consumer(takes(1), limiter=1), every=0.75)
    assert trio.current_time() == 1.5


async def test_elsewhere_than_on_a_terminal_it_writes_once(autojump_clock: MockClock) -> None:
    """Elsewhere than on a terminal, only the last counts are written, without control sequences."""
    terminal = Terminal(terminal=False)
    await show(terminal, PIPELINE)
    assert "\x1b" not in terminal.file.getvalue()
    assert [line[0] for line in terminal.lines] == ["in", "fails_on_odd", "store"]


async def test_a_run_that_is_stopped_says_why(autojump_clock: MockClock) -> None:
    """The error that ends the run is under the counts."""
    terminal = Terminal(terminal=False)
    with pytest.raises(BaseExceptionGroup) as caught:
        await show(terminal, Producer([3]) | Consumer(fails_on_odd, name="[step]"))
    assert caught.group_contains(Aborted)
    assert terminal.lines[1] == ["[step]", "0", "0", "1"]
    told = " ".join(word for line in terminal.lines[2:] for word in line)
    assert told == "stopped: [step] of item 3 failed: OSError(3)"


async def test_results_and_phases_have_progress_too(autojump_clock: MockClock) -> None:
    """All kinds of live runs can be shown."""

    class Sleeps(Scalable):
        async def work(self, channels: object) -> None:
            await trio.sleep(1)

    for_results, for_phases = Terminal(terminal=False), Terminal(terminal=False)
    async with trio.open_nursery() as nursery:
        async with amap(takes(1), range(3)) as results:
            nursery.start_soon(partial(show_progress, results, console=for_results.console))
            assert len([number async for number in results]) == 3
        manager = await nursery.start(partial(run_phases, [Sleeps()], limiter=1))
        nursery.start_soon(partial(show_progress, manager, console=for_phases.console))
    assert for_results.lines[-1] == ["work", "0", "3"]
    assert for_phases.lines[-1] == ["operations", "0", "1"]


async def test_cancelling_it_leaves_the_run_alone(autojump_clock: MockClock) -> None:
    """When the drawing is cancelled, its last counts stay, and the run goes on."""
    terminal = Terminal(terminal=False)
    async with trio.open_nursery() as nursery:
        run = await nursery.start((Producer(range(9)) | Consumer(takes(1), limiter=1)).run)
        with trio.move_on_after(4.5):
            await show_progress(run, console=terminal.console)
        assert not run.report().ended
    assert terminal.lines[-1] == ["work", "1", "4"]
    assert run.steps[0].completed == 9


async def test_a_terminal_that_goes_away_does_no_harm(autojump_clock: MockClock) -> None:
    """If the terminal goes away, the drawing ends, and the run does not."""

    class Gone(StringIO):
        def write(self, text: str) -> int:
            raise OSError("gone")

    terminal = Terminal()
    terminal.console = Console(file=Gone(), force_terminal=True)
    run = await show(terminal, PIPELINE)
    assert run.steps[0].completed == 2


async def test_a_pace_of_nothing_is_refused() -> None:
    """A pace of 0 would never let other tasks run."""
    async with amap(takes(0), [1]) as results:
        with pytest.raises(ValueError, match="every must be more than 0 seconds, not 0"):
            await show_progress(results, every=0)


async def test_by_default_it_is_on_standard_error(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """The progress is on standard error; standard output is for what the program prints."""
    async with trio.open_nursery() as nursery:
        run = await nursery.start(PIPELINE.run)
        nursery.start_soon(show_progress, run)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "fails_on_odd" in captured.err
