"""The metrics of a program, served with its control API, and an alert based on them."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import trio

from testkit.alertmanager import alertmanager
from testkit.control import TOKEN, Client, Program, program
from trio_turnstile import Turnstile, open_turnstile
from trio_turnstile.integrations.control import Rule, serve_control
from trio_turnstile.integrations.prometheus import TurnstileCollector


@asynccontextmanager
async def measured(folder: Path, **options: Any) -> AsyncIterator[Program]:
    """Run a program that also serves its metrics."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        turnstile.limiter("work", 10)
        turnstile.limiter("db", 5)
        collector = TurnstileCollector(turnstile)
        options = {"path": folder / "s.sock", "metrics": lambda: collector.app, **options}
        served = await nursery.start(partial(serve_control, turnstile, **options))
        yield Program(turnstile, served, nursery)
        nursery.cancel_scope.cancel()


async def test_metrics_are_served_with_the_control_api(tmp_path: Path) -> None:
    """The metrics are at the socket and at the port; the port needs the token."""
    async with measured(tmp_path, port=0, token=TOKEN) as running:
        for client in (running.owner, running.operator):
            answer = await client.ask("GET", "/metrics")
            assert answer.status == 200
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            assert b'turnstile_limiter_limit{limiter="db"} 5\n' in answer.body
        refused = await running.stranger.ask("GET", "/metrics")
        assert refused.status == 401
        assert "db" not in str(refused.body)


async def test_metrics_are_not_there_unless_asked_for(tmp_path: Path) -> None:
    """Without metrics, the answer says that there are none."""
    async with program(tmp_path) as running:
        assert (await running.owner.ask("GET", "/metrics")).status == 404


async def test_metrics_can_be_read_only(tmp_path: Path) -> None:
    """The metrics can only be read: a POST request is refused."""
    async with measured(tmp_path) as running:
        assert (await running.owner.ask("POST", "/metrics", {})).status == 405


async def test_a_scrape_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """A client scrapes again and again while the program is cancelled."""
    async with measured(tmp_path) as running:
        for number in range(2_000):
            running.turnstile.limiter(f"host {number}", 1)
        await running.owner.ask("GET", "/metrics")
        clients = [scraping(running.owner) for _ in range(20)]
        await trio.lowlevel.wait_readable(clients[-1])  # the others are under way
        running.nursery.cancel_scope.cancel()
        begin = perf_counter()
    assert perf_counter() - begin < 2  # it is 0.05 s where nothing else runs
    for client in clients:
        client.close()


def scraping(client: Client) -> socket.socket:
    """Return a client that has requested the metrics and reads nothing."""
    connected = client.connect()
    connected.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connected


SETTINGS = """
global: {{scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms}}
rule_files: [rules.yml]
alerting:
  alertmanagers: [{{static_configs: [{{targets: ["127.0.0.1:{manager}"]}}]}}]
scrape_configs:
  - job_name: turnstile
    authorization: {{credentials: {token}}}
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""

RULES = """
groups:
  - name: turnstile
    rules:
      - alert: Queued
        expr: turnstile_limiter_waiting{limiter="work"} > 2
"""

RULE = Rule(when={"alertname": "Queued"}, limiter="db", firing=2)


@contextmanager
def prometheus(folder: Path, *, port: int, manager: int) -> Iterator[None]:
    """Run a Prometheus that scrapes ``port``, and sends alerts by the rules to an Alertmanager."""
    if shutil.which("prometheus") is None:
        pytest.skip("Prometheus is not installed: apt-get install prometheus")
    settings = SETTINGS.format(port=port, manager=manager, token=TOKEN)
    (folder / "prometheus.yml").write_text(settings)
    (folder / "rules.yml").write_text(RULES)
    with socket.create_server(("127.0.0.1", 0)) as free:
        own = free.getsockname()[1]
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{own}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def becomes(value: Callable[[], float], expected: float) -> None:
    with trio.fail_after(60):
        while value() != expected:
            await trio.sleep(0.05)


async def work(turnstile: Turnstile) -> None:
    async with turnstile.limiters["work"]:
        await trio.sleep_forever()


@pytest.mark.slow
async def test_what_a_program_shows_comes_back_as_a_limit(tmp_path: Path) -> None:
    """Prometheus sees many waiting, Alertmanager reports it, and a limit is lower meanwhile."""
    async with measured(tmp_path, port=0, token=TOKEN, rules=[RULE]) as running:
        port = running.served.port
        assert port is not None
        with (
            alertmanager(tmp_path, port=port, token=TOKEN) as manager,
            prometheus(tmp_path, port=port, manager=manager.port),
        ):
            async with trio.open_nursery() as workers:
                for _ in range(15):
                    workers.start_soon(work, running.turnstile)
                await becomes(lambda: running.limits["db"], 2)
                [decision] = running.turnstile.limiters["db"].decisions
                assert (decision.by, decision.note) == ("alertmanager", "Queued")
                workers.cancel_scope.cancel()
            await becomes(lambda: running.limits["db"], 5)
