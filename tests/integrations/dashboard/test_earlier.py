"""The records from before a program started, on its page in a real browser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from testkit.dashboards import Program, Scheme, Watch, legible, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request, Route

sync_api = pytest.importorskip("playwright.sync_api", reason="drives a real browser")
expect = sync_api.expect

pytestmark = pytest.mark.slow

DAY = 86_400

KEEP_PLOTS = """
window.plots = [];
let made;
Object.defineProperty(window, "uPlot", { get: () => made, set(Plot) {
  made = Object.assign(function (...all) { return plots[plots.push(new Plot(...all)) - 1]; }, Plot);
} });
"""
"""Keeps the data that uPlot draws where a test can read it."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A program with records of earlier runs."""
    with running(tmp_path_factory.mktemp("recorded"), "", "recorded") as started:
        yield started


@pytest.fixture
def charts(browser: Browser, recorded: Program) -> Iterator[Page]:
    """The page of the program, which must cause no error."""
    watch = Watch(recorded.url)
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        opened = watch.over(context.new_page())
        opened.add_init_script(KEEP_PLOTS)
        opened.goto(recorded.address)
        expect(opened.locator("article canvas")).to_have_count(3)
        yield opened
    assert watch.errors == []


def data_of(page: Page, place: int = 0) -> Any:
    """Return the times, running, waiting, ceiling and limit of a chart."""
    return page.evaluate(f"plots[{place}].data")


def begins_between(page: Page, longest: float, shortest: float) -> None:
    """Wait until the first chart begins a given number of seconds ago."""
    deadline = time.monotonic() + 10
    while not ((times := data_of(page)[0]) and shortest <= time.time() - times[0] <= longest + 30):
        assert time.monotonic() < deadline, times[:3]
        page.wait_for_timeout(50)


def asks_since(request: Request) -> bool:
    return "/limiters/api/history" in request.url and "since=" in request.url


def test_earlier_runs_are_drawn(charts: Page) -> None:
    """Earlier runs are drawn with gaps between them if chosen, and disappear again if not."""
    choice = charts.get_by_label("Charts")
    with charts.expect_response(lambda reply: asks_since(reply.request)):
        choice.select_option(label="of the last day")
    begins_between(charts, DAY, DAY - 60)
    times, running, waiting, ceiling, limit = data_of(charts)
    assert times == sorted(times)
    assert times[-1] > time.time() - 60
    gaps = [at for at, value in enumerate(running) if value is None]
    assert len(gaps) == 2
    assert all(waiting[at] is None and limit[at] is None for at in gaps)
    assert set(ceiling) <= {20, None}
    assert 200 < len(times) < 300
    choice.select_option(label="of this run")
    begins_between(charts, DAY / 2, 0)
    assert None not in data_of(charts)[1]


def test_what_cannot_be_read_is_told(charts: Page) -> None:
    """The reason is shown, while the chart has the samples in memory."""
    charts.get_by_label("Charts").select_option(label="of the last week")
    expect(charts.locator("#notice.bad")).to_have_text(
        "older samples could not be read: the disk is gone"
    )
    begins_between(charts, 7 * DAY, 6 * DAY)
    assert data_of(charts, 2)[0][0] > time.time() - DAY
    charts.get_by_label("Charts").select_option(label="of this run")
    expect(charts.locator("#notice")).to_be_empty()


def test_the_past_is_read_again(charts: Page, recorded: Program) -> None:
    """The page reads the past again before the chart drops its oldest part; here after 2 s."""

    def hurry(route: Route) -> None:
        text = route.fetch().text()
        assert "AGAIN = 400;" in text
        route.fulfill(
            body=text.replace("AGAIN = 400;", "AGAIN = 2;"), content_type="text/javascript"
        )

    charts.route("**/page.js", hurry)
    charts.reload()
    with charts.expect_request(asks_since):
        charts.get_by_label("Charts").select_option(label="of the last hour")
    with charts.expect_request(asks_since):
        pass


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_choose(
    browser: Browser, recorded: Program, width: int, scheme: Scheme
) -> None:
    """axe finds no fault in the page with the choice, and nothing is wider than the window."""
    with legible(browser, recorded, scheme, width) as page:
        expect(page.locator("article canvas")).to_have_count(3)
        with page.expect_response(lambda reply: asks_since(reply.request)):
            page.get_by_label("Charts").select_option(label="of the last day")


def test_without_records_there_is_no_choice(page: Page) -> None:
    """Without records the page can show only what the program has in memory."""
    expect(page.get_by_role("article")).to_have_count(3)
    expect(page.locator("#ranges")).to_be_hidden()
