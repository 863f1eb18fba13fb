"""Metrics for Prometheus: ``pip install 'trio-turnstile[prometheus]'``.

The numbers are read in the trio run, in small portions, and put into Prometheus' format in a
thread: a scrape of thousands of limiters holds up no task. Only a collector that is registered
with a registry of the package ``prometheus_client`` needs that package.
"""

from __future__ import annotations

from ._collector import TurnstileCollector, metrics_text

__all__ = ["TurnstileCollector", "metrics_text"]
