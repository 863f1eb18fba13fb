"""The two kinds of limiter, ours and trio's, and one interface for both.

Users may bound work by a `Limiter`, a `trio.CapacityLimiter` or a number of tokens. The
engine uses `Tokens`, which hides the difference.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import NoReturn, TypeAlias, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._util import check_whole

from .actuator import LimitActuator
from .claims import Claim
from .dispatcher import Dispatcher
from .limiter import Limiter
from .line import Line

AnyLimiter: TypeAlias = Limiter | trio.CapacityLimiter
"""What may bound a step or a phase."""


def as_limiter(limiter: AnyLimiter | int, argument: str, name: str) -> AnyLimiter:
    """Return the limiter; make a new one of this name from a number of tokens.

    Raises:
      TypeError: if it is neither a limiter nor a number of tokens.
      ValueError: if the number is under 1. Nobody could ever raise a limit of 0.
    """
    if isinstance(limiter, Limiter | trio.CapacityLimiter):
        return limiter
    try:
        check_whole(argument, limiter, 1, infinite=True)
    except TypeError:
        raise TypeError(
            f"{argument} must be a Limiter, a trio.CapacityLimiter or a number of tokens, "
            f"not {limiter!r}"
        ) from None
    return Limiter(name, limiter)


def homes_of(limiters: Iterable[AnyLimiter]) -> list[Dispatcher]:
    """Return the dispatchers of the turnstiles that these limiters are in."""
    ours = (each._actuator.dispatcher for each in limiters if isinstance(each, Limiter))
    return list(dict.fromkeys(home for home in ours if home is not None))


def name_of(limiter: AnyLimiter) -> str | None:
    """Return the name of a limiter; trio's limiters have none."""
    return limiter.name if isinstance(limiter, Limiter) else None


def made_of_number(given: object, limiter: AnyLimiter | None) -> Limiter | None:
    """Return the limiter if `as_limiter` has made it from a bare number."""
    return limiter if isinstance(limiter, Limiter) and limiter is not given else None


@final
@attrs.frozen(eq=False)
class Tokens:
    """The tokens of one limiter of either kind; made by `tokens_of`, compared by identity.

    The callables are bound methods of the limiter, so that a call through here costs no
    more than a call of the limiter. A borrower is any hashable object.
    """

    limiter: AnyLimiter
    """The limiter that the user passed."""
    acquire_nowait: Callable[[object], None]
    """Borrow a token for the borrower; `trio.WouldBlock` if none is free."""
    acquire: Callable[[object], Awaitable[None]]
    """Wait in turn for a token.

    The queue may be longer than ``max_waiting``: a stage that waits for a token stops
    reading its source, so it need not be turned away.
    """
    take_nowait: Callable[[object, Claim], None]
    """Borrow the tokens of a claim; only a `Limiter` can do so."""
    take: Callable[[object, Claim], Awaitable[None]]
    """Wait in turn for the tokens of a claim; only a `Limiter` can do so."""
    release: Callable[[object], None]
    """Give back the token of a call that succeeded."""
    release_after: Callable[[object, BaseException], None]
    """Give back the token of a call that ended with an error; a policy may learn from it."""
    release_cancelled: Callable[[object], None]
    """Give back the token of a call that was cancelled; a policy learns nothing from it."""
    begin: Callable[[object], None]
    """Say that the call of a borrower begins only now, after a wait that is not part of it."""
    wait_free: Callable[[object], Awaitable[None]]
    """Wait in turn until a token is free, without keeping it."""
    _inner: trio.CapacityLimiter
    _line: Line | None = None
    _actuator: LimitActuator | None = None

    @property
    def tells(self) -> bool:
        """Whether it calls listeners when the limit moves; `trio.CapacityLimiter` does not."""
        return self._actuator is not None

    def telling(self, listener: Callable[[], object]) -> AbstractContextManager[None]:
        """Call ``listener``, from any thread, when the limit moves, if it `tells`."""
        return nullcontext() if self._actuator is None else self._actuator.telling(listener)

    @property
    def available_tokens(self) -> float:
        """How many tokens are free; infinite once a `Limiter` is closed.

        A worker then meets the closed limiter's error at once instead of waiting.
        """
        return self._inner.available_tokens

    @property
    def total_tokens(self) -> float:
        """The limit; infinite once a `Limiter` is closed."""
        return self._inner.total_tokens if self._line is None else self._line.limit


def _take_nowait(borrower: object, claim: Claim) -> NoReturn:
    raise NotImplementedError


async def _take(borrower: object, claim: Claim) -> NoReturn:
    raise NotImplementedError


def tokens_of(limiter: AnyLimiter) -> Tokens:
    """Return the tokens of a limiter of either kind.

    Raises:
      RuntimeError: if the limiter is in use in a trio run in another thread.
    """
    if isinstance(limiter, Limiter):
        sack = limiter._sack
        if trio.lowlevel.in_trio_run():
            sack.check_run()
        return Tokens(
            limiter,
            sack.acquire_nowait,
            sack.acquire,
            sack.take_nowait,
            sack.take,
            sack.release,
            sack.release_after,
            sack.release_cancelled,
            sack.begin,
            sack.wait_free,
            sack.inner,
            sack.line,
            limiter._actuator,
        )
    release = limiter.release_on_behalf_of

    @enable_ki_protection
    async def wait_free(borrower: object) -> None:
        await limiter.acquire_on_behalf_of(borrower)
        release(borrower)

    return Tokens(
        limiter,
        limiter.acquire_on_behalf_of_nowait,
        limiter.acquire_on_behalf_of,
        _take_nowait,
        _take,
        release,
        lambda borrower, _: release(borrower),
        release,
        lambda _: None,
        wait_free,
        limiter,
    )
