"""Serving the control API, mounting it elsewhere, and what is left when it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount

from testkit.control import TOKEN, Client, program
from trio_turnstile import open_turnstile
from trio_turnstile.integrations import control as control_module
from trio_turnstile.integrations.control import (
    Access,
    Control,
    Served,
    _bridge,
    _guard,
    _looks,
    _serving,
    open_control,
    serve_control,
)
from trio_turnstile.integrations.control._desk import Desk
from trio_turnstile.integrations.control._feed import Feed
from trio_turnstile.integrations.control._give_way import GiveWay
from trio_turnstile.integrations.control.sockets import bind_socket, live_sockets

OPEN = Access(None)


async def test_the_socket_is_where_commands_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default name of the socket has the process number; the file is gone after serving."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    async with program(tmp_path, path=None) as running:
        assert live_sockets() == [tmp_path / "turnstile" / f"{os.getpid()}.sock"]
        assert running.served == Served(live_sockets()[0], None)
        assert (await running.owner.get("/"))["run"]["pid"] == os.getpid()
    assert list((tmp_path / "turnstile").iterdir()) == []


async def test_a_socket_that_somebody_else_has_put_there_is_left(tmp_path: Path) -> None:
    """The server removes only its own socket at the end."""
    async with program(tmp_path) as running:
        await running.owner.get("/")
        (tmp_path / "s.sock").unlink()  # by a cleaner of temporary files
        other = bind_socket(tmp_path / "s.sock")
    with other:
        assert (tmp_path / "s.sock").is_socket()
        (tmp_path / "s.sock").unlink()
    async with program(tmp_path):
        (tmp_path / "s.sock").unlink()


async def test_what_is_taken_is_not_served_at(tmp_path: Path) -> None:
    """A socket or port in use is an error, and whoever uses it goes on."""
    async with program(tmp_path, port=0, token=TOKEN) as running, open_turnstile() as turnstile:
        with pytest.raises(OSError, match="another program listens"):
            await serve_control(turnstile, path=running.served.path)
        other = tmp_path / "other.sock"
        with pytest.raises(OSError, match="in use"):
            await serve_control(turnstile, path=other, port=running.served.port, token="x")
        assert not other.exists()
        await running.owner.get("/")
        await running.operator.get("/")


async def test_a_user_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a name is named by number, as in a container."""

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(_serving.getpass, "getuser", nobody)
    async with program(tmp_path) as running:
        answer = await running.owner.post("/limiters/work/down")
        assert answer["decision"]["by"] == str(os.getuid())


async def test_a_turnstile_that_was_left_is_not_served(tmp_path: Path) -> None:
    """Serving a turnstile that was left fails before anything is bound."""
    async with open_turnstile() as turnstile:
        pass
    with pytest.raises(trio.ClosedResourceError):
        await serve_control(turnstile, path=tmp_path / "s.sock")
    assert [*tmp_path.iterdir()] == []  # noqa: ASYNC240


async def test_what_it_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the missing package, and says how to install it."""
    monkeypatch.setattr(_serving, "find_spec", lambda name: None)
    async with open_turnstile() as turnstile:
        with pytest.raises(ImportError, match=r"needs msgspec: pip install .*\[control\]"):
            await serve_control(turnstile)


def test_a_name_that_is_not_there() -> None:
    """An unknown name is an error, as in any module."""
    with pytest.raises(AttributeError, match="has no attribute 'serve'"):
        _ = control_module.serve
    assert set(control_module.__all__) <= set(dir(control_module))


async def test_a_page_and_metrics(tmp_path: Path) -> None:
    """The page is for everybody, because it shows nothing; the metrics need the token."""
    page = partial(PlainTextResponse, "page", headers={"cache-control": "max-age=60"})
    metrics = partial(PlainTextResponse, "up 1")
    async with program(tmp_path, port=0, token=TOKEN, page=page, metrics=metrics) as running:
        for path in ("/", "/dash.js"):
            answer = await running.stranger.ask("GET", path)
            assert (answer.status, answer.body) == (200, b"page")
            assert answer.headers["cache-control"] == "max-age=60"
        assert (await running.stranger.ask("GET", "/", host="evil.example")).status == 400
        assert (await running.stranger.ask("GET", "/metrics")).status == 401
        answer = await running.operator.ask("GET", "/metrics")
        assert (answer.status, answer.body) == (200, b"up 1")


async def test_a_fault_in_the_server_is_logged_and_the_work_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault that ends the server, and one in a single request, are both logged."""

    def broken() -> None:
        raise RuntimeError("no page")

    async with open_turnstile() as turnstile:
        await serve_control(turnstile, path=tmp_path / "s.sock", page=broken)
        turnstile.limiter("work", 1)
    [record] = caplog.records
    assert record.name == "trio_turnstile.control"
    assert record.message == "the control API has ended; the work goes on"
    caplog.clear()

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("no page")

    async with program(tmp_path, page=lambda: fails) as running:
        answer = await running.owner.ask("GET", "/page")
        assert answer.status == 500
        await running.owner.get("/")
    assert [record.message for record in caplog.records] == ["no answer to GET /page"]


async def test_a_page_that_sends_what_cannot_be_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A page that sends what cannot be sent loses its client, and others are answered."""

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a b", b"")]})

    async with program(tmp_path, page=lambda: fails) as running:
        assert await running.owner.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""
        await running.owner.get("/")


async def test_what_the_loop_of_the_server_complains_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Complaints of the loop are for debugging, not for everybody's terminal."""
    caplog.set_level("DEBUG", "trio_turnstile.control")

    def fails() -> None:
        raise RuntimeError("later")

    async def answers(scope: Any, receive: Any, send: Any) -> None:
        asyncio.get_running_loop().call_soon(fails)
        await PlainTextResponse("done")(scope, receive, send)

    async with program(tmp_path, page=lambda: answers) as running:
        assert (await running.owner.ask("GET", "/")).body == b"done"
        await running.owner.get("/")
    [record] = [record for record in caplog.records if record.name == "trio_turnstile.control"]
    assert record.levelname == "DEBUG"
    assert "fails" in record.message


async def test_a_request_that_follows_at_once_is_not_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second request is in time even if the application still works after the first answer."""
    monkeypatch.setattr(_guard, "REQUEST_SECONDS", 0.1)

    async def lingers(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await asyncio.sleep(0.5)
        await PlainTextResponse(scope["path"])(scope, receive, send)
        await asyncio.sleep(0.05)

    async with program(tmp_path, page=lambda: lingers) as running:
        both = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
        assert b"/slow" in await running.owner.raw(both)


# ---- mounted elsewhere ----


def client_of(app: Any) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x")


async def status_of(control: Control, path: str = "/api/v1/limiters") -> int:
    async with client_of(control.app(OPEN)) as client:
        return (await client.get(path)).status_code


async def test_it_is_mounted_in_an_application_on_the_same_trio_run() -> None:
    """An application on the same trio run needs neither a thread nor a server of ours."""
    threads = threading.active_count()
    async with open_turnstile() as turnstile:
        turnstile.limiter("work", 10)
        async with open_control(turnstile) as control:
            app = Starlette(routes=[Mount("/turnstile", control.app(OPEN))])
            async with client_of(app) as client:
                answer = await client.get("/turnstile/api/v1/limiters")
                assert [limiter["name"] for limiter in answer.json()] == ["work"]
                answer = await client.get("/turnstile/api/v1/limiters/nobody")
                assert answer.status_code == 404
    assert threading.active_count() == threads


async def test_it_is_mounted_in_an_application_on_asyncio() -> None:
    """An application on asyncio, in a thread of the user, can mount the API."""
    async with open_turnstile() as turnstile:
        turnstile.limiter("work", 10)
        async with open_control(turnstile) as control:
            status = await trio.to_thread.run_sync(asyncio.run, status_of(control))
            assert status == 200


async def test_it_cannot_be_used_in_another_trio_run() -> None:
    """The trio run cannot be reached from there, and the error says so."""
    async with open_turnstile() as turnstile, open_control(turnstile) as control:
        with pytest.raises(RuntimeError, match="in another trio run than the application"):
            await trio.to_thread.run_sync(trio.run, status_of, control)


@pytest.mark.parametrize("path", ["/api/v1/limiters", "/api/v1/runs", "/api/v1/events", "/healthz"])
async def test_what_is_asked_after_the_end_is_gone(path: str) -> None:
    """Requests fail after leaving the turnstile, and after leaving the block of the API."""
    async with open_turnstile() as turnstile, open_control(turnstile) as control:
        pass
    assert await status_of(control, path) == 410
    async with AsyncExitStack() as stack:
        async with open_turnstile() as turnstile:
            control = await stack.enter_async_context(open_control(turnstile))
            assert await status_of(control) == 200
        assert await status_of(control, path) == 410
        assert await trio.to_thread.run_sync(asyncio.run, status_of(control, path)) == 410
    assert await trio.to_thread.run_sync(asyncio.run, status_of(control, path)) == 410


def test_what_is_asked_after_the_trio_run_is_gone() -> None:
    """Requests fail if the program has ended first."""
    kept: list[Control] = []

    async def main() -> None:
        async with open_turnstile() as turnstile, open_control(turnstile) as control:
            kept.append(control)

    trio.run(main)
    assert asyncio.run(status_of(kept[0])) == 410


async def test_what_is_under_way_at_the_end_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is under way at the end is not waited for."""
    started = trio.Event()

    async def stays(*_: object) -> None:
        started.set()
        await trio.sleep_forever()

    monkeypatch.setattr(Desk, "carry_out", stays)
    statuses: list[int] = []
    stack = AsyncExitStack()

    async def ask(control: Control) -> None:
        asked = status_of(control)
        statuses.append(await trio.to_thread.run_sync(asyncio.run, asked))

    async with trio.open_nursery() as nursery, open_turnstile() as turnstile:
        nursery.start_soon(ask, await stack.enter_async_context(open_control(turnstile)))
        await started.wait()
        await stack.aclose()
    assert statuses == [410]


async def test_a_stream_in_an_application_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream says so when the program is busy, and when it is over."""
    monkeypatch.setattr(_looks, "PATIENCE", 0.05)
    told, calls = trio.Event(), 0

    async def stays(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            told.set()
        await trio.sleep_forever()

    monkeypatch.setattr(Feed, "after", stays)
    texts: list[str] = []
    stack = AsyncExitStack()

    async def listen(control: Control) -> None:
        async with client_of(control.app(OPEN)) as client:
            texts.append((await client.get("/api/v1/events?every=0.1")).text)

    async with trio.open_nursery() as nursery, open_turnstile() as turnstile:
        nursery.start_soon(listen, await stack.enter_async_context(open_control(turnstile)))
        await told.wait()
        await stack.aclose()
    [text] = texts
    assert text.startswith(": the program is busy\n\n")
    assert text.endswith("event: bye\ndata: {}\n\n")


async def test_who_asks_in_the_same_trio_run_is_not_kept_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A request in the same trio run is given up if it takes too long."""

    async def stays(*_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(Desk, "carry_out", stays)
    monkeypatch.setattr(_bridge, "PATIENCE", 0)
    async with open_turnstile() as turnstile, open_control(turnstile) as control:
        assert await status_of(control) == 503


def test_other_threads_get_a_turn_beside_a_trio_run_that_is_never_idle() -> None:
    """The loop pauses every 10 ms, but not if it has waited for something meanwhile."""
    time, pauses = 0.0, list[float]()
    give_way = GiveWay(lambda: time, lambda _: pauses.append(time))
    for tick in range(1, 16):
        time = tick * 0.004
        give_way.before_io_wait(0.5 if tick == 8 else 0)
    assert pauses == pytest.approx([0.012, 0.024, 0.044, 0.056])


async def test_a_server_that_sends_other_things_than_http() -> None:
    """The messages about its own lifespan are answered, although nothing depends on them."""
    async with open_turnstile() as turnstile, open_control(turnstile) as control:
        app = control.app(OPEN)
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "lifespan.startup" if not sent else "lifespan.shutdown"}

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await app({"type": "lifespan", "app": None, "state": {}}, receive, send)
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


# ---- processes ----


PROGRAM = """
import sys, trio
from trio_turnstile import open_turnstile
from trio_turnstile.integrations.control import serve_control
async def main():
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        turnstile.limiter("work", 10)
        await nursery.start(serve_control, turnstile)
        print("ready", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()
trio.run(main)
"""


def start(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-X", "dev", "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_programs_that_are_killed_leave_nothing_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs that look for sockets find the live ones, and the dead ones are removed."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with start(tmp_path) as killed, start(tmp_path) as living:
        paths = {
            process.pid: tmp_path / "turnstile" / f"{process.pid}.sock"
            for process in (killed, living)
        }
        assert live_sockets() == sorted(paths.values())
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        assert live_sockets() == [paths[living.pid]]
        answer = Client(Served(paths[living.pid], None)).ask_sync("GET", "/api/v1/")
        assert answer.body["run"]["pid"] == living.pid
        assert paths[killed.pid].exists()
        with start(tmp_path) as third:
            assert not paths[killed.pid].exists()
            third.communicate()
        out, err = living.communicate()
    assert (out, err, living.returncode) == ("", "", 0)
    assert live_sockets() == []


def test_a_program_that_ends_at_once(tmp_path: Path) -> None:
    """A program that ends before its server has begun prints nothing and leaves nothing."""
    with start(tmp_path) as process:
        out, err = process.communicate()
    assert (out, err, process.returncode) == ("", "", 0)
    assert list((tmp_path / "turnstile").iterdir()) == []


async def test_a_request_that_its_application_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work that it began is cancelled, and nobody gets its result."""
    begun, given_up = threading.Event(), threading.Event()

    async def stays(*_: object) -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            given_up.set()

    async def ask(control: Control) -> None:
        request = asyncio.create_task(status_of(control))
        await asyncio.to_thread(begun.wait)
        request.cancel()
        with suppress(asyncio.CancelledError):
            await request
        await asyncio.to_thread(given_up.wait)
        await asyncio.sleep(0.05)  # until the loop has noticed it

    monkeypatch.setattr(Desk, "carry_out", stays)
    async with open_turnstile() as turnstile, open_control(turnstile) as control:
        await trio.to_thread.run_sync(asyncio.run, ask(control))
    assert given_up.is_set()
