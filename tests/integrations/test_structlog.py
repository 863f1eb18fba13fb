"""Events logged with structlog."""

from __future__ import annotations

from typing import Any

import structlog
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from trio_turnstile import Scalable, SetLimit, Throttle, open_turnstile, run_phases
from trio_turnstile.integrations.structlog import log_events


async def test_decisions_are_logged_with_their_reasons(autojump_clock: MockClock) -> None:
    """Changes are logged at info and refusals at debug, with the author and the evidence."""
    with capture_logs() as logs:
        async with open_turnstile(observers=[log_events()]) as turnstile:
            api = turnstile.limiter("api", 10, throttle=Throttle(hold=60))
            api.down()
            await trio.sleep(1)
            api.down()
            await trio.sleep(1)
            await turnstile.ask("api", SetLimit(3), by="ann", note="night")
    changed, kept, override = logs
    assert changed == {
        "event": "limit changed",
        "log_level": "info",
        "limiter": "api",
        "before": 10,
        "after": 8,
        "reason": "signal",
        "signal": "down",
        "evidence_cap": 8,
    }
    assert (kept["event"], kept["log_level"], kept["reason"]) == ("limit kept", "debug", "holding")
    assert kept["evidence_hold_left"] == 59
    assert (override["by"], override["note"], override["after"]) == ("ann", "night", 3)


async def test_runs_and_errors_are_logged(autojump_clock: MockClock) -> None:
    """A logger of one's own may be used, with the values bound to it."""

    class Job(Scalable):
        identifiers = ("job", "7")

        async def work(self, channels: Any) -> None:
            raise OSError("disk full")

    with capture_logs() as logs:
        logger = structlog.get_logger().bind(service="night")
        async with open_turnstile(observers=[log_events(logger)]) as turnstile:
            await run_phases([Job()], limiter=turnstile.limiter("jobs", 1), name="align")
    opened, noted, closed = logs
    assert {each["service"] for each in logs} == {"night"}
    assert {each["run"] for each in logs} == {"align"}
    assert (opened["event"], opened["kind"]) == ("run opened", "phases")
    assert (noted["event"], noted["log_level"], noted["step"]) == ("error noted", "warning", "work")
    assert noted["identifiers"] == ["job", "7"]
    assert "disk full" in noted["error"]
    assert (closed["event"], closed["errors"], closed["id"]) == ("run closed", 1, opened["id"])
