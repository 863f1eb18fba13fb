"""The programs of the page on metered APIs do what it says, against a real server."""

from __future__ import annotations

import json
import runpy
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from testkit.servers import Reply, tcp_server
from trio_turnstile import Aborted, BudgetSpent
from trio_turnstile.testing import assert_conserved

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"

Answer = Callable[[Any], Awaitable[Reply]]


def contents(name: str) -> dict[str, Any]:
    """Return the names that a program defines."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="example")


async def serve(answer: Answer, stream: trio.SocketStream) -> None:
    """Answer POST requests with a JSON body, until the client hangs up."""
    received = b""
    async for data in stream:
        received += data
        head, found, body = received.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        size = int(fields[b"content-length"]) if found else 0
        if found and len(body) >= size:
            received = body[size:]
            await stream.send_all((await answer(json.loads(body[:size]))).encode())


@asynccontextmanager
async def http_server(answer: Answer) -> AsyncIterator[str]:
    """Answer requests on loopback, and give the URL."""
    async with tcp_server(partial(serve, answer)) as port:
        yield f"http://127.0.0.1:{port}"


def completion(tokens: int) -> Reply:
    usage = {"total_tokens": tokens, "completion_tokens": 20}
    return Reply({"choices": [{"message": {"content": "Yes."}}], "usage": usage})


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the programs in a directory of their own, with 20 prompts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts").write_text("".join(f"question {number}\n" for number in range(20)))
    return tmp_path


async def test_a_batch_of_prompts(here: Path) -> None:
    """All are answered, although some were refused at first; the file has what was spent."""
    asked = list[str]()

    async def answer(body: Any) -> Reply:
        await trio.lowlevel.checkpoint()
        prompt = body["messages"][0]["content"]
        asked.append(prompt)
        if asked.count(prompt) == 1 and prompt.endswith("7"):
            return Reply(status=429, headers=("Retry-After: 0",))
        return completion(40)

    with trio.fail_after(30):
        async with http_server(answer) as url:
            report = await contents("metered")["main"](url, "prompts", "answers")
    assert_conserved(report)
    assert (report["ask"].completed, report["ask"].retried) == (20, 2)
    lines = [json.loads(line) for line in (here / "answers").read_text().splitlines()]
    assert sorted(line["prompt"] for line in lines) == sorted(set(asked))
    kept = json.loads((here / "spent.json").read_text())
    assert kept["debt"] == pytest.approx(20 * 40 * 2e-6)


async def test_a_batch_ends_when_its_money_is_spent(here: Path) -> None:
    """After that nothing more is requested, even by a program that is started again."""
    asked = list[object]()

    async def answer(body: Any) -> Reply:
        await trio.lowlevel.checkpoint()
        asked.append(body)
        return completion(500)

    main = contents("metered")["main"]
    with trio.fail_after(30):
        async with http_server(answer) as url:
            for most in (5, 1):
                asked.clear()
                with pytest.raises(Aborted) as info:
                    await main(url, "prompts", "answers", dollars=0.003)
                assert isinstance(info.value.exceptions[0].__cause__, BudgetSpent)
                assert len(asked) <= most


async def test_a_graphql_api(here: Path) -> None:
    """All pages are there; calls that exceed the points of the service have to wait."""
    left = 100

    async def answer(body: Any) -> Reply:
        nonlocal left
        await trio.lowlevel.checkpoint()
        left -= 5
        told = (f"x-ratelimit-remaining: {left}", "x-ratelimit-limit: 100", "x-ratelimit-reset: 9")
        data = {"items": body["query"], "rateLimit": {"cost": 5, "remaining": left}}
        return Reply({"data": data}, headers=told)

    with trio.fail_after(30):
        async with http_server(answer) as url:
            await contents("recipe_graphql")["main"](url, 9, here / "items", 100)
    assert len((here / "items").read_text().splitlines()) == 9
    assert left == 55
