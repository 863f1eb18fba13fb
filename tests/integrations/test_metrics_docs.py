"""The page about metrics and the dashboard use the metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from trio_turnstile import open_turnstile
from trio_turnstile.integrations.opentelemetry import observe_durations, observe_metrics
from trio_turnstile.integrations.prometheus._metrics import METRICS
from trio_turnstile.integrations.statistics import _schema

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "metrics.rst").read_text()
DASHBOARD = json.loads((DOCS / "grafana" / "turnstile.json").read_text())


def test_the_table_for_prometheus_is_right() -> None:
    """Each metric is in the table once, with its type and its labels."""
    rows = re.findall(r"\* - ``(turnstile_\w+)``\n +- (\w+)\n +- ([\w, ]+)\n", PAGE)
    documented = {name: (kind, tuple(labels.split(", "))) for name, kind, labels in rows}
    assert documented == {name: (kind, labels) for name, (kind, labels, _) in METRICS.items()}
    assert len(rows) == len(documented)


def test_the_table_for_opentelemetry_is_right() -> None:
    """Each instrument is in the table once, with its kind and its unit."""
    rows = re.findall(r"\* - ``(turnstile\.[\w.]+)``\n +- ([\w -]+)\n +- (\S+)\n", PAGE)
    made: list[tuple[str, str, str]] = []

    class Provider(MeterProvider):
        def get_meter(self, *args: Any, **kwargs: Any) -> Any:
            return Recorder(made)

    async def main() -> None:
        async with open_turnstile() as turnstile:
            provider = Provider([InMemoryMetricReader()])
            observe_metrics(turnstile, provider)
            observe_durations(turnstile, provider)
            provider.shutdown()

    trio.run(main)
    assert sorted(rows) == sorted(made)


class Recorder:
    """A meter that notes what is created."""

    def __init__(self, made: list[tuple[str, str, str]]) -> None:
        self._made = made

    def __getattr__(self, method: str) -> Any:
        kind = method.removeprefix("create_").replace("_", " ").replace("up down", "up-down")

        def create(name: str, *args: object, unit: str, description: str) -> None:
            assert description.endswith(".")
            self._made.append((name, kind, unit))

        return create


def expressions() -> Iterator[str]:
    """Give the expressions of the dashboard, with its variables filled in."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            filled = target["expr"].replace("$__rate_interval", "5m")
            yield re.sub(r"\$\w+", ".*", filled)


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    """The names and labels of all metrics on the dashboard exist."""
    text = "\n".join(expressions())
    asked = set(re.findall(r"turnstile_\w+", text))
    assert {name.removesuffix("_bucket") for name in asked} <= METRICS.keys()
    labels = set(re.findall(r"(\w+)=~?\"", text))
    assert labels <= {"instance", *(each for _, names, _ in METRICS.values() for each in names)}


def test_prometheus_understands_the_dashboard(tmp_path: Path) -> None:
    """promtool understands each expression of the dashboard as a rule."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    rules = [{"record": f"r:{at}", "expr": each} for at, each in enumerate(expressions())]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    check = subprocess.run(
        ["promtool", "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stderr + check.stdout


def test_the_tables_of_the_database_are_described() -> None:
    """The page describes each table of the database, and no other."""
    page = (DOCS / "statistics.rst").read_text()
    described = re.findall(r"\* - ``(turnstile_\w+)``", page)
    assert sorted(described) == sorted(_schema.METADATA.tables)
