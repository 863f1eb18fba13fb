"""A program that works, and a real browser that opens its page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from testkit.dashboards import REBOUND, Program, Watch, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A program that works."""
    with running(tmp_path_factory.mktemp("program")) as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser, in which an attacker's host name points to this machine."""
    playwright = pytest.importorskip("playwright.sync_api", reason="drives a real browser")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no chromium")
    with playwright.sync_playwright() as driver:
        options = ["--no-sandbox", f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"]
        launched = driver.chromium.launch(executable_path=chromium, args=options)
        yield launched
        launched.close()


@pytest.fixture
def watch(program: Program) -> Watch:
    """The unwanted things that the page did; empty if all is well."""
    return Watch(program.url)


@pytest.fixture
def page(browser: Browser, program: Program, watch: Watch) -> Iterator[Page]:
    """The page, opened with the token. It must cause no error and contact nobody else."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        opened = watch.over(context.new_page())
        opened.goto(program.address)
        yield opened
    assert (watch.errors, watch.elsewhere) == ([], [])
