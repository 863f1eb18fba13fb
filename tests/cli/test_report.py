"""``turnstile report``: what was recorded, in a terminal and as a page."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from testkit.pipelines import into
from trio_turnstile import (
    Consumer,
    Limiter,
    Processor,
    Producer,
    SetLimit,
    Skip,
    Throttle,
    Turnstile,
    open_turnstile,
)
from trio_turnstile.cli._report_chart import Curve, chart, nice
from trio_turnstile.cli._report_text import sparkline
from trio_turnstile.integrations.statistics import Recording, record_statistics


def record(main: Callable[[Turnstile], Any], name: str = "night") -> None:
    """Record a turnstile, in ``turnstile.db``; time stands still while that is written."""
    clock = MockClock()

    async def recorded() -> None:
        async with (
            open_turnstile(name=name) as turnstile,
            record_statistics(turnstile, every=1e6) as recording,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(write, recording)
            clock.autojump_threshold = 0
            await main(turnstile)
            clock.autojump_threshold = math.inf
            nursery.cancel_scope.cancel()

    async def write(recording: Recording) -> None:
        while True:
            await trio.sleep(10)
            clock.autojump_threshold = math.inf
            await recording.flush()
            clock.autojump_threshold = 0

    trio.run(recorded, clock=clock)


async def fetch(number: int) -> int:
    await trio.sleep(1)
    if number % 10 == 0:
        raise OSError(f"<script>{number}</script>")
    return number


async def store(number: int) -> None:
    await trio.sleep(0.1)


async def limited(turnstile: Turnstile) -> None:
    """A pipeline that its limiter holds up."""
    api = turnstile.limiter("api <1>", 4, throttle=Throttle(hold=0))
    db = turnstile.limiter("db", 50)
    pipeline = (
        Producer(range(100))
        | Processor(fetch, name="fetch", limiter=api, on_error=[Skip()])
        | Consumer(store, name="store", limiter=db)
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pipeline.run)
        await trio.sleep(10)
        api.down()
        await trio.sleep(10)
        await turnstile.ask("api <1>", SetLimit(3), by="ann", note="the vendor asked")


async def slow_source(turnstile: Turnstile) -> None:
    """A pipeline whose source is slow."""

    async def items() -> Any:
        for number in range(20):
            await trio.sleep(3)
            yield number

    api = turnstile.limiter("api", 8)
    await (Producer(items()) | Consumer(store, limiter=api)).run()


async def slow_step(turnstile: Turnstile) -> None:
    """A pipeline that is held up by a step which has no limiter of its own in the turnstile."""

    async def slow(number: int) -> int:
        await trio.sleep(2)
        return number

    quick, other = turnstile.limiter("quick", 40), Limiter("other", 30)
    await (
        Producer(range(600))
        | Processor(fetch, name="fetch", limiter=quick, window=5, on_error=[Skip()])
        | Processor(slow, name="slow", limiter=other, window=60)
        | Consumer(into([]))
    ).run()


async def idle(turnstile: Turnstile) -> None:
    """Do nothing."""


def test_the_bottleneck_is_told_in_a_sentence(call: Any, here: Path) -> None:
    """It says what moved the limit; then come the limiters, the steps, and the errors."""
    record(limited)
    result = call("report")
    assert (result.status, result.err) == (0, "")
    text = " ".join(result.out.split())
    assert re.search(
        r"The limiter 'api <1>' was the bottleneck: all its tokens were in use \d+% of the "
        r"time\. Its limit was between 2 and 4, moved by signals \(1 times\) and an operator "
        r"\(1 times\)\.",
        text,
    )
    assert "pipeline: ended: 100 of 100 received, 10 failed" in text
    assert "errors: 10 OSError" in text
    assert "fetch 90: OSError('<script>90</script>')" in text


@pytest.mark.parametrize(
    ("main", "sentence"),
    [
        (slow_source, "The source produced items more slowly than the steps took them."),
        (slow_step, "were in the step 'slow': look at that step first."),
        (idle, "Nothing was measured"),
    ],
)
def test_if_no_limiter_was_the_bottleneck_it_is_said_what_was(
    call: Any, here: Path, main: Any, sentence: str
) -> None:
    """The bottleneck is the source, a step, or nothing at all."""
    record(main)
    assert sentence in " ".join(call("report").out.split())


class Page(HTMLParser):
    """The tags of a page, and what they refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = ("src", "href", "action", "data")
        self.references += [str(value) for name, value in attrs if name in names]


def test_the_page_stands_alone(call: Any, here: Path) -> None:
    """It has no links and no scripts, and shows texts from outside as plain text."""
    record(limited, name="night & day")
    result = call("report", "turnstile.db", "--html", "report.html")
    assert (result.status, result.out, result.err) == (0, "", "")
    text = (here / "report.html").read_text()
    page = Page(text)
    assert page.references == []
    assert "script" not in page.tags
    assert page.tags.count("svg") == 3
    assert "default-src 'none'" in text
    assert "<h1>night &amp; day, " in text
    assert "&lt;script&gt;90&lt;/script&gt;" in text
    assert "was the bottleneck" in text
    assert "by ann: the vendor asked" in text
    assert "prefers-color-scheme:dark" in text


def test_the_page_is_small_however_much_was_recorded(call: Any, here: Path) -> None:
    """It has two hours of a thousand limiters, and a thousand long errors."""

    async def much(turnstile: Turnstile) -> None:
        limiters = [turnstile.limiter(f"api{number}", number % 7 + 1) for number in range(200)]
        for number, limiter in enumerate(limiters):
            for borrower in range(number % 5):
                if borrower < limiter.total_tokens:
                    limiter.acquire_on_behalf_of_nowait(borrower)
        await (
            Producer(f"{number} {'x' * 9000}" for number in range(1000))
            | Consumer(refuse, limiter=limiters[0], on_error=[Skip()])
        ).run()
        await trio.sleep(600)

    record(much)
    call("report", "--html", "report.html")
    text = (here / "report.html").read_text()
    assert len(text.encode()) < 1_000_000
    assert "188 less busy limiters are not shown." in text
    assert Page(text).tags.count("svg") >= 12


async def refuse(item: str) -> None:
    await trio.sleep(0.01)
    raise ValueError(item)


def test_one_of_several_runs_is_chosen_by_name_or_id(call: Any, here: Path) -> None:
    """The default is the newest; the error lists the names."""
    record(limited, name="monday")
    record(slow_source, name="tuesday")
    assert call("report").out.startswith("tuesday, ")
    assert call("report", "--run", "monday").out.startswith("monday, ")
    with closing(sqlite3.connect("turnstile.db")) as connection:
        query = "SELECT uuid FROM turnstile_sessions WHERE name = 'monday'"
        ((uuid,),) = connection.execute(query)
    assert call("report", "--run", uuid[:10]).out.startswith("monday, ")
    result = call("report", "--run", "wednesday")
    assert result.status == 2
    assert "no run is named 'wednesday'" in result.err
    assert "there are: pipeline" in result.err


def test_what_is_missing_is_said(call: Any, here: Path) -> None:
    """The report says that a program was killed, and what was dropped."""
    record(limited)
    with closing(sqlite3.connect("turnstile.db")) as connection:
        connection.execute(
            "UPDATE turnstile_sessions SET ended = NULL, dropped_samples = 1234, dropped_events = 5"
        )
        connection.commit()
    out = " ".join(call("report").out.split())
    assert "The recording has no end: the program is still running, or was killed." in out
    assert "1,234 samples are missing" in out
    assert "5 decisions or errors are missing" in out


@pytest.mark.parametrize(
    ("database", "message"),
    [
        ("nothing.db", "there is no file 'nothing.db'"),
        ("mysql://host/db", "statistics are kept in SQLite or PostgreSQL, not in mysql"),
        ("empty.db", "there are no statistics in sqlite:///empty.db"),
        ("text.db", "'text.db' is a file, but not a database"),
        ("postgresql://nobody@127.0.0.1:1/none", "cannot be read: OperationalError"),
    ],
)
def test_a_database_that_cannot_be_read_is_a_plain_message(
    call: Any, here: Path, database: str, message: str
) -> None:
    """The exit status is 2, and there is no traceback."""
    (here / "empty.db").touch()
    (here / "text.db").write_text("no database at all\n" * 100)
    result = call("report", database)
    assert result.status == 2
    assert message in result.err
    assert "Traceback" not in result.err


# ---- parts ----


@pytest.mark.parametrize(
    ("value", "top"), [(0, 1), (1, 1), (1.1, 2), (3, 4), (41, 50), (51, 80), (99, 100)]
)
def test_an_axis_ends_at_a_round_number(value: float, top: float) -> None:
    """It is not less than the highest value."""
    assert nice(value) == top


def test_an_endless_limit_is_not_drawn() -> None:
    """The other curves are drawn."""
    curves = [Curve("limit", [(0, math.inf), (1, math.inf)], stepped=True)]
    assert "<path" not in chart("none", 0, 1, curves)
    assert "<path" in chart("some", 0, 100_000, [Curve("running", [(0, 1), (9, 2)])])


def test_a_sparkline_shows_the_highest_of_each_part() -> None:
    """There is one cell for each value, and there are at most forty."""
    assert sparkline([]) == ""
    assert sparkline([0, 7]) == "▁█"
    assert sparkline([1.0] * 79 + [2.0]) == "▄" * 39 + "█"
