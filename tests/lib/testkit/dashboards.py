"""A program that runs in a process of its own, and its page in a browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final
from urllib.request import Request, urlopen

import attrs
import pytest

from testkit import dashboard_program

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Scheme: TypeAlias = Literal["light", "dark"]
"""The colour scheme of a page."""

TOKEN = "sesame"
MARKUP = "<img src=x onerror=document.title='taken'>"
"""Text that the errors of the program contain."""

REBOUND = "evil.example"
"""A host name that an attacker has pointed to this machine."""


@final
@attrs.frozen
class Program:
    """A program whose page is served."""

    process: subprocess.Popen[str]
    address: str
    """The URL of its page, with the token."""

    @property
    def url(self) -> str:
        """The URL of its page."""
        return self.address.partition("#")[0]

    def limit(self, name: str) -> int:
        """Ask the program itself for the limit of a limiter."""
        asked = Request(
            f"{self.url}api/v1/limiters/{name}", headers={"authorization": f"Bearer {TOKEN}"}
        )
        with urlopen(asked, timeout=10) as reply:
            limit: int = json.load(reply)["limit"]
        return limit


@contextmanager
def running(folder: Path, search: str = "", *more: str) -> Iterator[Program]:
    """Run a program that looks for packages first in the folder ``search``."""
    path = os.pathsep.join([search, *filter(None, sys.path)])
    with subprocess.Popen(
        [sys.executable, dashboard_program.__file__, TOKEN, str(folder / "s.sock"), MARKUP, *more],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield Program(process, process.stdout.readline().strip())
        finally:
            process.kill()


@final
@attrs.define(slots=False)  # playwright keeps its handlers in the instance
class Watch:
    """The things a page did that it must not do."""

    url: str
    errors: list[str] = attrs.field(factory=list)
    elsewhere: list[str] = attrs.field(factory=list)

    def over(self, page: Page) -> Page:
        """Watch a page."""
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._console)
        page.on("request", self._request)
        return page

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _request(self, request: Any) -> None:
        if not request.url.startswith(self.url):
            self.elsewhere.append(request.url)


@contextmanager
def legible(browser: Browser, program: Program, scheme: Scheme, width: int) -> Iterator[Page]:
    """Open the page of a program, ``width`` pixels wide, and check it when the block ends.

    The checks are that axe finds no fault, and that nothing is wider than the window.
    """
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe")
    with browser.new_context(color_scheme=scheme, bypass_csp=True) as context:
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(program.address)
        yield page
        assert axe.Axe().run(page).generate_report() == "Found 0 accessibility violations:\n"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
