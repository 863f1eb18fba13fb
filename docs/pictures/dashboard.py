"""Photograph the page of a running program, light and dark, wide and narrow.

``python docs/pictures/dashboard.py`` writes ``docs/images/dashboard_*.png``. It needs the extra
``test`` and Chromium. No two photographs are the same, so no test compares them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Scheme = Literal["light", "dark"]

SCHEMES: tuple[Scheme, Scheme] = ("light", "dark")

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
PROGRAM = ROOT / "tests" / "lib" / "testkit" / "dashboard_program.py"


def steer(page: Page) -> None:
    """Do what an operator does, so that there is something to see."""
    page.wait_for_timeout(15_000)
    api = page.get_by_role("article", name="Limiter api", exact=True)
    for _ in range(2):
        api.get_by_role("button", name="Down").click()
        page.wait_for_timeout(4_000)
    database = page.get_by_role("article", name="Limiter database", exact=True)
    database.get_by_label("Limit", exact=True).fill("5")
    database.get_by_label("Note").fill("a backup is running")
    database.get_by_role("button", name="Set").click()
    page.wait_for_timeout(12_000)


def photograph(browser: Browser, address: str, scheme: Scheme, width: int) -> None:
    """Write one picture."""
    with browser.new_context(color_scheme=scheme) as context:
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(address)
        page.wait_for_timeout(3_000)
        page.screenshot(path=IMAGES / f"dashboard_{scheme}_{width}.png", full_page=True)


def main() -> None:
    """Start a program, steer it, and photograph its page."""
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, PROGRAM, "sesame", f"{folder}/s.sock"],
            stdout=subprocess.PIPE,
            text=True,
        ) as program,
        sync_playwright() as playwright,
    ):
        assert program.stdout is not None
        address = program.stdout.readline().strip()
        chromium = playwright.chromium
        browser = chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(address)
        steer(page)
        for scheme, width in product(SCHEMES, (1280, 390)):
            photograph(browser, address, scheme, width)
        browser.close()
        program.kill()


if __name__ == "__main__":
    main()
