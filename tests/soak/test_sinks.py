"""Programs that store lines, killed at random moments: with tokens, each line is there once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.sink_kills import SinkTrial, kill_and_go_on
from testkit.sinks import Sink, SQLiteSink, postgres_sink
from testkit.soak import FACTOR, name_of, seeds

pytestmark = pytest.mark.slow


@pytest.fixture(params=["sqlite", "postgres"])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sink]:
    """Each of the sinks, with its own database."""
    if request.param == "sqlite":
        yield SQLiteSink(tmp_path)
        return
    with postgres_sink(request.getfixturevalue("postgres"), tmp_path) as made:
        yield made


def trial(seed: int) -> SinkTrial:
    """Return a trial: 20 kills of 10,000 orders in the soak, and fewer in a normal test run."""
    size = min(10, FACTOR)
    return SinkTrial(seed, orders=1000 * size, added=100, kills=2 * size)


# The soak runs ten of the long trials for each sink.
PARTS = seeds(1)[:10]


@pytest.mark.parametrize("part", PARTS, ids=name_of)
def test_with_tokens_each_line_is_stored_once(part: range, sink: Sink, tmp_path: Path) -> None:
    """No line is lost, and none is there twice."""
    stored = kill_and_go_on(trial(part[0]), sink, sink.program, tmp_path)
    assert (stored.lost, stored.doubled) == (0, 0)
    assert stored.killed > 0


@pytest.mark.parametrize("part", PARTS, ids=name_of)
def test_without_tokens_each_line_is_stored_at_least_once(
    part: range, sink: Sink, tmp_path: Path
) -> None:
    """A program that does not check the marks loses nothing, either."""
    program = tmp_path / "forgets.py"
    before, after = sink.forgets
    text = sink.program.read_text()
    assert before in text
    program.write_text(text.replace(before, after))
    stored = kill_and_go_on(trial(part[0]), sink, program, tmp_path)
    assert stored.lost == 0
    assert stored.killed > 0
