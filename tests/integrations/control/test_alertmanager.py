"""A real Alertmanager moves a limit, and moves it back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from testkit.alertmanager import alertmanager
from testkit.control import TOKEN, program
from trio_turnstile.integrations.control import Rule

RULE = Rule(when={"alertname": "DatabaseBusy"}, limiter="db", firing=2)


async def becomes(value: Callable[[], float], expected: float) -> None:
    with trio.fail_after(30):
        while value() != expected:
            await trio.sleep(0.05)


@pytest.mark.slow
async def test_an_alert_caps_a_limiter_while_it_fires(tmp_path: Path) -> None:
    """The cap holds from start to end of the alert; Alertmanager has the token in its settings."""
    async with program(tmp_path, port=0, token=TOKEN, rules=[RULE]) as running:
        assert running.served.port is not None
        with alertmanager(tmp_path, port=running.served.port, token=TOKEN) as manager:
            alert = {"alertname": "DatabaseBusy", "job": "night"}
            await trio.to_thread.run_sync(manager.tell, alert)
            await becomes(lambda: running.limits["db"], 2)
            [decision] = running.turnstile.limiters["db"].decisions
            assert (decision.by, decision.note) == ("alertmanager", "DatabaseBusy: it is slow")
            await trio.to_thread.run_sync(partial(manager.tell, alert, ended=True))
            await becomes(lambda: running.limits["db"], 5)
