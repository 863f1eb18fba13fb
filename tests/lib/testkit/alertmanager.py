"""An Alertmanager that runs as long as a test needs it."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

PROGRAMS = ("prometheus-alertmanager", "alertmanager")

SETTINGS = """
route:
  receiver: turnstile
  group_by: [alertname]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: turnstile
    webhook_configs:
      - url: http://127.0.0.1:{port}/api/v1/messages/alertmanager
        http_config:
          authorization:
            credentials: {token}
"""

PATIENCE = 30.0


@attrs.frozen
class Alertmanager:
    """A running Alertmanager, to which alerts can be sent."""

    port: int

    def tell(self, labels: dict[str, str], *, ended: bool = False) -> None:
        """Report that an alert fires, or that it has ended."""
        alert: dict[str, object] = {"labels": labels, "annotations": {"summary": "it is slow"}}
        if ended:
            alert["endsAt"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        assert self.ask("POST", "/api/v2/alerts", json.dumps([alert])) == 200

    def ask(self, method: str, path: str, body: str | None = None) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            return connection.getresponse().status
        finally:
            connection.close()


@contextmanager
def alertmanager(folder: Path, *, port: int, token: str) -> Iterator[Alertmanager]:
    """Start one that calls a webhook at ``port``; skip the test if none is installed."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("Alertmanager is not installed: apt-get install prometheus-alertmanager")
    (folder / "alertmanager.yml").write_text(SETTINGS.format(port=port, token=token))
    with socket.create_server(("127.0.0.1", 0)) as free:
        running = Alertmanager(free.getsockname()[1])
    command = [
        program,
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{running.port}",
        "--cluster.listen-address=",  # otherwise it listens on all addresses
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_until_ready(running, process, folder / "log")
        yield running
    finally:
        process.kill()
        process.wait()


def _wait_until_ready(running: Alertmanager, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if running.ask("GET", "/-/ready") == 200:
                return
        except OSError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(log.read_text())
        time.sleep(0.05)
