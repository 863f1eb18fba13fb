"""Draw the pictures of the documentation, or check that they are up to date.

``python docs/pictures/draw.py`` draws them all; names draw some of them. With ``--check``
nothing is written, and the command fails when a picture in ``docs/images`` is not what the
scripts draw now.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import phases
import pipeline
import signal_way
import window
import wings

IMAGES = Path(__file__).parents[1] / "images"

PICTURES: dict[str, Callable[[], str]] = {
    "phases": phases.draw,
    "pipeline": pipeline.draw,
    "signal": signal_way.draw,
    "window": window.draw,
    "wings": wings.draw,
}
"""For each picture, the function that returns the SVG file."""


def is_current(path: Path, drawn: str) -> bool:
    """Tell whether the file holds what was drawn."""
    return path.is_file() and path.read_text(encoding="utf-8") == drawn


def write(path: Path, drawn: str) -> None:
    """Write the file, with the same line ends on every system."""
    path.write_text(drawn, encoding="utf-8", newline="\n")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PICTURES))
    parser.add_argument("--check", action="store_true", help="write nothing; fail on a difference")
    parser.add_argument("--images", type=Path, default=IMAGES, help="the directory of the pictures")
    options = parser.parse_args()
    unknown = set(options.names) - PICTURES.keys()
    if unknown:
        parser.error(f"no picture is named {', '.join(sorted(unknown))}")
    return options


def main() -> int:
    """Draw or check the pictures; return the exit status."""
    options, outdated = parse(), 0
    for name in options.names or PICTURES:
        path, drawn = options.images / f"{name}.svg", PICTURES[name]()
        if not options.check:
            write(path, drawn)
        elif not is_current(path, drawn):
            outdated += 1
            print(f"{path.name} is out of date: run python docs/pictures/draw.py {name}")
    return int(outdated > 0)


if __name__ == "__main__":
    sys.exit(main())
