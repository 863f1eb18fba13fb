"""A program that runs in a process of its own, and what a page of it does in a browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, final
from urllib.request import Request, urlopen

import attrs

from testkit import dashboard_program

if TYPE_CHECKING:
    from playwright.sync_api import Page

TOKEN = "sesame"
MARKUP = "<img src=x onerror=document.title='taken'>"
"""What stands in the errors of the program."""

REBOUND = "evil.example"
"""A name that an attacker lets point to this machine."""


@final
@attrs.frozen
class Program:
    """A program whose page is served."""

    process: subprocess.Popen[str]
    address: str
    """Where its page is, with the token."""

    @property
    def url(self) -> str:
        """Where its page is."""
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
    """Run a program, which looks for packages in a folder first."""
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
    """What a page did that nobody wants."""

    url: str
    errors: list[str] = attrs.field(factory=list)
    elsewhere: list[str] = attrs.field(factory=list)

    def over(self, page: Page) -> Page:
        """Watch over a page."""
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
