"""The keys of ``turnstile top``, and what they do. Frozen values and pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import attrs

from ._client import Client, limiter_path, run_path
from ._ctl_orders import author
from ._top_board import Board
from ._top_view import Choice

_NAMED = {
    "\x1b[A": "k",
    "\x1bOA": "k",
    "\x1b[B": "j",
    "\x1bOB": "j",
    "\r": "\n",
    "\x08": "\x7f",
    "=": "+",
    "_": "-",
}
"""Keys that mean the same as other keys."""

_CHANGES = {"+": "up", "-": "down", "p": "pause", "r": "resume"}

_DIGITS = frozenset("0123456789")
_MOST_DIGITS = 9


@final
@attrs.frozen
class Order:
    """Something that a process is asked to do."""

    board: Board
    """The process."""
    path: str
    """The path of the request."""
    limit: int | None = None
    """The limit to set, if the order sets one."""

    def send(self, client: Client) -> None:
        """Ask the process.

        Raises:
          UsageError, NotDone: if the process does not do it.
        """
        body: dict[str, object] = {} if self.path.endswith("/drain") else {"by": author()}
        if self.limit is None:
            client.post(self.path, body)
        else:
            client.patch(self.path, {**body, "limit": self.limit})


@final
@attrs.frozen
class Hand:
    """What the user has chosen and typed so far."""

    chosen: Choice | None = None
    """The limiter that the keys act on."""
    digits: str = ""
    """The digits of a limit that is being typed."""
    to_drain: str = ""
    """The run to drain if the next key confirms it."""
    over: bool = False
    """Whether the user has quit."""

    @property
    def prompt(self) -> str:
        """What the next key answers; empty if nothing in particular."""
        if self.digits and self.chosen is not None:
            return f"set {self.chosen.limiter} to {self.digits}: Enter sets it, Esc cancels"
        if self.to_drain:
            return f"drain {self.to_drain}, so that nothing more starts? y drains it"
        return ""

    def among(self, there: Sequence[Choice]) -> Hand:
        """Return the hand with a choice that is still there."""
        if self.chosen in there:
            return self
        return Hand(there[0] if there else None, over=self.over)

    def press(self, key: str, there: Sequence[Choice]) -> tuple[Hand, Order | None]:
        """Return the hand after a key, and the order to send, if there is one."""
        hand = self.among(there)
        if key == "q":
            return attrs.evolve(hand, over=True), None
        if hand.chosen is None:
            return hand, None
        return hand._press(key, hand.chosen, there)

    # ---- inside ----

    def _press(
        self, key: str, chosen: Choice, there: Sequence[Choice]
    ) -> tuple[Hand, Order | None]:
        idle = Hand(chosen)
        if self.to_drain and key == "y":
            return idle, Order(chosen.board, run_path(self.to_drain, "drain"))
        if key in _DIGITS or (key == "\x7f" and self.digits):
            digits = self.digits[:-1] if key == "\x7f" else self.digits + key
            return attrs.evolve(idle, digits=digits[:_MOST_DIGITS]), None
        if key == "\n" and self.digits:
            path = limiter_path(chosen.limiter)
            return idle, Order(chosen.board, path, int(self.digits))
        if key in _CHANGES:
            return idle, Order(chosen.board, limiter_path(chosen.limiter, _change(key, chosen)))
        if key == "d":
            return attrs.evolve(idle, to_drain=_run_of(chosen)), None
        return attrs.evolve(idle, chosen=_moved(key, chosen, there)), None


def parse_keys(text: str) -> list[str]:
    """Return the keys in what a terminal has sent."""
    for sequence, key in _NAMED.items():
        text = text.replace(sequence, key)
    if text.startswith("\x1b") and len(text) > 1:  # another key that sends several characters
        return []
    return list(text)


def _change(key: str, chosen: Choice) -> str:
    """Return what a key asks for; r releases a set limit if the limiter is not paused."""
    limiter = chosen.board.limiters[chosen.limiter]
    is_set = key == "r" and limiter["override"] is not None and not limiter["paused"]
    return "release" if is_set else _CHANGES[key]


def _moved(key: str, chosen: Choice, there: Sequence[Choice]) -> Choice:
    step = {"j": 1, "k": -1}.get(key, 0)
    return there[max(0, min(there.index(chosen) + step, len(there) - 1))]


def _run_of(chosen: Choice) -> str:
    """Return the run that a limiter bounds, or else the first one."""
    runs = chosen.board.runs.values()
    going = [run for run in runs if run["state"] != "ended"]
    bound = [
        run for run in going if any(step["limiter"] == chosen.limiter for step in run["steps"])
    ]
    return str([*bound, *going, {"id": ""}][0]["id"])
