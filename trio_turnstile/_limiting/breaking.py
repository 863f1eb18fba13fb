"""`CallBound`: bounds a limit by how the calls under it end, as a circuit breaker does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol


class CallBound(Protocol):
    """Bounds a limit by how the calls under it end. Time comes in as an argument."""

    @property
    def tokens(self) -> float:
        """The most tokens that it allows now; infinite if it does not bound the limit."""
        ...

    @property
    def next_tick(self) -> float:
        """When `tick` has something to do next, on trio's clock; infinity for never."""
        ...

    def attach(self, limiter: str, wake: Callable[[], object]) -> None:
        """Belong to the limiter of this name; ``wake`` makes it look at the bound again."""
        ...

    def succeeded(self, now: float) -> None:
        """Say that a call succeeded."""
        ...

    def failed(self, error: BaseException, now: float) -> None:
        """Say that a call ended with an error."""
        ...

    def tick(self, now: float) -> None:
        """Say that time passes."""
        ...

    def reset(self) -> None:
        """Stop bounding the limit, because the operator says that the service is back."""
        ...

    def why(self) -> Mapping[str, object]:
        """Return the figures behind the bound."""
        ...
