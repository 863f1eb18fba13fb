"""Documents of the control API, as a process returns them."""

from __future__ import annotations

from typing import Any


def limiter(name: str = "work", limit: float | None = 20, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "limit": limit,
        "running": 0,
        "waiting": 0,
        "cap": limit,
        "ceiling": 32,
        "minimum": 1,
        "paused": False,
        "paused_for": None,
        "limited_by": "cap",
        "bounds": {"cap": limit},
        "override": None,
        **more,
    }


def override(**more: Any) -> dict[str, Any]:
    return {"limit": 8, "by": "ana", "note": "night", "until": None, **more}


def step(name: str = "operations", received: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "limiter": "work",
        "received": received,
        "completed": 0,
        "discarded": 0,
        "failed": 0,
        "diverted": 0,
        "cancelled": 0,
        "skipped": 0,
        "in_flight": 0,
        "retried": 0,
        "batches": {},
        **more,
    }


def run(name: str = "work", *steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "kind": "phases",
        "state": "running",
        "started": 0.0,
        "total": None,
        "steps": list(steps),
        "errors": [],
        "errors_omitted": 0,
        **more,
    }


def error(text: str = "work: exit status 1", **more: Any) -> dict[str, Any]:
    return {"run": "work", "time": None, "step": None, "identifiers": [], "text": text, **more}


def decision(text: str = "8 to 20: set past every rule (by ana): night", **more: Any) -> Any:
    return {
        "limiter": "work",
        "time": 0.0,
        "signal": None,
        "before": 8,
        "after": 20,
        "reason": "override",
        "by": "ana",
        "note": "night",
        "applied": True,
        "repeated": 0,
        "text": text,
        "evidence": {},
        **more,
    }


def state(time: float = 0.0, **more: Any) -> dict[str, Any]:
    return {"time": time, **more}
