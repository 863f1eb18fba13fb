"""Metrics in the format of Prometheus, and as a real Prometheus sees them."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import pytest
import trio
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock, wait_all_tasks_blocked

from testkit.pipelines import into
from trio_turnstile import (
    Consumer,
    Limiter,
    Processor,
    Producer,
    Saturated,
    Scalable,
    Skip,
    Throttle,
    Turnstile,
    open_turnstile,
    run_phases,
)
from trio_turnstile.integrations.prometheus import (
    TurnstileCollector,
    _durations,
    metrics_text,
)
from trio_turnstile.integrations.prometheus._metrics import METRICS
from trio_turnstile.integrations.prometheus._text import CONTENT_TYPE

Key = tuple[str, frozenset[tuple[str, str]]]


def parsed(text: bytes) -> dict[Key, float]:
    """Return the samples of a text, by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def key(name: str, **labels: str) -> Key:
    return f"turnstile_{name}", frozenset(labels.items())


async def fails_on_multiples_of_ten(number: int) -> int:
    await trio.sleep(1)
    if number % 10 == 0:
        raise OSError(number)
    return number


def pipeline(limiter: Limiter, items: int = 20) -> Any:
    return (
        Producer(range(items))
        | Processor(fails_on_multiples_of_ten, name="fetch", limiter=limiter, on_error=[Skip()])
        | Consumer(into([]), name="store")
    )


async def test_limiters_and_steps_are_told(autojump_clock: MockClock) -> None:
    """Limiters and steps have their current values, and an ended run keeps its counts."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        api = turnstile.limiter("api", 4, throttle=Throttle(hold=0), max_waiting=1)
        collector = TurnstileCollector(turnstile)
        api.down()
        await pipeline(api).run(name="import")
        nursery.start_soon(pipeline(api).run)
        nursery.start_soon(partial(pipeline(api).run, name="import"))
        await trio.sleep(1.5)
        numbers = parsed(await collector.text())
        nursery.cancel_scope.cancel()
    assert numbers[key("limiter_limit", limiter="api")] == 2
    assert numbers[key("limiter_running", limiter="api")] == 2
    assert numbers[key("limiter_admitted_total", limiter="api")] == 24
    assert numbers[key("limiter_decisions_total", limiter="api", reason="signal")] == 1
    step = {"run": "import", "step": "fetch"}
    assert numbers[key("step_items_received_total", **step)] > 20
    assert numbers[key("step_items_total", **step, outcome="failed")] >= 2
    assert numbers[key("step_items_in_flight", **step)] >= 1
    assert numbers[key("run_items_expected", run="import")] == 20
    assert key("limiter_cap", limiter="api") not in numbers
    assert key("limiter_turned_away_total", limiter="api") not in numbers


async def test_details_are_told_if_asked(autojump_clock: MockClock) -> None:
    """Details are cap, ceiling, floor, whether it is paused, and how many were turned away."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 4, max_waiting=0)
        endless = turnstile.limiter("any", float("inf"))
        api.pause()
        await wait_all_tasks_blocked()
        with pytest.raises(Saturated):
            await api.acquire()
        numbers = parsed(await metrics_text(turnstile, detail=True))
        assert endless.total_tokens == float("inf")
    assert numbers[key("limiter_limit", limiter="any")] == float("inf")
    assert numbers[key("limiter_cap", limiter="api")] == 4
    assert numbers[key("limiter_ceiling", limiter="api")] == 4
    assert numbers[key("limiter_floor", limiter="api")] == 1
    assert numbers[key("limiter_paused", limiter="api")] == 1
    assert numbers[key("limiter_turned_away_total", limiter="api")] == 1


async def test_limiters_of_one_kind_are_summed(autojump_clock: MockClock) -> None:
    """A function of the user names the kinds by which limiters are summed."""
    async with open_turnstile() as turnstile:
        for customer, tokens in (("a", 2), ("b", 3)):
            turnstile.limiter(f"customer {customer}", tokens)
        collector = TurnstileCollector(turnstile, group=lambda name: name.split()[0])
        numbers = parsed(await collector.text())
    assert numbers[key("limiter_limit", limiter="customer")] == 5
    assert len([name for name, _ in numbers if name == "turnstile_limiter_limit"]) == 1


async def test_a_run_of_phases_is_one_step_and_its_phases_are_measured(
    autojump_clock: MockClock,
) -> None:
    """The buckets are in seconds, and each includes the ones before."""

    class Job(Scalable):
        async def work(self, channels: Any) -> None:
            await trio.sleep(2)

    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        collector = TurnstileCollector(turnstile, buckets=(0.5, 1, 5))
        jobs = [Job() for _ in range(3)]
        run = partial(run_phases, jobs, limiter=turnstile.limiter("jobs", 1), name="night")
        await nursery.start(run)
        await trio.sleep(5)
        numbers = parsed(await collector.text())
    step = {"run": "night", "step": "operations"}
    assert numbers[key("step_items_total", **step, outcome="completed")] == 2
    assert numbers[key("step_items_in_flight", **step)] == 1
    work = {"run": "night", "step": "work", "outcome": "completed"}
    buckets = [numbers[key("step_duration_seconds_bucket", **work, le=le)] for le in ("1", "5")]
    assert buckets == [0, 2]
    assert numbers[key("step_duration_seconds_sum", **work)] == 4
    assert numbers[key("step_duration_seconds_count", **work)] == 2


@pytest.mark.parametrize("buckets", [(1, 1), (2, 1)])
async def test_buckets_have_to_ascend(buckets: tuple[float, ...]) -> None:
    """Buckets that do not ascend are refused at once."""
    async with open_turnstile() as turnstile:
        with pytest.raises(ValueError, match="buckets must be seconds in ascending order"):
            TurnstileCollector(turnstile, buckets=buckets)


async def test_a_registry_gives_the_same_samples(autojump_clock: MockClock) -> None:
    """A registry agrees in the trio run, in another thread, and once the turnstile was left."""
    odd = 'a "quoted"\n\\name \udc80'
    registry = CollectorRegistry()
    async with open_turnstile() as turnstile:
        api = turnstile.limiter(odd, 4)
        collector = TurnstileCollector(turnstile, detail=True, buckets=(1,))
        registry.register(collector)
        await pipeline(api, 3).run()
        text = await collector.text()
        assert odd.replace("\udc80", "?") in {value for _, ls in parsed(text) for _, value in ls}
        api.close()
        text = await collector.text()
        assert parsed(generate_latest(registry)) == parsed(text)
        in_thread = await trio.to_thread.run_sync(generate_latest, registry)
        assert parsed(in_thread) == parsed(text)


def test_a_registry_can_be_asked_after_the_trio_run() -> None:
    """A registry can be read after the trio run, and ended runs keep their counts."""
    registry = CollectorRegistry()

    async def main() -> None:
        async with open_turnstile() as turnstile:
            registry.register(TurnstileCollector(turnstile))
            await pipeline(turnstile.limiter("api", 4), 3).run()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    numbers = parsed(generate_latest(registry))
    assert numbers[key("step_items_received_total", run="pipeline", step="fetch")] == 3


async def test_the_counts_of_a_hundred_ended_runs_are_kept(autojump_clock: MockClock) -> None:
    """The counts of ended runs are kept for the hundred newest names."""
    async with open_turnstile() as turnstile:
        collector = TurnstileCollector(turnstile)
        for number in range(103):
            await pipeline(turnstile.limiter("api", 4), 0).run(name=f"run {number}")
        numbers = parsed(await collector.text())
    runs = {dict(labels)["run"] for _, labels in numbers if "run" in dict(labels)}
    assert runs == {f"run {number}" for number in range(3, 103)}


async def test_a_source_without_a_length_is_not_expected_to_end(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of expected items is left out, and the number of histograms is bounded."""
    monkeypatch.setattr(_durations, "SERIES", 1)
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        collector = TurnstileCollector(turnstile, buckets=(1,))
        endless = Producer(iter(range(5))) | Processor(
            fails_on_multiples_of_ten, limiter=turnstile.limiter("api", 1), on_error=[Skip()]
        )
        await nursery.start((endless | Consumer(into([]))).run)
        await trio.sleep(3.5)
        numbers = parsed(await collector.text())
    assert "turnstile_run_items_expected" not in {name for name, _ in numbers}
    histograms = [name for name, _ in numbers if name.endswith("seconds_count")]
    assert len(histograms) == 1


async def test_a_limiter_may_be_closed_while_others_are_read() -> None:
    """Thousands of limiters are read in portions, and other tasks run in between."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        limiters = [turnstile.limiter(f"api{number}", 1) for number in range(600)]

        async def close() -> None:
            limiters[-1].close()

        texts: list[bytes] = []

        async def read() -> None:
            texts.append(await metrics_text(turnstile))

        nursery.start_soon(read)
        await trio.lowlevel.checkpoint()
        nursery.start_soon(close)
    assert len(parsed(texts[0])) in (4 * 599, 4 * 600)
    assert {name for name, _ in parsed(texts[0])} <= METRICS.keys()


# ---- served ----


async def ask(collector: TurnstileCollector) -> tuple[int, bytes]:
    """Ask an ASGI application."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    await collector.app({"type": "lifespan"}, receive, send)
    assert sent == []
    await collector.app({"type": "http"}, receive, send)
    return sent[0]["status"], sent[1]["body"]


async def test_an_asgi_server_may_be_on_trio_or_on_asyncio() -> None:
    """An ASGI server may run in the same thread or in another one, on trio or on asyncio."""
    import asyncio

    async with open_turnstile() as turnstile:
        turnstile.limiter("api", 3)
        collector = TurnstileCollector(turnstile)
        on_trio = await ask(collector)
        on_asyncio = await trio.to_thread.run_sync(lambda: asyncio.run(ask(collector)))
    assert on_trio == on_asyncio
    assert on_trio[0] == 200
    assert parsed(on_trio[1])[key("limiter_limit", limiter="api")] == 3


async def full_text(turnstile: Turnstile) -> bytes:
    """Return a text with all metrics in it."""
    api = turnstile.limiter("api", 4, throttle=Throttle(hold=0), max_waiting=0)
    collector = TurnstileCollector(turnstile, detail=True, buckets=(0.1, 1, 10))
    api.down()
    await wait_all_tasks_blocked()
    async with trio.open_nursery() as nursery:
        await nursery.start(pipeline(api).run)
        await trio.sleep(3)
        for _ in range(3):
            with pytest.raises(Saturated):
                api.total_tokens = 1
                await api.acquire()
        text = await collector.text()
        nursery.cancel_scope.cancel()
    return text


async def test_promtool_has_nothing_against_any_metric(autojump_clock: MockClock) -> None:
    """Names, units, types and help texts are as Prometheus wants them."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    async with open_turnstile() as turnstile:
        text = await full_text(turnstile)
    families = {family.name for family in text_string_to_metric_families(text.decode())}
    assert families == {name.removesuffix("_total") for name in METRICS}
    check = await trio.run_process(
        ["promtool", "check", "metrics"],
        stdin=text,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    assert (check.returncode, check.stdout, check.stderr) == (0, b"", b"")


CONFIG = """
global: {{scrape_interval: 250ms, scrape_timeout: 250ms}}
scrape_configs:
  - job_name: turnstile
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


async def serve(collector: TurnstileCollector, stream: trio.SocketStream) -> None:
    """Answer any request with the metrics, and close the connection."""
    async with stream:
        await stream.receive_some()
        body = await collector.text()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
        await stream.send_all(f"{head}Content-Type: {CONTENT_TYPE}\r\n\r\n".encode() + body)


def query(port: int, expression: str) -> list[float]:
    """Return the values that Prometheus has for an expression, or none while it starts."""
    address = f"http://127.0.0.1:{port}/api/v1/query?query={quote(expression)}"
    try:
        with urlopen(address, timeout=5) as answer:
            found = json.load(answer)
    except OSError:
        return []
    return [float(result["value"][1]) for result in found["data"]["result"]]


@pytest.mark.slow
async def test_a_real_prometheus_scrapes_them(tmp_path: Path) -> None:
    """A real Prometheus scrapes the metrics, and sees a limit that moves."""
    if shutil.which("prometheus") is None:
        pytest.skip("Prometheus is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        api = turnstile.limiter("api", 9, throttle=Throttle(hold=0))
        answer = partial(serve, TurnstileCollector(turnstile))
        (listener,) = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        config = tmp_path / "prometheus.yml"
        own = listener.socket.getsockname()[1]
        await trio.Path(config).write_text(CONFIG.format(port=own))
        command = [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        await nursery.start(partial(trio.run_process, command, check=False, **quiet))

        async def wait_for(limit: float) -> None:
            expression = 'turnstile_limiter_limit{limiter="api"}'
            while await trio.to_thread.run_sync(query, port, expression) != [limit]:
                await trio.sleep(0.1)

        with trio.fail_after(60):
            await wait_for(9)
            api.down()
            await wait_for(7)
        nursery.cancel_scope.cancel()
