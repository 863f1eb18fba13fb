"""Metrics and spans for OpenTelemetry: ``pip install 'trio-turnstile[opentelemetry]'``.

Only the API of OpenTelemetry is used; the program chooses the SDK and the exporters. Names follow
the closest existing conventions, which are those of rate limiters in ASP.NET Core.
"""

from __future__ import annotations

from ._metrics import observe_durations, observe_metrics
from ._spans import TracedOperation, traced

__all__ = ["TracedOperation", "observe_durations", "observe_metrics", "traced"]
