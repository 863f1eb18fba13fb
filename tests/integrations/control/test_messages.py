"""Messages from outside: what is done, and what is not done and why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from testkit.control import Program, program
from trio_turnstile import Pause, SetLimit
from trio_turnstile.integrations.control import Rule, _messages

BUSY = {"alertname": "DatabaseBusy", "limiter": "db"}


def alert(status: str, labels: dict[str, str] = BUSY, fingerprint: str = "f1") -> dict[str, Any]:
    """Return an alert as Alertmanager 0.25 sends it."""
    return {
        "status": status,
        "labels": labels,
        "annotations": {"summary": "db is busy: 5 running"},
        "startsAt": "2026-11-27T09:09:46.119Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://vm:8841/graph?g0.expr=x&g0.tab=1",
        "fingerprint": fingerprint,
    }


def group(*alerts: dict[str, Any]) -> dict[str, Any]:
    """Return a group of alerts as Alertmanager 0.25 sends it."""
    return {
        "receiver": "turnstile",
        "status": alerts[0]["status"],
        "alerts": list(alerts),
        "groupLabels": {"alertname": "DatabaseBusy"},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://vm:8842",
        "version": "4",
        "groupKey": '{}:{alertname="DatabaseBusy"}',
        "truncatedAlerts": 0,
    }


async def send(running: Program, *alerts: dict[str, Any]) -> tuple[list[Any], list[str]]:
    """Send alerts; return what was done, and why the rest was not done."""
    told = await running.owner.post("/messages/alertmanager", group(*alerts))
    acted = [(done["action"], done["limiter"]) for done in told["acted"]]
    return acted, [ignored["why"] for ignored in told["ignored"]]


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Program]:
    async with program(tmp_path) as running:
        yield running


async def test_an_alert_takes_its_limiter_down_and_up_again(running: Program) -> None:
    """By default a label names the limiter, and the decision says which alert it was."""
    told = await running.owner.post("/messages/alertmanager", group(alert("firing")))
    [done] = told["acted"]
    assert told["ignored"] == []
    assert done["message"] == "DatabaseBusy: db is busy: 5 running (firing)"
    assert done["decision"]["by"] == "alertmanager"
    assert done["decision"]["note"] == "DatabaseBusy: db is busy: 5 running"
    assert running.limits["db"] == 3
    running.turnstile.limiters["db"].throttle = running.turnstile.limiters["work"].throttle
    assert await send(running, alert("resolved")) == ([("up", "db")], [])
    assert running.limits["db"] == 4


async def test_an_alert_that_is_repeated_is_one_alert(running: Program) -> None:
    """Alertmanager repeats the group while the alert lasts, but only its start and end count."""
    work = {"alertname": "Slow", "limiter": "work"}
    assert await send(running, alert("firing", work)) == ([("down", "work")], [])
    assert await send(running, alert("firing", work)) == ([], ["it was already firing"])
    assert await send(running, alert("firing", work, "f2")) == ([("down", "work")], [])
    assert await send(running, alert("resolved", work)) == ([("up", "work")], [])
    assert await send(running, alert("resolved", work)) == (
        [],
        ["nothing was done when it began"],
    )
    assert running.limits["work"] == 7


async def test_what_was_refused_is_tried_again(running: Program) -> None:
    """A repeated alert tries again; and its end gives back only what was taken."""
    assert (await send(running, alert("firing")))[0] == [("down", "db")]
    acted, [why] = await send(running, alert("firing", BUSY, "f2"))
    assert acted == []
    assert why.startswith("db stays at 3: a signal down was refused, as the hold lasts")
    assert await send(running, alert("resolved", BUSY, "f2")) == (
        [],
        ["nothing was done when it began"],
    )
    running.turnstile.limiters["db"].throttle = running.turnstile.limiters["work"].throttle
    assert await send(running, alert("firing", BUSY, "f2")) == ([("down", "db")], [])


async def test_alerts_that_concern_nobody(running: Program) -> None:
    """Alerts without a rule or a limiter are ignored; the others of the group are acted on."""
    acted, ignored = await send(
        running,
        alert("firing", {"alertname": "Other"}, "f2"),
        alert("firing", {"limiter": "nobody"}, "f3"),
        alert("firing"),
    )
    assert acted == [("down", "db")]
    assert ignored == ["no rule matches these labels", "no limiter is named 'nobody'"]


def ruled(folder: Path, *rules: Rule) -> AbstractAsyncContextManager[Program]:
    return program(folder, rules=rules)


CAP = Rule(when={"alertname": "DatabaseBusy"}, limiter="work", firing=4)
LOWER = Rule(when={"alertname": "DatabaseDying"}, limiter="work", firing=2)
DYING = {"alertname": "DatabaseDying"}


async def test_a_cap_while_an_alert_fires(tmp_path: Path) -> None:
    """The least cap of all firing alerts holds, and the limit comes back when the last one ends."""
    async with ruled(tmp_path, CAP, LOWER) as running:
        assert await send(running, alert("firing")) == ([("cap 4", "work")], [])
        assert running.limits["work"] == 4
        assert await send(running, alert("firing", DYING, "f2")) == ([("cap 2", "work")], [])
        assert await send(running, alert("resolved", DYING, "f2")) == ([("cap 4", "work")], [])
        assert running.limits["work"] == 4
        assert await send(running, alert("resolved")) == ([("release", "work")], [])
        assert running.limits["work"] == 10
        assert await send(running, alert("resolved")) == ([], ["work is not capped by an alert"])


async def test_a_cap_that_is_above_the_limit_raises_nothing(tmp_path: Path) -> None:
    """A cap exceeds neither what the throttle allows nor another cap."""
    async with ruled(tmp_path, CAP, LOWER) as running:
        for _ in range(4):
            await running.owner.post("/limiters/work/down")
        assert running.limits["work"] == 2
        assert await send(running, alert("firing")) == ([("cap 2", "work")], [])
        assert await send(running, alert("firing", DYING, "f2")) == (
            [],
            ["work is already capped at 2"],
        )
        assert await send(running, alert("firing")) == ([], ["it was already firing"])
        assert running.limits["work"] == 2
        assert await send(running, alert("resolved", DYING, "f2")) == ([("cap 2", "work")], [])
        assert await send(running, alert("resolved")) == ([("release", "work")], [])


async def test_what_an_operator_has_set_is_left_alone(tmp_path: Path) -> None:
    """An operator's limit stays, both at the start of an alert and at its end."""
    async with ruled(tmp_path, CAP) as running:
        await running.turnstile.ask("work", SetLimit(7), by="ada")
        assert await send(running, alert("firing")) == ([], ["ada has set its limit"])
        assert await send(running, alert("resolved")) == ([], ["work is not capped by an alert"])
        assert running.limits["work"] == 7
        await running.turnstile.ask("work", SetLimit(8))
        assert await send(running, alert("firing")) == ([], ["somebody has set its limit"])


async def test_a_cap_ends_by_itself_if_nobody_says_that_the_alert_goes_on(tmp_path: Path) -> None:
    """A cap ends automatically, unless the alert is repeated, which starts its time again."""
    rule = Rule(when={"alertname": "*"}, limiter="work", firing=4, for_seconds=60)
    async with ruled(tmp_path, rule) as running:
        await send(running, alert("firing"))
        first = running.turnstile.limiters["work"].override
        assert await send(running, alert("firing")) == ([("cap 4", "work")], [])
        second = running.turnstile.limiters["work"].override
        assert first is not None
        assert second is not None
        assert first.until < second.until
        assert second.until - second.time == pytest.approx(60)


async def test_a_pause_while_an_alert_fires(tmp_path: Path) -> None:
    """The pause ends with the last alert; a pause by somebody else goes on."""
    rule = Rule(when={"alertname": "*"}, limiter="work", firing="pause")
    async with ruled(tmp_path, rule) as running:
        assert await send(running, alert("firing")) == ([("pause", "work")], [])
        assert await send(running, alert("firing", BUSY, "f2")) == ([("pause", "work")], [])
        assert running.limits["work"] == 0
        assert await send(running, alert("resolved")) == ([], ["another alert still pauses it"])
        assert await send(running, alert("resolved", BUSY, "f2")) == ([("resume", "work")], [])
        assert running.limits["work"] == 10
        await running.turnstile.ask("work", Pause(), by="ada")
        assert await send(running, alert("resolved")) == ([], ["work is not paused by an alert"])
        assert running.limits["work"] == 0


async def test_a_rule_that_does_nothing_at_the_end(tmp_path: Path) -> None:
    """A rule may do nothing at the end; if several rules match, each of them is followed."""
    up = Rule(when={"alertname": "*"}, limiter="work", firing="up", resolved="nothing")
    down = Rule(when={"alertname": "*"}, limiter="db", firing="down", resolved="nothing")
    async with ruled(tmp_path, up, down) as running:
        await running.owner.post("/limiters/work/down")
        assert (await send(running, alert("firing")))[0] == [("up", "work"), ("down", "db")]
        assert await send(running, alert("resolved")) == (
            [],
            ["the rule does nothing at its end"] * 2,
        )


async def test_only_so_many_alerts_are_remembered(
    running: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When too many alerts are remembered, the oldest is forgotten."""
    monkeypatch.setattr(_messages, "REMEMBERED", 1)
    work = {"limiter": "work"}
    await send(running, alert("firing", work, "f1"), alert("firing", work, "f2"))
    _, ignored = await send(running, alert("resolved", work, "f1"))
    assert ignored == ["nothing was done when it began"]


async def test_a_plain_message(running: Program) -> None:
    """The message is for one step of one limiter, and says by whom and why."""
    message = {"limiter": "work", "signal": "down", "by": "nagios", "note": "disk 97 %"}
    told = await running.owner.post("/messages", message)
    [done] = told["acted"]
    assert (done["message"], done["action"]) == ("down for work", "down")
    assert (done["decision"]["by"], done["decision"]["note"]) == ("nagios", "disk 97 %")
    assert running.limits["work"] == 8
    told = await running.owner.post("/messages", {"limiter": "db", "signal": "up"})
    assert told == {
        "acted": [],
        "ignored": [
            {
                "message": "up for db",
                "why": "db stays at 5: a signal up was refused at the ceiling (by a message)",
            }
        ],
    }
    told = await running.owner.post("/messages", {"limiter": "nobody", "signal": "up"})
    assert told["ignored"][0]["why"] == "no limiter is named 'nobody'"


async def test_a_plain_alert(running: Program) -> None:
    """Anybody can send one for the rules; its labels distinguish it from others."""
    message = {"status": "firing", "labels": BUSY, "note": "slow"}
    told = await running.owner.post("/messages", message)
    [done] = told["acted"]
    assert (done["message"], done["limiter"]) == ("DatabaseBusy: slow (firing)", "db")
    assert done["decision"]["by"] == "a message"
    told = await running.owner.post("/messages", message)
    assert told["ignored"][0]["why"] == "it was already firing"


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"limiter": "db"},
        {"signal": "up"},
        {"status": "firing"},
        {"limiter": "db", "signal": "up", "status": "firing", "labels": BUSY},
        {"limiter": "db", "signal": "sideways"},
        {"limiter": "db", "signal": "up", "more": 1},
        {"status": "firing", "labels": {"a": 1}},
    ],
)
async def test_a_message_that_makes_no_sense(running: Program, message: object) -> None:
    """A message that makes no sense has no effect."""
    answer = await running.owner.ask("POST", "/api/v1/messages", message)
    assert answer.status == 422
    assert running.limits == {"work": 10, "db": 5}


@pytest.mark.parametrize(
    "message",
    [
        {"version": "3", "alerts": []},
        {"version": "4"},
        {"version": "4", "alerts": [{"status": "pending", "labels": {}}]},
        {"version": "4", "alerts": [alert("firing")] * 1001},
    ],
)
async def test_a_webhook_that_is_not_understood(running: Program, message: object) -> None:
    """Another version, or a body that Alertmanager does not send, is refused."""
    answer = await running.owner.ask("POST", "/api/v1/messages/alertmanager", message)
    assert answer.status == 422
    assert running.limits == {"work": 10, "db": 5}
