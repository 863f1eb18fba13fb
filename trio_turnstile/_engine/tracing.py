"""What becomes of an item of a source, and of everything that is made from it.

If somebody asks for that, items go through a run as `Traced`: each knows the items of the source
that it was made from, its *origins*. An origin counts the parts that were made from it and have not
ended; it is settled when the last of them ends. If a part was made from several origins, as by a
batch, it counts for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256
from typing import Any, Generic, Literal, TypeAlias, TypeVar, cast, final

import attrs

from trio_turnstile._errors import ConcurrentError, describe

from .counts import Fate
from .run_state import RunState

T_co = TypeVar("T_co", covariant=True)


@final
@attrs.frozen
class Settled(Generic[T_co]):
    """What became of an item of a source, once everything that was made from it has ended."""

    item: T_co
    """The item."""
    outcome: Literal["skipped", "completed", "diverted", "failed", "cancelled"]
    """The worst that happened to any part of it.

    A part that was discarded counts as completed. An item is skipped if the ledger of the run
    says that an earlier run has settled it.
    """
    error: ConcurrentError | None
    """The first error that ended a part of it, if there was one."""


OnSettled: TypeAlias = Callable[[Settled[Any]], object]
"""A function that is told what became of an item; it must not block."""

_RANKS = (Fate.SKIPPED, Fate.COMPLETED, Fate.DIVERTED, Fate.FAILED, Fate.CANCELLED)
"""The outcomes, the worst last."""


@final
@attrs.define(eq=False)
class Origin:
    """An item of the source, and how many parts of it have not ended."""

    item: Any
    listeners: list[OnSettled]
    parts: int = 1
    outcome: Fate = Fate.SKIPPED
    error: ConcurrentError | None = None


@final
@attrs.define(eq=False)
class Traced:
    """An item in a run, and what it was made from."""

    item: Any
    origins: tuple[Origin, ...]
    """An origin is here once for each of its parts that were joined in this item."""
    token: str
    """Names the item, in this run and in later ones, if the steps make the same from the same."""
    error: ConcurrentError | None = None
    """What the last attempt at it raised."""


def untraced(item: Any) -> Any:
    """Return the item itself, traced or not."""
    return item.item if isinstance(item, Traced) else item


@final
class Tracer:
    """Keeps count of the origins of one run.

    Args:
      state: is told if somebody who asks what became of an item raises.
    """

    def __init__(self, state: RunState) -> None:
        self.is_used: bool = False
        """Whether any item is traced."""
        self.skipped: int = 0
        """How many items of the source were skipped, because the ledger has them as settled."""
        self._state = state
        self._open: dict[Origin, None] = {}

    def use(self) -> None:
        """Say that items will be traced."""
        self.is_used = True

    def trace(self, item: Any, listener: OnSettled, token: str = "") -> Traced:
        """Return an item of the source as a traced one; the listener is told its fate."""
        if isinstance(item, Traced):
            item.origins[0].listeners.append(listener)
            item.token = token or item.token
            return item
        origin = Origin(item, [listener])
        self._open[origin] = None
        return Traced(item, (origin,), token)

    def end(self, traced: object, fate: Fate) -> None:
        """Note how an item ended, or that it was used up for what was made from it."""
        if not isinstance(traced, Traced):
            return
        for origin in traced.origins:
            origin.parts -= 1
            if fate in (Fate.FAILED, Fate.DIVERTED):
                origin.error = origin.error or traced.error
            self._note(origin, fate)
            if not origin.parts:
                self._settle(origin)

    def skip(self, traced: Traced) -> None:
        """Note that an item of the source was settled by an earlier run."""
        self.skipped += 1
        self.end(traced, Fate.SKIPPED)

    def derive(self, members: Sequence[Any], results: Sequence[Any]) -> tuple[Any, ...]:
        """Return what was made from some items together, traced; this ends the items."""
        traced = [member for member in members if isinstance(member, Traced)]
        origins = tuple(origin for member in traced for origin in member.origins)
        if not origins:
            return tuple(results)
        for origin in origins:
            origin.parts += len(results)
        token = _join([member.token for member in traced])
        made = [Traced(result, origins, f"{token}#{index}") for index, result in enumerate(results)]
        for member in traced:
            self.end(member, Fate.COMPLETED)
        return tuple(made)

    def pass_on(self, traced: object, result: Any) -> Any:
        """Return the one thing that was made from one item, traced."""
        if not isinstance(traced, Traced):
            return result
        return Traced(result, traced.origins, traced.token)

    def finish(self) -> None:
        """Settle as cancelled what has not ended, because the run is over."""
        for origin in tuple(self._open):
            self._note(origin, Fate.CANCELLED)
            self._settle(origin)

    def _note(self, origin: Origin, fate: Fate) -> None:
        fate = Fate.COMPLETED if fate is Fate.DISCARDED else fate
        origin.outcome = max(origin.outcome, fate, key=_RANKS.index)

    def _settle(self, origin: Origin) -> None:
        self._open.pop(origin, None)
        settled = Settled(origin.item, cast("Any", origin.outcome.value), origin.error)
        for listener in origin.listeners:
            try:
                listener(settled)
            except Exception as error:
                self._state.stop(describe(error, item=origin.item, phase="on_settled"), "soon")


def token_of(identity: str) -> str:
    """Return the token of an item of the source.

    The token of a part adds a ``#`` and the place of the part, so each ``#`` in the identity is
    doubled: part 0 of ``a`` is not the item ``a#0``.
    """
    return identity.replace("#", "##")


def _join(tokens: Sequence[str]) -> str:
    if len(tokens) == 1:
        return tokens[0]
    return sha256(repr(tokens).encode()).hexdigest()


_TOKENS: ContextVar[tuple[str, ...]] = ContextVar("commit_tokens", default=())


@contextmanager
def tokens_at_hand(members: Sequence[Any]) -> Iterator[None]:
    """While the block runs, let user code ask for the commit tokens of what it was given."""
    tokens = tuple(member.token for member in members if isinstance(member, Traced))
    before = _TOKENS.set(tokens)
    try:
        yield
    finally:
        _TOKENS.reset(before)


def commit_tokens() -> tuple[str, ...]:
    """Return the commit token of each member of the batch that the step was called with.

    See `commit_token`.

    Raises:
      RuntimeError: if it is not called by a step of a pipeline that runs with a ledger.
    """
    tokens = _TOKENS.get()
    if "" in tokens or not tokens:
        raise RuntimeError(
            "there are no commit tokens: call this in a step, or in what a step calls, and run "
            "the pipeline with a ledger: pipeline.run(ledger=..., identity=...)"
        )
    return tokens


def commit_token() -> str:
    """Return the commit token of the item that the step was called with.

    It is a text that names the item: the same in each attempt, and in each run with the same
    ledger. A sink writes it in the transaction in which it writes the item, and writes nothing
    if the token is there already. So each item is there exactly once, even if the process is
    killed between the commit and the note in the ledger. :ref:`exactly-once` has the whole
    contract, and sinks for two databases.

    The token is made from the identity of the item of the source, and from its place in each
    `Many` on the way. So the steps before the sink must always make the same from the same item.
    After a step that takes batches, the token names the batch, and is only as stable as the batch.

    Raises:
      RuntimeError: if it is not called by a step of a pipeline that runs with a ledger, or if
        the step takes batches: see `commit_tokens`.
    """
    token, *others = commit_tokens()
    if others:
        raise RuntimeError("the step has a batch, one token for each member: use commit_tokens()")
    return token
