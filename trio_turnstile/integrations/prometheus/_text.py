"""Numbers in the format of Prometheus. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias

from ._metrics import METRICS, Key

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The content type of the text."""

_Sample: TypeAlias = tuple[str, tuple[str, ...]]


def _samples() -> Iterator[tuple[str, _Sample]]:
    """Yield the names of samples, each with the name of its metric and its labels."""
    for name, (kind, labels, _) in METRICS.items():
        if kind == "histogram":
            yield f"{name}_bucket", (name, (*labels, "le"))
            yield f"{name}_sum", (name, labels)
            yield f"{name}_count", (name, labels)
        else:
            yield name, (name, labels)


_SAMPLES: Mapping[str, _Sample] = dict(_samples())


def as_text(numbers: Mapping[Key, float]) -> bytes:
    """Return numbers as text.

    ``prometheus_client`` has a function for this, but it makes five objects from each number. With
    10,000 limiters it took several times as long, and made the garbage collector stop all threads
    for a tenth of a second.
    """
    lines: dict[str, list[str]] = {name: [] for name in METRICS}
    for (name, *values), number in numbers.items():
        metric, labels = _SAMPLES[name]
        pairs = zip(labels, values, strict=True)
        shown = ",".join([f'{label}="{_escape(value)}"' for label, value in pairs])
        lines[metric].append(f"{name}{{{shown}}} {number_text(number)}\n")
    parts = [
        f"# HELP {name} {text}\n# TYPE {name} {kind}\n{''.join(lines[name])}"
        for name, (kind, _, text) in METRICS.items()
        if lines[name]
    ]
    return "".join(parts).encode()


def _escape(value: str) -> str:
    value = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return value.encode("utf-8", "replace").decode()


def number_text(number: float) -> str:
    """Return a number as Prometheus writes it."""
    return "+Inf" if number == math.inf else f"{number:.15g}"


def as_metrics(numbers: Mapping[Key, float]) -> Iterator[Metric]:
    """Return numbers as the objects of ``prometheus_client``."""
    from prometheus_client.core import Metric

    metrics = {
        name: Metric(name.removesuffix("_total"), text, kind)
        for name, (kind, _, text) in METRICS.items()
    }
    for (name, *values), number in numbers.items():
        metric, labels = _SAMPLES[name]
        metrics[metric].add_sample(name, dict(zip(labels, values, strict=True)), number)
    return (metric for metric in metrics.values() if metric.samples)
