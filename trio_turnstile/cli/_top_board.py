"""`Board`: what is known about one running process from its events. No I/O, and no clock."""

from __future__ import annotations

from collections import deque
from typing import final

from ._client import Document
from ._ctl_text import ended_items

_KEPT = 120
"""How many ticks are kept: the most that a sparkline shows."""

_DECISIONS = 100

_CHANGING = ("id", "state", "total", "steps")
_UNKNOWN_RUN: Document = {
    "state": "",
    "total": None,
    "steps": [],
    "started": None,
    "last_error": "",
}


@final
class Board:
    """What is known about one process.

    Args:
      pid: the process ID.
      name: the name that the process gives itself.
    """

    def __init__(self, pid: str, name: str) -> None:
        self.pid = pid
        self.name = name
        self.limiters: dict[str, Document] = {}
        """The limiters by name, in the order in which they came."""
        self.runs: dict[str, Document] = {}
        """What is known about each run; for some, only the figures that keep changing."""
        self.decisions: deque[Document] = deque(maxlen=_DECISIONS)
        self.now = 0.0
        """The latest time that was reported, as a Unix time."""
        self.lost = ""
        """Why nothing more comes; empty while more may come."""
        self._heard = 0.0
        """The time of the tick that followed the last event."""
        self._has_news = True
        self._running: dict[str, deque[int]] = {}
        self._ended: dict[str, deque[tuple[float, int]]] = {}

    def take(self, kind: str, document: Document) -> None:
        """Take note of an event of the process."""
        self._has_news = True
        match kind:
            case "state":
                self._take_state(document)
            case "decision":
                self.decisions.append(document)
            case "error":
                self._merge_run({"id": document["run"], "last_error": document["text"]})
            case "run":
                self._take_run(document)
            case "bye":
                self.lost = "ended"

    def tick(self, now: float) -> None:
        """Keep the current figures, for the sparklines and rates; call it at a steady pace."""
        self.now = max(self.now, now)
        if self._has_news:
            self._heard, self._has_news = self.now, False
        for name, limiter in self.limiters.items():
            self._running.setdefault(name, deque(maxlen=_KEPT)).append(limiter["running"])
        for name, run in self.runs.items():
            kept = self._ended.setdefault(name, deque(maxlen=_KEPT))
            kept.append((self.now, ended_items(run)))

    @property
    def silence(self) -> float:
        """For how many seconds no event has come."""
        return self.now - self._heard

    def running(self, limiter: str) -> tuple[int, ...]:
        """Return how many were running at each tick, oldest first."""
        return tuple(self._running.get(limiter, ()))

    def seconds_left(self, run: Document) -> float | None:
        """Return how long the rest of a run takes at the recent pace; ``None`` if unknown."""
        kept, total = self._ended.get(run["id"]), run["total"]
        if total is None or not kept:
            return None
        (since, before), (until, ended) = kept[0], kept[-1]
        if ended == before or until <= since:
            return None
        left: int = max(0, total - ended)
        return left * (until - since) / (ended - before)

    def _take_run(self, run: Document) -> None:
        if run["id"] in self.runs and self.runs[run["id"]]["started"] != run["started"]:
            del self.runs[run["id"]]  # an earlier run of the same name
            self._ended.pop(run["id"], None)
        last = [error["text"] for error in run["errors"]][-1:]
        told = {name: run[name] for name in (*_CHANGING, "started")}
        self._merge_run({**told, **({"last_error": last[0]} if last else {})})

    def _merge_run(self, news: Document) -> None:
        known = self.runs.get(news["id"], _UNKNOWN_RUN)
        self.runs[news["id"]] = {**known, **news}

    def _take_state(self, state: Document) -> None:
        self.now = state["time"]
        for limiter in state.get("limiters", ()):
            self.limiters[limiter["name"]] = limiter
        for run in state.get("runs", ()):
            self._merge_run({name: run[name] for name in _CHANGING})
        for name in state.get("gone", ()):
            for known in (self.limiters, self._running):
                known.pop(name, None)
