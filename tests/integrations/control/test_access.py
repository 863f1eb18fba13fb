"""Who may read and who may change, and what a page from elsewhere can do."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from testkit.control import TOKEN, Client, Program, program
from trio_turnstile import open_turnstile
from trio_turnstile.integrations.control import Access, serve_control


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Program]:
    async with program(tmp_path, port=0, token=TOKEN) as running:
        yield running


async def status(client: Client, method: str = "PATCH", **headers: str | None) -> int:
    """Make a request, to read or to change something, and return the status of the answer."""
    body = {"limit": 33} if method == "PATCH" else None
    answer = await client.ask(method, "/api/v1/limiters/work", body, **headers)
    return answer.status


async def test_the_port_needs_the_token_to_change(running: Program) -> None:
    """No token, a wrong one, and one in the wrong place have no effect."""
    assert await status(running.stranger) == 401
    for wrong in ("Bearer x", TOKEN, f"Basic {TOKEN}", "Bearer \xe4", ""):
        assert await status(running.stranger, authorization=wrong) == 401
    assert await status(running.stranger, cookie=f"token={TOKEN}") == 401
    assert running.limits["work"] == 10
    assert await status(running.operator) == 200
    assert running.limits["work"] == 33


@pytest.mark.parametrize(
    "path", ["/api/v1/", "/api/v1/limiters", "/api/v1/runs", "/api/v1/events", "/openapi.json"]
)
async def test_the_port_needs_the_token_to_read(running: Program, path: str) -> None:
    """The token is needed because every user of the machine can reach the port."""
    answer = await running.stranger.ask("GET", path)
    assert answer.status == 401
    assert answer.body == {"error": "this needs the token: Authorization: Bearer ..."}


async def test_two_tokens_are_none(running: Program) -> None:
    """Two headers are refused, because somebody else may have added one of them."""
    head = f"GET /api/v1/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    once = await running.stranger.raw(head.encode() + b"Connection: close\r\n\r\n")
    twice = await running.stranger.raw(
        head.encode() + f"Authorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n".encode()
    )
    assert once.startswith(b"HTTP/1.1 200")
    assert twice.startswith(b"HTTP/1.1 401")


async def test_the_socket_needs_no_token(running: Program) -> None:
    """The socket needs no token, because only its owner can connect to it."""
    assert running.served.path is not None
    assert stat.S_IMODE(running.served.path.stat().st_mode) == 0o600
    assert await status(running.owner) == 200


async def test_trust_follows_from_the_listener(running: Program) -> None:
    """Nothing in a request to the port makes it as trusted as the socket."""
    for header in ("x_forwarded_for", "forwarded", "x_real_ip", "x_forwarded_host"):
        assert await status(running.stranger, **{header: "for=unix:"}) == 401
    assert (
        await running.stranger.raw(
            b"PROXY UNKNOWN\r\nGET /api/v1/ HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        != b""
    )
    assert running.limits["work"] == 10


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost.evil.example"},
        {"origin": "http://localhost:1"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
async def test_a_page_from_elsewhere_achieves_nothing(
    running: Program, headers: dict[str, str]
) -> None:
    """Even with the token it fails, both at the port and, through some proxy, at the socket."""
    for client in (running.operator, running.owner):
        assert await status(client, **headers) == 403
        assert await status(client, "GET", **headers) == 403
    assert running.limits["work"] == 10


async def test_a_page_of_ours_may_ask(running: Program) -> None:
    """A page of ours may ask, because the browser says where the page comes from."""
    host = f"127.0.0.1:{running.served.port}"
    origin = {"origin": f"http://{host}", "sec_fetch_site": "same-origin"}
    assert await status(running.operator, host=host, **origin) == 200
    assert await status(running.operator, sec_fetch_site="none") == 200


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:8833", 200),
        ("localhost", 200),
        ("LOCALHOST:8833", 200),
        ("[::1]:8833", 200),
        ("evil.example", 400),
        ("evil.example:8833", 400),
        ("127.0.0.1.evil.example", 400),
        ("localhost.", 400),
        ("127.1", 400),
        ("::1", 400),
        ("", 400),
    ],
)
async def test_names_that_were_made_to_point_here(
    running: Program, host: str, expected: int
) -> None:
    """A page that makes its own name point to this machine sends that name."""
    assert await status(running.operator, "GET", host=host) == expected


async def test_a_browser_is_told_to_let_nobody_near(running: Program) -> None:
    """Every answer does so, refusals included; and a preflight is not granted."""
    for answer in (
        await running.operator.ask("GET", "/api/v1/limiters"),
        await running.stranger.ask("GET", "/api/v1/limiters"),
        await running.operator.ask("GET", "/api/v1/limiters", host="evil.example"),
        await running.operator.ask("GET", "/nothing"),
        await running.stranger.ask(
            "OPTIONS",
            "/api/v1/limiters/work",
            origin="http://evil.example",
            access_control_request_method="PATCH",
        ),
    ):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert not any(name.startswith("access-control-") for name in answer.headers)
        assert "server" not in answer.headers


async def test_it_may_be_served_read_only(tmp_path: Path) -> None:
    """With a read-only server, everything can be seen, and nothing can be changed."""
    async with program(tmp_path, read_only=True) as running:
        assert (await running.owner.get("/"))["read_only"] is True
        assert await status(running.owner, "GET") == 200
        assert await status(running.owner) == 403
        message = {"limiter": "work", "signal": "down"}
        answer = await running.owner.ask("POST", "/api/v1/messages", message)
        assert answer.status == 403
        assert running.limits["work"] == 10


async def test_a_port_is_not_served_without_a_token() -> None:
    """A port is not served without a token, and an empty one does not count."""
    async with open_turnstile() as turnstile:
        for token in (None, ""):
            with pytest.raises(ValueError, match="a port needs a token"):
                await serve_control(turnstile, port=0, token=token)


def test_a_token_is_not_shown() -> None:
    """A token cannot get into a log through a repr."""
    assert TOKEN not in repr(Access(TOKEN))


ASK = """
import os, socket, sys
if os.getuid() == 0:
    os.setuid(65534)
client = socket.socket(socket.AF_UNIX)
client.settimeout(5)
try:
    client.connect(sys.argv[1])
    client.sendall(b"GET /api/v1/ HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    print(client.recv(100))
except OSError as error:
    print(type(error).__name__)
"""


async def test_another_user_is_refused(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mode of the socket refuses them; if it was changed, the peer's identity does."""
    folder = tmp_path_factory.mktemp("s")
    if os.getuid() == 0:
        for parent in (folder, *folder.parents[:3]):
            parent.chmod(0o755)
    async with program(folder) as running:
        path = running.served.path
        assert path is not None

        async def ask() -> bytes:
            command = [sys.executable, "-c", ASK, str(path)]
            done = await trio.run_process(command, capture_stdout=True, stderr=subprocess.STDOUT)
            return done.stdout.strip()

        if os.getuid() == 0:
            assert await ask() == b"PermissionError"
        else:
            assert (await ask()).startswith(b"b'HTTP/1.1 200")
            monkeypatch.setattr(os, "geteuid", lambda: 12345)
        path.chmod(0o666)
        assert await ask() in (b"b''", b"ConnectionResetError", b"BrokenPipeError")
        assert running.limits["work"] == 10
