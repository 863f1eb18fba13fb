"""The files of the page, as they are served."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

import pytest

from testkit.control import program
from trio_turnstile.integrations import dashboard


async def test_the_page_is_served_without_a_token(tmp_path: Path) -> None:
    """The page shows nothing of the program, so anybody may have it; nothing else is there."""
    async with program(tmp_path, port=0, token="sesame", page=dashboard.make_page) as served:
        page = await served.stranger.ask("GET", "/")
        assert page.status == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "demo" not in str(page.body)
        for name in ("page.js", "chart.js", "page.css", "icon.svg"):
            assert (await served.stranger.ask("GET", f"/{name}")).status == 200
        for name in ("secrets.txt", "__init__.py", "..%2F_page.py"):
            assert (await served.stranger.ask("GET", f"/{name}")).status == 404


async def test_charts_come_from_the_package(tmp_path: Path) -> None:
    """The code that draws the charts is served byte for byte as the package has it."""
    async with program(tmp_path, port=0, token="sesame", page=dashboard.make_page) as served:
        reply = await served.stranger.ask("GET", "/uplot.iife.min.js")
        vendor = files("youplot").joinpath("vendor", "uplot.iife.min.js").read_bytes()
        assert reply.body == vendor
        assert "uplot" in str((await served.stranger.ask("GET", "/")).body)


async def page_without_charts(folder: Path) -> None:
    async with program(folder, port=0, token="sesame", page=dashboard.make_page) as served:
        page = await served.stranger.ask("GET", "/")
        assert page.status == 200
        assert "page.js" in str(page.body)
        assert "uplot" not in str(page.body)
        for name in ("uplot.iife.min.js", "uplot.min.css"):
            assert (await served.stranger.ask("GET", f"/{name}")).status == 404


async def test_a_changed_file_is_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If one of the files differs from the examined one, none is served, and the log says which."""
    vendor = files("youplot").joinpath("vendor")
    changed = tmp_path / "youplot" / "vendor"
    changed.mkdir(parents=True)
    (changed.parent / "__init__.py").touch()
    for name in ("uplot.iife.min.js", "uplot.min.css"):
        (changed / name).write_bytes(vendor.joinpath(name).read_bytes())
    with (changed / "uplot.min.css").open("ab") as file:
        file.write(b" ")
    monkeypatch.delitem(sys.modules, "youplot", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    await page_without_charts(tmp_path)
    assert "uplot.min.css is not the file that we examined" in caplog.text


async def test_without_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The page is served without charts, and the log names the extra."""
    monkeypatch.setitem(sys.modules, "youplot", None)
    await page_without_charts(tmp_path)
    assert "youplot is not installed, see the extra dashboard" in caplog.text


def test_the_address_keeps_the_token_from_the_server() -> None:
    """The token stands behind the ``#``, and may be any text."""
    assert dashboard.address(80, "a b&c/#") == "http://127.0.0.1:80/#token=a%20b%26c%2F%23"
