"""What can be asked over the control API, and what the answers are."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio

from testkit.control import Program, program
from trio_turnstile import (
    Consumer,
    Processor,
    Producer,
    Scalable,
    SetLimit,
    Skip,
    Throttle,
    run_phases,
)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Program]:
    async with program(tmp_path) as running:
        yield running


async def test_it_says_which_program_it_is(running: Program) -> None:
    """The first answer has version, process, name and time."""
    told = await running.owner.get("/")
    assert told["run"]["pid"] == os.getpid()
    assert told["run"]["name"] == "demo"
    assert told["run"]["id"] == running.turnstile.id
    assert told["run"]["started"] <= told["now"]
    assert told["read_only"] is False


async def test_limiters_are_listed_by_name(running: Program) -> None:
    """Limiters come sorted by name, with their bounds; an infinite limit is null."""
    running.turnstile.limiter("free", math.inf)
    db, free, work = await running.owner.get("/limiters")
    assert (db["name"], free["name"], work["name"]) == ("db", "free", "work")
    assert free["limit"] is None
    assert work == {
        "name": "work",
        "limit": 10,
        "running": 0,
        "waiting": 0,
        "cap": 10,
        "ceiling": 10,
        "minimum": 1,
        "paused": False,
        "paused_for": None,
        "limited_by": "cap",
        "bounds": {"cap": 10},
        "override": None,
    }


async def test_limiters_come_in_pages(running: Program) -> None:
    """A page holds a number of limiters after a name, with a text in their names."""
    for number in range(10):
        running.turnstile.limiter(f"Host {number}", 1)
    page = await running.owner.get("/limiters?like=host&limit=4")
    assert [limiter["name"] for limiter in page] == ["Host 0", "Host 1", "Host 2", "Host 3"]
    page = await running.owner.get("/limiters?like=host&limit=4&after=Host%207")
    assert [limiter["name"] for limiter in page] == ["Host 8", "Host 9"]


async def test_one_limiter(running: Program) -> None:
    """A single limiter is found by its name, which may contain slashes."""
    running.turnstile.limiter("https://example.org/a", 3)
    assert (await running.owner.get("/limiters/work"))["limit"] == 10
    assert (await running.owner.get("/limiters/https://example.org/a"))["limit"] == 3


async def test_who_is_not_there(running: Program) -> None:
    """The answer for an unknown limiter names the ones that exist."""
    answer = await running.owner.ask("GET", "/api/v1/limiters/nobody")
    assert answer.status == 404
    assert answer.body == {"error": "no limiter is named 'nobody'; there are: work, db"}
    for number in range(30):
        running.turnstile.limiter(f"host {number}", 1)
    answer = await running.owner.ask("POST", "/api/v1/limiters/nobody/up")
    assert answer.body["error"].endswith("host 17 and 12 more")


async def test_a_step_down_is_answered_with_the_decision(running: Program) -> None:
    """The decision says who asked and why, and holds in the program."""
    answer = await running.owner.post("/limiters/work/down", {"by": "ada", "note": "night"})
    assert answer["applied"] is True
    assert answer["limiter"]["limit"] == running.limits["work"] == 8
    decision = answer["decision"]
    assert (decision["before"], decision["after"]) == (10, 8)
    assert (decision["reason"], decision["signal"]) == ("signal", "down")
    assert (decision["by"], decision["note"]) == ("ada", "night")
    assert decision["text"] == "10 to 8: a signal down (by ada): night"


async def test_a_step_up(running: Program) -> None:
    """A client that does not say who it is gets the name of the user."""
    await running.owner.post("/limiters/work/down")
    answer = await running.owner.post("/limiters/work/up")
    assert answer["limiter"]["limit"] == running.limits["work"] == 9
    assert answer["decision"]["by"]


async def test_what_is_refused_is_not_an_error(running: Program) -> None:
    """A refused change is answered with a decision that says why nothing changed."""
    answer = await running.owner.post("/limiters/work/up")
    assert answer["applied"] is False
    assert answer["decision"]["reason"] == "at_ceiling"
    assert answer["limiter"]["limit"] == 10


async def test_a_limit_is_set_past_every_rule(running: Program) -> None:
    """The limit stays until it is released, and signals do not move it."""
    answer = await running.owner.post("/limiters/work", {"limit": 20}, method="PATCH")
    assert answer["applied"]
    assert running.limits["work"] == 20
    assert answer["limiter"]["limited_by"] == "override"
    assert answer["limiter"]["override"]["limit"] == 20
    assert answer["limiter"]["override"]["until"] is None
    refused = await running.owner.post("/limiters/work/down")
    assert refused["decision"]["reason"] == "overridden"
    answer = await running.owner.post("/limiters/work/release")
    assert answer["decision"]["reason"] == "released"
    assert running.limits["work"] == 10


async def test_a_limit_is_set_for_some_time(running: Program) -> None:
    """The answer says until when the limit is set."""
    order = {"limit": 3, "seconds": 60, "note": "repair"}
    answer = await running.owner.post("/limiters/work", order, method="PATCH")
    override = answer["limiter"]["override"]
    assert override["note"] == "repair"
    assert override["until"] == pytest.approx(answer["decision"]["time"] + 60, abs=1)


async def test_a_dry_run_tells_what_would_happen(running: Program) -> None:
    """A dry run changes nothing."""
    order = {"limit": 3, "dry_run": True}
    answer = await running.owner.post("/limiters/work", order, method="PATCH")
    assert answer["dry_run"] is True
    assert (answer["decision"]["before"], answer["decision"]["after"]) == (10, 3)
    assert running.limits["work"] == 10


async def test_a_pause_and_its_end(running: Program) -> None:
    """A pause lasts for some seconds, or until it is resumed."""
    answer = await running.owner.post("/limiters/work/pause", {"seconds": 60})
    assert answer["limiter"]["limit"] == running.limits["work"] == 0
    assert 0 < answer["limiter"]["paused_for"] <= 60
    assert answer["limiter"]["limited_by"] == "pause"
    answer = await running.owner.post("/limiters/work/pause")
    assert answer["limiter"]["paused"] is True
    assert answer["limiter"]["paused_for"] is None
    answer = await running.owner.post("/limiters/work/resume")
    assert answer["limiter"]["limit"] == running.limits["work"] == 10


async def test_all_limiters_at_once(running: Program) -> None:
    """A request for all limiters gets an answer for each of them."""
    answers = await running.owner.post("/down")
    assert {answer["limiter"]["name"] for answer in answers} == {"work", "db"}
    assert running.limits == {"work": 8, "db": 3}
    await running.owner.post("/pause", {"seconds": 5})
    assert running.limits == {"work": 0, "db": 0}
    await running.owner.post("/resume")
    answers = await running.owner.post("/up")
    assert [answer["applied"] for answer in answers] == [True, False]


async def test_why_the_limit_is_what_it_is(running: Program) -> None:
    """The decisions come oldest first, refusals included."""
    await running.owner.post("/limiters/work/up")
    await running.owner.post("/limiters/work/down", {"note": "slow"})
    refused, done = await running.owner.get("/limiters/work/decisions")
    assert (refused["applied"], done["applied"]) == (False, True)
    assert done["note"] == "slow"
    assert done["evidence"]["cap"] == 8


async def test_samples_come_as_columns(running: Program) -> None:
    """No more samples come than were asked for, and the newest is among them."""
    while len((history := await running.owner.get("/limiters/work/history"))["times"]) < 5:
        pass
    assert history["limiter"] == "work"
    assert len({len(history[name]) for name in ("times", "limit", "running", "waiting")}) == 1
    assert history["times"] == sorted(history["times"])
    some = await running.owner.get(f"/limiters/work/history?points=2&until={history['times'][-1]}")
    assert len(some["times"]) <= 2
    assert some["times"][-1] == history["times"][-1]
    none = await running.owner.get(f"/limiters/work/history?since={history['times'][-1] + 1000}")
    assert none["times"] == []


class Slow(Scalable):
    async def work(self, channels: object) -> None:
        await trio.sleep_forever()


async def test_a_run_of_phases(running: Program) -> None:
    """A run of phases has its counts, and can be drained with a deadline."""
    work = running.turnstile.limiters["work"]
    start = partial(run_phases, [Slow(), Slow()], limiter=work, name="night")
    manager = await running.nursery.start(start)
    await trio.testing.wait_all_tasks_blocked(0.01)
    [run] = await running.owner.get("/runs")
    assert (run["id"], run["kind"], run["state"], run["total"]) == ("night", "phases", "running", 2)
    [step] = run["steps"]
    assert (step["name"], step["limiter"], step["in_flight"]) == ("operations", "work", 2)
    run = await running.owner.post("/runs/night/drain", {"seconds": 0.01})
    assert run["state"] == "draining"
    while not manager.report().ended:
        await trio.sleep(0.01)
    run = await running.owner.get("/runs/night")
    assert run["state"] == "ended"
    assert run["steps"][0]["cancelled"] == 2


async def test_runs_are_told_apart_by_name(running: Program) -> None:
    """Two runs with one name get numbers."""
    work = running.turnstile.limiters["work"]
    for _ in range(2):
        await running.nursery.start(partial(run_phases, [Slow()], limiter=work, name="night"))
    assert [run["id"] for run in await running.owner.get("/runs")] == ["night", "night-2"]
    assert (await running.owner.get("/runs/night"))["id"] == "night"


async def test_a_run_of_a_pipeline(running: Program) -> None:
    """A run of a pipeline has its steps and errors, and can be cancelled."""

    async def fails(number: int) -> int:
        if number % 2:
            raise OSError(f"disk {number}")
        return number

    async def stays(number: int) -> None:
        await trio.sleep_forever()

    work = running.turnstile.limiters["work"]
    pipeline = (
        Producer(range(60))
        | Processor(fails, limiter=work, on_error=[Skip()])
        | Consumer(stays, limiter=100)
    )
    run = await running.nursery.start(partial(pipeline.run, name="load"))
    while run.report()["fails"].failed < 30:
        await trio.sleep(0.01)
    told = await running.owner.get("/runs/load")
    assert [step["name"] for step in told["steps"]] == ["fails", "stays"]
    assert told["steps"][0]["failed"] == 30
    assert told["steps"][0]["limiter"] == "work"
    assert told["steps"][1]["in_flight"] == 30 <= told["steps"][1]["window"]
    assert len(told["errors"]) == 20
    assert told["errors_omitted"] == 10
    assert "disk 59" in told["errors"][-1]["text"]
    assert told["errors"][-1]["step"] == "fails"
    answer = await running.owner.post("/runs/load/cancel", {"seconds": 100})
    assert answer["state"] == "draining"
    answer = await running.owner.post("/runs/load/cancel")
    assert answer["state"] == "cancelling"


async def test_a_run_that_is_not_there(running: Program) -> None:
    """An unknown run can be neither seen nor ended."""
    for method, path in (("GET", "/runs/x"), ("POST", "/runs/x/drain"), ("POST", "/runs/x/cancel")):
        answer = await running.owner.ask(method, f"/api/v1{path}")
        assert answer.status == 404
        assert answer.body["error"] == "no run that goes on is named 'x'; there are: none"


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"{", 400, "this is not JSON"),
        (b"\xff", 400, "this is not JSON"),
        (b"[" * 40_000, 422, "Expected `object`, got `array`"),
        (b'{"x":' + b"[" * 40_000, 422, "Object contains unknown field `x`"),
        ({"limit": "many"}, 422, "Expected `int`, got `str` - at `$.limit`"),
        ({"limit": -1}, 422, "Expected `int` >= 0 - at `$.limit`"),
        ({"limits": 3}, 422, "Object contains unknown field `limits`"),
        ({}, 422, "Object missing required field `limit`"),
        ({"limit": 3, "seconds": 0}, 422, "Expected `float` > 0.0 - at `$.seconds`"),
        (b" " * 2_000_000, 413, "a body may have 1048576 bytes"),
    ],
)
async def test_a_wrong_order(running: Program, body: object, status: int, error: str) -> None:
    """A wrong request is refused with a sentence, and nothing changes."""
    answer = await running.owner.ask("PATCH", "/api/v1/limiters/work", body)
    assert (answer.status, answer.body) == (status, {"error": error})
    assert running.limits["work"] == 10


async def test_a_message_that_is_nested_deeply(running: Program) -> None:
    """A deeply nested message is refused as if it were not JSON."""
    body = b'{"version": "4", "alerts": [], "more": ' + b"[" * 100_000
    answer = await running.owner.ask("POST", "/api/v1/messages/alertmanager", body)
    assert (answer.status, answer.body) == (400, {"error": "this is not JSON"})


async def test_a_wrong_query(running: Program) -> None:
    """An unknown word is refused, and so is a number that is not one."""
    answer = await running.owner.ask("GET", "/api/v1/limiters?limits=3")
    assert answer.status == 422
    answer = await running.owner.ask("GET", "/api/v1/limiters/work/history?points=many")
    assert answer.status == 422


async def test_what_cannot_be_asked(running: Program) -> None:
    """An unknown path is refused, and so is a wrong method."""
    answer = await running.owner.ask("GET", "/api/v1/nothing")
    assert answer.status == 404
    assert answer.body == {"error": "there is nothing at '/api/v1/nothing'; see /openapi.json"}
    answer = await running.owner.ask("DELETE", "/api/v1/limiters")
    assert answer.status == 405
    assert answer.body["error"].startswith("DELETE is not allowed")


async def test_its_health(running: Program) -> None:
    """The program is healthy if the trio run answers."""
    answer = await running.owner.ask("GET", "/healthz")
    assert (answer.status, answer.body) == (200, {"status": "ok"})


async def test_decisions_in_sentences(running: Program) -> None:
    """Each reason for a decision has its sentence."""
    limiter = running.turnstile.limiter("api", 4, throttle=Throttle(min=2, hold=600))
    texts = []

    async def ask(order: str, body: object = None, *, method: str = "POST") -> None:
        answer = await running.owner.post(f"/limiters/api{order}", body, method=method)
        texts.append(answer["decision"]["text"].partition(" (by")[0])

    await ask("/down", {"by": "ada"})
    await ask("/up", {"by": "ada"})
    await ask("/down", {"by": "ada"})
    await ask("", {"limit": 9, "seconds": 60}, method="PATCH")
    await ask("/up")
    await ask("/release")
    await ask("/release")
    await ask("/pause", {"seconds": 9})
    await ask("/resume")
    await ask("/pause")
    limiter.total_tokens = 3
    texts.append((await running.owner.get("/limiters/api/decisions"))[-1]["text"])
    assert texts[1].startswith("2: a signal up was refused, as the hold lasts ")
    del texts[1]
    assert texts == [
        "4 to 2: a signal down",
        "2: a signal down was refused at the minimum",
        "2 to 9: set past every rule for 60 s",
        "9: a signal up was refused, as root has set the limit" if os.getuid() == 0 else texts[3],
        "9 to 2: the override ended",
        "2: there was nothing to end",
        "2 to 0: paused for 9 s",
        "0 to 2: resumed",
        "2 to 0: paused until resumed",
        "0 to 3: the program set it",
    ]


async def test_an_override_by_the_program(running: Program) -> None:
    """An override set by the program has no author."""
    await running.turnstile.ask("work", SetLimit(math.inf))
    told = await running.owner.get("/limiters/work")
    assert told["override"] == {"limit": None, "by": None, "note": None, "until": None}
    answer = await running.owner.post("/limiters/work/down", {"by": "ada"})
    assert answer["decision"]["text"] == (
        "no limit: a signal down was refused, as somebody has set the limit (by ada)"
    )
