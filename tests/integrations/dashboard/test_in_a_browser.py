"""The page of a running program, in a real browser."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from testkit.dashboards import (
    MARKUP,
    REBOUND,
    TOKEN,
    Program,
    Scheme,
    Watch,
    legible,
    running,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

sync_api = pytest.importorskip("playwright.sync_api", reason="drives a real browser")
expect = sync_api.expect

pytestmark = pytest.mark.slow


def card(page: Page, name: str) -> Locator:
    return page.get_by_role("article", name=f"Limiter {name}", exact=True)


def received(page: Page) -> str:
    return page.get_by_role("row", name="fetch").get_by_role("cell").first.inner_text()


def test_a_running_pipeline_moves(page: Page) -> None:
    """Charts, counts and errors of the work are there, and are updated automatically."""
    expect(page.locator("article canvas")).to_have_count(3)
    expect(page.get_by_role("status").first).to_have_text("live")
    before = received(page)
    expect(page.get_by_role("row", name="fetch").get_by_role("cell").first).not_to_have_text(before)
    expect(card(page, "api").locator(".limits")).to_contain_text("tokens are in use")
    assert page.title() == "crawler"


def test_errors_are_shown_as_text(page: Page) -> None:
    """Markup in the text of an error stays text."""
    expect(page.locator("#errors")).to_contain_text(MARKUP)
    assert page.locator("#errors img").count() == 0


def test_down_lowers_the_limit(page: Page, program: Program) -> None:
    """A click lowers the limit of the running program within a second, and the reason appears."""
    before = program.limit("api")
    button = card(page, "api").get_by_role("button", name="Down")
    button.click()
    clicked = time.monotonic()
    while program.limit("api") >= before:
        assert time.monotonic() - clicked < 1
    why = f"{before} to {program.limit('api')}: a signal down (by page)"
    expect(card(page, "api").locator(".why")).to_contain_text(why, timeout=1000)
    expect(page.locator("#log")).to_contain_text(f"api: {why}")
    expect(page.locator("#notice")).to_have_text(f"api: {why}")


def test_the_keyboard_suffices(page: Page, program: Program) -> None:
    """With keys alone, a limit is set with a note, paused, resumed and released."""
    database = card(page, "database")
    database.get_by_role("button", name="Pause").focus()
    page.keyboard.press("Enter")
    expect(database.locator(".limits")).to_have_text("It is paused: nothing begins.")
    page.keyboard.press("Enter")
    expect(database.locator(".why")).to_contain_text("resumed")
    page.keyboard.press("Tab")
    page.keyboard.type("3")
    page.keyboard.press("Tab")
    page.keyboard.type("slow disk")
    page.keyboard.press("Enter")
    expect(database.locator(".why")).to_contain_text("slow disk")
    assert program.limit("database") == 3
    database.get_by_role("button", name="Release").press("Enter")
    expect(database.get_by_role("button", name="Release")).to_be_hidden()
    expect(database.get_by_label("Limit", exact=True)).to_be_focused()
    assert program.limit("database") == 8


def test_search(page: Page) -> None:
    """Only limiters with the search text in their names are shown."""
    expect(page.get_by_role("article")).to_have_count(3)
    page.get_by_role("searchbox").fill("DATA")
    expect(page.get_by_role("article")).to_have_count(1)
    expect(card(page, "database").locator("canvas")).to_be_visible()


def test_a_wrong_token(browser: Browser, program: Program) -> None:
    """Nothing is shown and nothing can be changed, until the right token is entered."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{program.url}#token=wrong")
        expect(page.get_by_role("status").first).to_have_text("this token is not accepted")
        assert page.get_by_role("article").count() == 0
        assert "crawl" not in page.locator("body").inner_text()
        assert page.get_by_role("button").all_inner_texts() == ["Enter"]
        page.get_by_label("Token").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page.get_by_role("article")).to_have_count(3)
        expect(page.get_by_label("Token")).to_be_hidden()
        assert TOKEN not in page.url


def test_a_token_that_has_changed(page: Page, program: Program, watch: Watch) -> None:
    """An order with an outdated token changes nothing, and the page says so."""
    expect(page.get_by_role("article")).to_have_count(3)
    page.evaluate("sessionStorage.setItem('token', 'old')")
    before = program.limit("api")
    with page.expect_response(lambda reply: reply.status == 401):
        card(page, "api").get_by_role("button", name="Down").click()
    expect(page.locator("#notice.bad")).to_contain_text("this needs the token")
    assert program.limit("api") == before
    [refused] = watch.errors
    assert "401" in refused
    watch.errors.clear()


def test_old_news_is_marked(browser: Browser, program: Program) -> None:
    """When a program stops answering, the last values are marked until it answers again."""
    with browser.new_context() as context:
        page = context.new_page()
        page.clock.install()
        page.goto(program.address)
        expect(page.get_by_role("status").first).to_have_text("live")
        program.process.send_signal(signal.SIGSTOP)
        try:
            page.clock.fast_forward(6000)
            expect(page.get_by_role("status").first).to_contain_text("not live: this was the state")
            expect(page.locator("body.stale article")).to_have_count(3)
        finally:
            program.process.send_signal(signal.SIGCONT)
        expect(page.get_by_role("status").first).to_have_text("live")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_it(
    browser: Browser, program: Program, width: int, scheme: Scheme
) -> None:
    """axe finds no fault in it, and nothing is wider than the window."""
    with legible(browser, program, scheme, width) as page:
        expect(page.locator("article canvas")).to_have_count(3)
        expect(card(page, "api").locator(".limits")).not_to_be_empty()


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[int]:
    """The port of another web server on this machine."""

    class Hostile(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>hostile</title><body>")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hostile) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


ATTACK = """async ([url, token]) => {
  const headers = { authorization: `Bearer ${token}` };
  const tried = [
    fetch(url + "api/v1/limiters", { headers }),
    fetch(url + "api/v1/limiters/api", { method: "PATCH", headers, body: '{"limit": 1}' }),
    fetch(url + "api/v1/limiters/api/down", { method: "POST", body: "{}" }),
    fetch(url + "api/v1/limiters/api/down", { method: "POST", mode: "no-cors", body: "{}" }),
    fetch(url),
  ];
  const frame = document.createElement("iframe");
  frame.src = url + "#token=" + token;
  const loaded = new Promise(done => frame.onload = done);
  document.body.append(frame);
  await loaded;
  const outcomes = await Promise.allSettled(tried);
  return outcomes.map(outcome => outcome.reason?.name ?? outcome.value.type);
}"""


@pytest.mark.parametrize("name", ["127.0.0.1", REBOUND])
def test_a_hostile_page(browser: Browser, program: Program, elsewhere: int, name: str) -> None:
    """A page of another origin reads, changes and frames nothing, even with the right token."""
    url = program.url.replace("127.0.0.1", name)
    before = program.limit("api")
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"http://{REBOUND}:{elsewhere}/")
        outcomes = page.evaluate(ATTACK, [url, TOKEN])
        assert outcomes[:3] == ["TypeError"] * 3
        assert set(outcomes[3:]) <= {"TypeError", "opaque"}
        [framed] = page.frames[1:]
        framed.wait_for_url("chrome-error:**")
    assert program.limit("api") == before


def test_a_rebound_name(browser: Browser, program: Program) -> None:
    """Under another name that points to this machine there is no page, and so no token either."""
    with browser.new_context() as context:
        page = context.new_page()
        reply = page.goto(program.address.replace("127.0.0.1", REBOUND))
        assert reply is not None
        assert reply.status == 400
        assert page.evaluate("sessionStorage.length") == 0


def test_charts_that_were_changed(browser: Browser, tmp_path: Path) -> None:
    """If the files that draw charts differ from the examined ones, the page works without them."""
    vendor = tmp_path / "youplot" / "vendor"
    vendor.mkdir(parents=True)
    (tmp_path / "youplot" / "__init__.py").touch()
    for name in ("uplot.iife.min.js", "uplot.min.css"):
        (vendor / name).write_text("fetch('/stolen')")
    with running(tmp_path, str(tmp_path)) as program, browser.new_context() as context:
        watch = Watch(program.url)
        page = watch.over(context.new_page())
        page.goto(program.address)
        expect(card(page, "api").locator(".limits")).to_contain_text("tokens are in use")
        card(page, "api").get_by_role("button", name="Down").click()
        expect(card(page, "api").locator(".why")).to_contain_text("signal down")
        assert page.locator("canvas").count() == 0
        assert page.request.get(f"{program.url}uplot.iife.min.js").status == 404
        assert (watch.errors, watch.elsewhere) == ([], [])
