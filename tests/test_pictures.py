"""The pictures of the documentation are what the scripts draw now, and are legible."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree as ET

import pytest

import trio_turnstile

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "docs" / "pictures"
IMAGES = ROOT / "docs" / "images"
NAMES = ["phases", "pipeline", "signal", "window", "wings"]


def draw(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the script that draws, with the package under test."""
    package = Path(trio_turnstile.__file__).parents[1]
    return subprocess.run(
        [sys.executable, SCRIPTS / "draw.py", *arguments],
        env={**os.environ, "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with all pictures, as the scripts draw them now."""
    images = tmp_path_factory.mktemp("images")
    result = draw("--images", images)
    assert (result.stderr, result.returncode) == ("", 0)
    return images


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function that imports one of the scripts, which belong to no package."""
    monkeypatch.syspath_prepend(SCRIPTS)
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(SCRIPTS)):
            del sys.modules[name]


# ---- the files ----


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_what_its_script_draws(name: str, drawn: Path) -> None:
    """If this fails, ``python docs/pictures/draw.py`` brings the picture up to date."""
    committed = (IMAGES / f"{name}.svg").read_text(encoding="utf-8")
    assert committed == (drawn / f"{name}.svg").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_picture_has_a_script(drawn: Path) -> None:
    """No picture is drawn by hand, and none is missing."""
    names = [f"{name}.svg" for name in NAMES]
    assert sorted(path.name for path in IMAGES.glob("*.svg")) == names
    assert sorted(path.name for path in drawn.iterdir()) == names


@pytest.mark.slow
def test_check_names_the_pictures_that_differ(tmp_path: Path) -> None:
    """A picture that was changed or is missing fails the check; nothing is written."""
    (tmp_path / "wings.svg").write_text("<svg/>")
    result = draw("wings", "phases", "--check", "--images", tmp_path)
    assert result.returncode == 1
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == [
        "wings.svg is out of date",
        "phases.svg is out of date",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["wings.svg"]


@pytest.mark.slow
def test_check_passes_when_nothing_differs(drawn: Path) -> None:
    """A second run draws the same bytes."""
    result = draw("--check", "--images", drawn)
    assert (result.stdout, result.returncode) == ("", 0)


@pytest.mark.slow
def test_an_unknown_picture_is_refused(tmp_path: Path) -> None:
    """The command says which name it does not know."""
    result = draw("wing", "--images", tmp_path)
    assert result.returncode == 2
    assert result.stderr.endswith("no picture is named wing\n")


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_says_what_it_shows_and_follows_the_colour_scheme(name: str) -> None:
    """A picture is well-formed, with a title, a description, a panel, and rules for dark."""
    text = (IMAGES / f"{name}.svg").read_text(encoding="utf-8")
    image = ET.fromstring(text)
    tags = {element.tag.removeprefix("{http://www.w3.org/2000/svg}") for element in image}
    assert {"title", "desc", "style"} <= tags
    assert image.get("role") == "img"
    assert '<rect class="panel"' in text
    assert "@media (prefers-color-scheme: dark)" in text


# ---- legibility ----


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, as WCAG 2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_standard() -> None:
    """Black on white has the greatest contrast that exists: 21."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize(("scheme", "shade"), [("LIGHT", 0), ("DARK", 1)])
def test_text_and_edges_can_be_seen_in_both_schemes(scheme: str, shade: int, script: Any) -> None:
    """Text has a contrast of at least 4.5 with its background, and edges of boxes have 3."""
    svg = script("svg")
    inks = getattr(svg, scheme)
    grounds = [inks["panel"], *(shades[shade][0] for shades in svg.COLOURS.values())]
    for ink, ground in product((inks["ink"], inks["soft"]), grounds):
        assert contrast(ink, ground) >= 4.5, (ink, ground)
    for name, shades in svg.COLOURS.items():
        assert contrast(shades[shade][1], inks["panel"]) >= 3, name


# ---- what the pictures show ----


def said(wings: ModuleType, table: dict[str, set[str]]) -> dict[str, set[str]]:
    """Read the arrows as the legend says, and return the table that they represent."""
    arrows = wings.arrows(table)
    far = wings.through(table)
    return {w: wings.reachable(arrows, w) if w in far else arrows[w] for w in table}


def test_the_arrows_between_wings_say_what_the_table_says(script: Any) -> None:
    """The arrows that are left out follow from the others, and none is lost."""
    wings = script("wings")
    table = wings.may_import()
    assert said(wings, table) == table
    assert sum(map(len, wings.arrows(table).values())) < sum(map(len, table.values()))


def test_a_wing_that_may_not_import_all_below_it_keeps_its_arrows(script: Any) -> None:
    """The arrows of such a wing cannot be left out."""
    wings = script("wings")
    table = {"a": {"b", "c"}, "b": {"c", "d"}, "c": {"d"}, "d": set[str]()}
    assert wings.arrows(table) == {"a": {"b", "c"}, "b": {"c"}, "c": {"d"}, "d": set()}
    assert said(wings, table) == table


def test_arrows_lead_down_and_cross_as_little_as_can_be(script: Any) -> None:
    """Rows are ordered so that two arrows do not cross unless they must."""
    layers = script("layers")
    rows, pieces = layers.spots({"a": {"y"}, "b": {"x"}, "x": set(), "y": set()})
    assert rows == [("a", "b"), ("x", "y")]
    assert layers.crossings(*rows, pieces) == 1
    assert layers.crossings(*layers.ordered(rows, pieces), pieces) == 0


def test_an_arrow_over_several_rows_is_straight_and_clear_of_boxes(script: Any) -> None:
    """The bends of an arrow are in one line, and the boxes beside it keep their distance."""
    layers = script("layers")
    graph = {"a": {"b", "z"}, "b": {"c", "d"}, "c": {"z"}, "d": {"z"}, "z": set[str]()}
    rows, pieces = layers.spots(graph)
    width = {spot: 100.0 if isinstance(spot, str) else 10.0 for row in rows for spot in row}
    at = layers.places(rows, pieces, width, 20)
    bends = [spot for spot in at if isinstance(spot, tuple)]
    assert len(bends) == 2
    assert len({at[bend] for bend in bends}) == 1
    assert all(abs(at[bend] - at[box]) >= 75 for bend, box in product(bends, "bcd"))


def test_the_second_operation_begins_when_the_monitor_of_the_first_ends(script: Any) -> None:
    """The token of the first operation is free by then, although its clean-up still runs."""
    spans, tokens = script("phases").record()
    begin = {(name, phase): begin for name, phase, begin, _ in spans}
    end = {(name, phase): end for name, phase, _, end in spans}
    assert begin["second", "prepare"] == end["first", "monitor"] < end["first", "cleanup"]
    assert tokens == [
        (0, ["first"]),
        (end["first", "monitor"], ["second"]),
        (end["second", "monitor"], []),
    ]


def test_the_window_fills_for_two_reasons(script: Any) -> None:
    """While the service refuses, items back off; while the next step is slow, they wait for it."""
    window = script("window")
    steps = window.record()
    assert max(held.running for _, held in steps) == window.LIMIT
    assert max(sum(held) for _, held in steps) == window.WINDOW
    for field, (begin, end) in (("waiting", window.REFUSES), ("passing_on", window.SLOW)):
        within = [held for time, held in steps if begin <= time < end]
        full = [held for held in within if sum(held) == window.WINDOW]
        assert any(getattr(held, field) >= window.WINDOW - window.LIMIT for held in full)
    assert sum(steps[-1][1]) == 0


def test_the_record_of_the_window_does_not_depend_on_the_order_of_tasks(script: Any) -> None:
    """trio runs the tasks of one moment in random order, but the record is always the same."""
    window = script("window")
    assert all(window.record() == window.record() for _ in range(5))


def test_the_steps_that_need_nothing_are_fused_to_the_one_before(script: Any) -> None:
    """The run shows that one task takes an item through both."""
    assert script("pipeline").record() == [["fetch", "parse"], ["resize", "check"], ["upload"]]


def test_the_signal_wakes_the_first_waiter_alone(script: Any) -> None:
    """The signal goes from the thread to trio, where a decision moves the limit from 1 to 2."""
    there, here = script("signal_way").record()
    assert (there[0].sender, there[0].words) == ("your thread", "up()")
    assert (there[-1].receiver, there[-1].words) == ("trio", "run_sync_soon()")
    words = [message.words for message in here]
    answers = [message.words for message in here if message.answer]
    assert answers == ["Decision: 1 \N{RIGHTWARDS ARROW} 2"]
    assert words.index(answers[0]) < words.index("total_tokens = 2")
    woken = [message.receiver for message in here if message.words == "resumes with a token"]
    assert woken == ["first waiter"]
