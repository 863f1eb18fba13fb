"""The form of messages from outside."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Labels = Annotated[dict[str, str], Meta(max_length=100)]


class Alert(Struct, frozen=True):
    """An alert, as Alertmanager sends it; its other fields are ignored."""

    status: Literal["firing", "resolved"]
    labels: Labels
    annotations: dict[str, str] = {}
    fingerprint: str = ""

    @property
    def identity(self) -> str:
        """A text that identifies the alert: its labels, if it has no fingerprint."""
        return self.fingerprint or repr(sorted(self.labels.items()))

    @property
    def title(self) -> str:
        """The name of the alert in decisions and answers."""
        name = self.labels.get("alertname", "an alert")
        summary = self.annotations.get("summary", "")
        return f"{name}: {summary}"[:500] if summary else name[:500]


class AlertmanagerMessage(Struct, frozen=True):
    """A group of alerts: the body of a webhook of Alertmanager, version 4."""

    version: Literal["4"]
    alerts: Annotated[list[Alert], Meta(max_length=1000)]


class PlainMessage(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A message in a simple form: one step for a limiter, or an alert for the rules."""

    limiter: str | None = None
    signal: Literal["up", "down"] | None = None
    status: Literal["firing", "resolved"] | None = None
    labels: Labels = {}
    by: Annotated[str, Meta(max_length=100)] | None = None
    note: Annotated[str, Meta(max_length=500)] | None = None

    def __post_init__(self) -> None:
        """Refuse a message that is neither, or both."""
        step = self.limiter is not None and self.signal is not None
        alert = self.status is not None and bool(self.labels)
        if step == alert:
            raise ValueError("a message needs a limiter and a signal, or else a status and labels")
