"""Nothing that is sent to the control API ends the program, hangs it, leaks, or moves a limit.

``TURNSTILE_SOAK=100`` sends 100,000 requests instead of 1,000.
"""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import trio

from testkit.control import TOKEN, Answer, Client, Program, program
from testkit.soak import name_of, seeds
from trio_turnstile.integrations.control import _bridge, _guard, _server

HOST = b"Host: localhost\r\n"
AUTHORIZATION = f"Authorization: Bearer {TOKEN}\r\n".encode()
REQUESTS = 50


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Program]:
    async with program(tmp_path, port=0, token=TOKEN) as running:
        await running.owner.get("/")
        await running.operator.get("/")
        yield running


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def settles(number: Callable[[], int], expected: int) -> None:
    """Wait until a number has dropped."""
    with trio.fail_after(10):
        while number() > expected:
            await trio.sleep(0.01)


async def is_well(running: Program) -> None:
    """Check that both listeners answer, and that no limit has moved."""
    for client in (running.owner, running.operator):
        assert {limiter["name"] for limiter in await client.get("/limiters")} == {"work", "db"}
    assert running.limits == {"work": 10, "db": 5}


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\x00\xff\xfe" * 50 + b"\r\n\r\n", b"400"),
        (b"GET /api/v1/limiters HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /api/v1/limiters HTTP/1.1\r\n" + HOST + b"Host: evil\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 200_000 + b"\r\n\r\n", b"4"),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", b"4"),
        (b"GET /../../../etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", b"404"),
        (b"GET /api/v1/limiters/%ff%00 HTTP/1.1\r\n" + HOST + b"\r\n", b"404"),
        (b"GET /api/v1/limiters/\xff HTTP/1.1\r\n" + HOST + b"\r\n", b"400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", b"4"),
        (b"GET / HTTP/0.9\r\n\r\n", b"4"),
        (b"CONNECT evil.example:80 HTTP/1.1\r\n" + HOST + b"\r\n", b"404"),
        (
            b"PATCH /api/v1/limiters/work HTTP/1.1\r\n"
            + HOST
            + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"4",
        ),
        (
            b"PATCH /api/v1/limiters/work HTTP/1.1\r\n"
            + HOST
            + b"Transfer-Encoding: chunked\r\n\r\n"
            + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 20,
            b"413",
        ),
        (
            b"GET /healthz HTTP/1.1\r\n"
            + HOST
            + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: A\r\n\r\n",
            b"200",
        ),
        (
            b"GET /healthz HTTP/1.1\r\n"
            + HOST
            + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: bKdPyn3u98cTfZJSh4TNeQ==\r\n\r\nx",
            b"200",
        ),
    ],
)
async def test_requests_that_have_broken_servers(
    running: Program, request_: bytes, status: bytes
) -> None:
    """Requests that broke other servers are answered or refused, and the program goes on."""
    answer = await running.owner.raw(request_, wait=0.3)
    assert answer.startswith(b"HTTP/1.1 " + status)
    await is_well(running)


def mutated(chance: random.Random, head: bytes) -> bytes:
    """Return a request with some bytes changed, which cannot make it a valid one."""
    body = b'{"limitations": "nineteen and ninety", "seconds": "sixty-six"}'
    data = bytearray(head + HOST + AUTHORIZATION + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                del data[at:]
                data += b"\r\n\r\n"
            case 1:
                data[at:at] = chance.randbytes(chance.randrange(1, 20))
            case _:
                data[at] = chance.randrange(256)
    return bytes(data)


def pester(client: Client, chance: random.Random, requests: int) -> None:
    """Send mutated requests, and disconnect from some without waiting."""
    for number in range(requests):
        with client.connect() as connected:
            connected.settimeout(0.02)
            try:
                connected.sendall(mutated(chance, b"PATCH /api/v1/limiters/work HTTP/1.1\r\n"))
                if number % 2:
                    connected.recv(100)
                elif connected.family == socket.AF_INET:
                    linger = b"\x01\0\0\0\0\0\0\0"  # so that closing it sends a reset
                    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            except OSError:
                pass


@pytest.mark.parametrize("part", seeds(20, part=20), ids=name_of)
async def test_mutated_requests(running: Program, part: range) -> None:
    """Under mutated requests nothing ends, hangs or leaks, and no limit moves."""
    before = open_files()
    for seed in part:
        client = running.operator if seed % 2 else running.owner
        pestering = partial(pester, client, random.Random(seed), REQUESTS)
        await trio.to_thread.run_sync(pestering)
        await is_well(running)
    await settles(open_files, before)


async def test_who_is_silent_is_hung_up_on(
    running: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client may fall silent before a request, in its head, or in its body."""
    monkeypatch.setattr(_guard, "REQUEST_SECONDS", 0.3)
    monkeypatch.setattr(_guard, "BODY_SECONDS", 0.3)
    body = b"PATCH /api/v1/limiters/work HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\n{"
    for data in (b"", b"GET / HTT", body, b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"):
        begin = perf_counter()
        await running.owner.raw(data, wait=9)
        assert perf_counter() - begin < 5
    await is_well(running)


async def stalled(client: Client, clients: int) -> list[socket.socket]:
    """Connect clients that request a lot and read nothing."""
    connected = []
    for _ in range(clients):
        end = client.connect()
        end.setblocking(False)
        request = b"GET /api/v1/limiters?limit=1000 HTTP/1.1\r\n" + HOST + b"\r\n"
        with suppress(OSError):
            end.send(request * 50)
        connected.append(end)
    await trio.lowlevel.checkpoint()
    return connected


async def test_who_does_not_read_is_hung_up_on(
    running: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that does not read is cut off after some seconds; others are answered meanwhile."""
    monkeypatch.setattr(_guard, "SEND_SECONDS", 0.2)
    before = open_files()
    for number in range(150):
        running.turnstile.limiter(f"host {number}", 1)
    clients = await stalled(running.owner, 10)
    assert (await running.owner.get("/limiters/db"))["limit"] == 5
    await settles(open_files, before + 10)
    for client in clients:
        client.close()


async def test_an_application_cannot_keep_a_client_that_is_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client is disconnected, whatever the application does about the error."""
    monkeypatch.setattr(_guard, "SEND_SECONDS", 0.1)

    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        message = {"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True}
        for _ in range(100):
            with suppress(TimeoutError):
                await send(message)
            await asyncio.sleep(0.05)

    async with program(tmp_path, page=lambda: stubborn) as running:
        with running.owner.connect() as client, trio.fail_after(5):
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = await trio.to_thread.run_sync(client.recv, 100)
            assert received.startswith(b"HTTP/1.1 200")
            with pytest.raises(ConnectionError):
                while True:
                    client.send(b"x")
                    await trio.sleep(0.01)


async def test_who_sends_for_ever_is_hung_up_on(
    running: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody reads the body, because the request was refused by its head."""
    monkeypatch.setattr(_guard, "REQUEST_SECONDS", 0.3)

    def send_for_ever() -> None:
        with running.stranger.connect() as connected:
            head = b"POST /api/v1/up HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
            connected.sendall(head)
            with suppress(OSError):
                while True:
                    connected.sendall(b"1\r\nx\r\n")

    with trio.fail_after(10):
        await trio.to_thread.run_sync(send_for_ever)
    await is_well(running)


async def test_who_reads_slowly_gets_all(running: Program) -> None:
    """A slow client gets everything, as long as it reads something now and then."""
    for number in range(600):
        running.turnstile.limiter(f"host {number} {'x' * 300}", 1)
    request = b"GET /api/v1/limiters?limit=1000 HTTP/1.1\r\n" + HOST + b"\r\n"
    last = b"GET /healthz HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n"
    with running.owner.connect() as client:
        client.sendall(request * 3 + last)
        for _ in range(5):  # meanwhile more has been written than the system can buffer
            await running.owner.get("/limiters/db")
        received = iter(partial(client.recv, 65536), b"")
        answered = await trio.to_thread.run_sync(b"".join, received)
    assert answered.count(b"HTTP/1.1 200 OK") == 4
    assert answered.endswith(b'{"status":"ok"}')


async def test_who_sends_nonsense_after_the_answer_is_hung_up_on(running: Program) -> None:
    """A client that sends nonsense after an answer is cut off, as no answer could follow."""

    def ask() -> bytes:
        with running.stranger.connect() as connected:
            connected.settimeout(5)
            head = b"POST /api/v1/up HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
            connected.sendall(head)
            answer = b""
            while not answer.endswith(b'"}'):
                answer += connected.recv(65536)
            assert answer.startswith(b"HTTP/1.1 401")
            connected.sendall(b"nonsense\r\n")
            with suppress(ConnectionError):
                return connected.recv(65536)
            return b""

    assert await trio.to_thread.run_sync(ask) == b""
    await is_well(running)


def hung_up_on(client: socket.socket) -> bool:
    """Whether the server has closed a connection on which nothing was sent."""
    client.setblocking(False)
    try:
        return not client.recv(1)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


async def test_there_is_room_for_so_many_clients(running: Program) -> None:
    """More are turned away, and get in when there is room again. The other listener stays free."""
    before = open_files()
    clients = [running.owner.connect() for _ in range(2 * _guard.CONNECTIONS)]
    await settles(lambda: sum(not hung_up_on(client) for client in clients), _guard.CONNECTIONS)
    assert sum(map(hung_up_on, clients)) == _guard.CONNECTIONS
    assert (await running.operator.get("/limiters/db"))["limit"] == 5
    for client in clients:
        client.close()
    await settles(open_files, before)
    await is_well(running)


async def test_stalled_clients_do_not_hold_up_the_end(tmp_path: Path) -> None:
    """200 clients read nothing, others listen, and the program is cancelled at once."""
    before = open_files()
    async with program(tmp_path, port=0, token=TOKEN) as running:
        for number in range(150):
            running.turnstile.limiter(f"host {number} {'x' * 300}", 1)
        await running.owner.get("/")
        clients = [*await stalled(running.owner, 105), *await stalled(running.operator, 95)]
        await trio.lowlevel.wait_readable(clients[-1])
        running.nursery.cancel_scope.cancel()
        begin = perf_counter()
    took = perf_counter() - begin
    print(f"cancelled in {took:.3f} s")
    assert took < 1  # it is 0.05 s where nothing else runs
    await settles(lambda: sum("serve_control" in t.name for t in threading.enumerate()), 0)
    await settles(open_files, before + len(clients) + 2)
    for client in clients:
        client.close()


async def test_at_the_end_nothing_more_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client may have sent many requests at once, and answering them all would take too long."""
    monkeypatch.setattr(_server, "FAREWELL_SECONDS", 0.3)
    monkeypatch.setattr(_server, "ENDING_SECONDS", 5)
    begun = []

    async def count(scope: Any, receive: Any, send: Any) -> None:
        begun.append(scope)
        await asyncio.sleep(0.05)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})

    async with program(tmp_path, page=lambda: count) as running:
        client = running.owner.connect()
        client.sendall((b"GET / HTTP/1.1\r\n" + HOST + b"\r\n") * 20)
        with trio.fail_after(5):
            while not begun:
                await trio.sleep(0.001)
        running.nursery.cancel_scope.cancel()
        before = len(begun)
    client.close()
    assert len(begun) == before


async def test_a_busy_program_says_so(running: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client gets an answer although the trio run is too busy to give one."""
    monkeypatch.setattr(_bridge, "PATIENCE", 0.05)
    answers: list[Answer] = []
    asking = threading.Thread(
        target=lambda: answers.append(running.owner.ask_sync("GET", "/healthz"))
    )
    asking.start()
    asking.join(10)  # and meanwhile the trio run does nothing else
    [answer] = answers
    assert answer.status == 503
    assert answer.body == {"error": "the program is too busy to answer; try again"}
