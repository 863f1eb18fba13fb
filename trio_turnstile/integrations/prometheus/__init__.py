"""Metrics for Prometheus: ``pip install 'trio-turnstile[prometheus]'``.

The numbers are read in the trio run, in small portions, and converted to Prometheus' format in a
thread, so a scrape of thousands of limiters delays no task. The package ``prometheus_client`` is
needed only for a collector that is registered with one of its registries.
"""

from __future__ import annotations

from ._collector import TurnstileCollector, metrics_text

__all__ = ["TurnstileCollector", "metrics_text"]
