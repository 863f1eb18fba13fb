"""The programs of the page of recipes do what it says, with real servers and files."""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from testkit.servers import Reply, http_server
from trio_turnstile.testing import assert_conserved

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"

LIMIT = 30.0
"""After so many seconds something must be wrong; nothing here takes two."""


def contents(name: str, run_name: str = "recipe") -> dict[str, Any]:
    """Return the names that a program defines."""
    return runpy.run_path(str(EXAMPLES / f"recipe_{name}.py"), run_name=run_name)


async def perform(name: str, *arguments: object, **options: object) -> Any:
    """Run the main function of a program, with a time limit and a check of its books."""
    with trio.fail_after(LIMIT):
        report = await contents(name)["main"](*arguments, **options)
    assert_conserved(report)
    return report


def read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_lines(path: Path, items: list[Any]) -> None:
    path.write_text("".join(f"{json.dumps(item)}\n" for item in items))


def test_every_program_is_on_the_page() -> None:
    """The page shows each of its programs once, and no other."""
    page = (EXAMPLES.parent / "recipes.rst").read_text()
    shown = re.findall(r"^\.\. literalinclude:: examples/(.+)$", page, re.MULTILINE)
    assert sorted(shown) == sorted(path.name for path in EXAMPLES.glob("recipe_*.py"))


# ---- an API ----


async def test_http(tmp_path: Path) -> None:
    """All items arrive, although some were refused at first, and the rate is kept."""
    asked = Counter[str]()

    async def answer(path: str) -> Reply:
        await trio.lowlevel.checkpoint()
        asked[path] += 1
        number = int(path.rpartition("/")[2])
        if asked[path] == 1 and number % 10 == 0:
            return Reply(
                status=429 if number else 503, headers=("Retry-After: 0.05",) * (number > 0)
            )
        return Reply(number)

    began = trio.current_time()
    async with http_server(answer) as url:
        report = await perform("http", url, 60, tmp_path / "items.jsonl", 200.0)
    assert sorted(read_lines(tmp_path / "items.jsonl")) == list(range(60))
    assert report["fetch"].retried == 6
    assert trio.current_time() - began >= (66 - 10) / 200


# ---- a crawl ----


async def test_crawl(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each page is visited once, two at once on each host, and foreign links are not followed."""
    asked, most = Counter[str](), Counter[str]()
    busy = Counter[str]()
    links: dict[str, list[str]] = {}

    def site(name: str) -> Any:
        async def answer(path: str) -> Reply:
            asked[name + path] += 1
            busy[name] += 1
            most[name] = max(most[name], busy[name])
            await trio.sleep(0.005)
            busy[name] -= 1
            if path == "/gone":
                return Reply(status=404)
            return Reply(" ".join(f"<a href='{link}'>" for link in links.get(name + path, [])))

        return answer

    async with http_server(site("a")) as a, http_server(site("b")) as b:
        links["a/"] = ["/1", "/2", "/3", "/gone", f"{b}/far", "http://example.invalid/"]
        links["a/1"] = ["/", "2#part", "/1"]
        links["b/far"] = [f"{a}/back", "/"]
        report = await perform("crawl", tmp_path / "pages.jsonl", f"{a}/", f"{b}/", every=0.001)
    assert asked == Counter(["a/", "a/1", "a/2", "a/3", "a/gone", "a/back", "b/", "b/far"])
    assert most["a"] <= 2
    assert most["b"] <= 2
    assert (report["visit"].completed, report["visit"].failed) == (7, 1)
    assert len(read_lines(tmp_path / "pages.jsonl")) == 7
    assert "404" in caplog.text


# ---- resuming ----


async def test_resume(tmp_path: Path) -> None:
    """The second run loads what the first did not, and half a line does no harm."""
    source, target = tmp_path / "source.jsonl", tmp_path / "target.jsonl"
    rows = [{"id": number, "cents": 100 * number} for number in range(250)]
    write_lines(source, rows[:100])
    report = await perform("resume", source, target)
    assert (report["transform"].completed, report["new"].discarded) == (100, 0)

    write_lines(source, rows)
    torn = target.read_text()[:-10]
    target.write_text(torn)
    report = await perform("resume", source, target)
    assert (report["transform"].completed, report["new"].discarded) == (151, 99)
    loaded = [json.loads(line) for line in target.read_text().splitlines() if line.endswith("}")]
    assert sorted(row["id"] for row in loaded) == list(range(250))
    assert sorted(row["euros"] for row in loaded) == list(range(250))


# ---- a server ----


async def talk(port: int, lines: bytes) -> bytes:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(lines)
        return await stream.receive_some()


@pytest.mark.parametrize("grace", [LIMIT, 0.0])
async def test_server(grace: float) -> None:
    """After a signal it accepts nobody, and answers the requests it has begun if there is time."""
    program = contents("server")
    let_go = trio.Event()

    async def answer(line: bytes) -> bytes:
        if line == b"slow":
            await let_go.wait()
        return line.upper()

    program["main"].__globals__["answer"] = answer
    got: list[bytes] = []
    clean: list[bool] = []

    async def serve(task_status: trio.TaskStatus[Any]) -> None:
        clean.append(await program["main"](0, grace, task_status=task_status))

    async def ask(port: int, line: bytes) -> None:
        got.append(await talk(port, line))

    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(serve)
            port = listeners[0].socket.getsockname()[1]
            assert await talk(port, b"quick\n") == b"QUICK\n"
            nursery.start_soon(ask, port, b"slow\n")
            await wait_all_tasks_blocked(0.05)
            os.kill(os.getpid(), signal.SIGTERM)
            await wait_all_tasks_blocked(0.05)
            with pytest.raises(OSError, match="connect"):
                await talk(port, b"late\n")
            if grace:
                assert (got, clean) == ([], [])
            let_go.set()
    assert (got, clean) == (([b"SLOW\n"], [True]) if grace else ([b""], [False]))


async def test_server_sheds_load() -> None:
    """Requests that find the queue full are refused at once."""
    program = contents("server")
    let_go = trio.Event()

    async def answer(line: bytes) -> bytes:
        await let_go.wait()
        return line

    program["main"].__globals__["answer"] = answer
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            [listener, *_] = await nursery.start(program["main"])
            port = listener.socket.getsockname()[1]
            for _ in range(120):
                nursery.start_soon(talk, port, b"wait\n")
            await wait_all_tasks_blocked(0.05)
            assert await talk(port, b"one too many\n") == b"busy\n"
            let_go.set()
            await wait_all_tasks_blocked(0.05)
            os.kill(os.getpid(), signal.SIGTERM)


# ---- priorities ----


async def test_priorities(autojump_clock: MockClock) -> None:
    """An urgent job overtakes all others except the running one and the one that was read ahead."""
    program = contents("priorities")
    order: list[str] = []

    async def work(job: str) -> None:
        order.append(job)
        await trio.sleep(1)

    report = await program["main"](work, program["some_jobs"])
    assert_conserved(report)
    assert order == ["ordinary 0", "ordinary 1", "urgent", "ordinary 2", "ordinary 3"]


# ---- at the shell ----


@pytest.mark.parametrize(
    ("name", "arguments", "printed"),
    [
        ("resume", ["in", "out"], "1 loaded, 0 were there\n"),
        (
            "priorities",
            [],
            "ordinary 0\nordinary 1\nurgent\nordinary 2\nordinary 3\n",
        ),
    ],
)
def test_at_the_shell(
    name: str,
    arguments: list[str],
    printed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A program takes its arguments from the command line, and prints its counts."""
    write_lines(tmp_path / "in", [{"id": 1, "cents": 5}])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    contents(name, run_name="__main__")
    assert capsys.readouterr().out == printed
