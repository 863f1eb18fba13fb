"""What to do about an error: policies, and the verdicts that they give.

A policy looks at a `ConcurrentError` and gives a verdict, or ``None`` to leave the error to
the next policy. Policies are asked in order, and the first verdict counts. If none gives a
verdict, the run is aborted. Policies are sans-I/O: frozen values with a plain function that
neither sleeps nor touches the run. The engine carries the verdict out.

================ ==================== ==================================================
policy           verdict              what the engine does
================ ==================== ==================================================
`Retry`          `RetryIn`            gives the token back, waits, tries again
`Skip`           `Fail`               counts the item as failed and goes on
`DeadLetter`     `Divert`             sends the error with its item to a file or channel
`Log`            none                 asks the next policy
`Halt`           `Stop`, tolerating   counts it as failed; past the tolerance, stops
`Abort`          `Stop`               counts it as failed and cancels all the rest
================ ==================== ==================================================
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from typing import Any, Literal, Protocol, final

import attrs
import trio

from trio_turnstile._errors import ConcurrentError, On, as_on, cause_of, matches, retry_after
from trio_turnstile._texts import shown
from trio_turnstile._util import check_whole, seconds, whole

from .budget import RetryBudget
from .letters import LetterFile
from .verdicts import Divert, Fail, RetryIn, Sink, Stop, Verdict

_LOG = logging.getLogger("trio_turnstile.errors")


class ErrorPolicy(Protocol):
    """Anything that gives a verdict on an error, or ``None`` to leave it to the next."""

    def decide(self, error: ConcurrentError, /) -> Verdict | None:
        """Return the verdict on ``error``, whose cause is what the user's code raised."""
        ...


def as_policies(
    on_error: ErrorPolicy | Iterable[ErrorPolicy], name: str = "on_error"
) -> tuple[ErrorPolicy, ...]:
    """Return the policies that were given as ``name``; a single one needs no list.

    Raises:
      TypeError: for anything that is not a policy.
    """
    policies: tuple[Any, ...] = (on_error,)
    if isinstance(on_error, Iterable) and not isinstance(on_error, str | type):
        policies = tuple(on_error)
    for policy in policies:
        if not _is_policy(policy):
            raise TypeError(
                f"{name} must be an error policy or several, such as [Retry(3), Skip()], not "
                f"{shown(policy)}"
            )
    return policies


def _is_policy(value: object) -> bool:
    return not isinstance(value, type) and callable(getattr(value, "decide", None))


def decide(policies: Iterable[ErrorPolicy], error: ConcurrentError) -> Verdict:
    """Return the first verdict on ``error``; if no policy gives one, the run must stop now."""
    return next(_verdicts(policies, error), _SILENCE)


def decide_finally(policies: Iterable[ErrorPolicy], error: ConcurrentError) -> Verdict:
    """Return the first verdict on ``error`` that can be carried out where no attempt can follow.

    If the only verdicts are to try again, the item has failed.
    """
    asked_to_retry = False
    for verdict in _verdicts(policies, error):
        if not isinstance(verdict, RetryIn):
            return verdict
        asked_to_retry = True
    return Fail() if asked_to_retry else _SILENCE


_SILENCE = Stop(by="an error on which no policy gives a verdict")


def _verdicts(policies: Iterable[ErrorPolicy], error: ConcurrentError) -> Iterator[Verdict]:
    for policy in policies:
        verdict = policy.decide(error)
        if verdict is not None:
            yield _checked(verdict, policy)


def _checked(verdict: Verdict, policy: ErrorPolicy) -> Verdict:
    """Return a verdict that can be carried out; add to a stop which policy gave it."""
    if isinstance(verdict, Stop):
        return verdict if verdict.by else attrs.evolve(verdict, by=shown(policy))
    if isinstance(verdict, RetryIn) and not _can_be_waited_for(verdict.seconds):
        raise ValueError(
            f"{shown(policy)} wants a retry after {verdict.seconds!r}: it must be a number of "
            "seconds, 0 or more"
        )
    if not isinstance(verdict, RetryIn | Fail | Divert):
        raise TypeError(f"{shown(policy)} must give a verdict or None, not {shown(verdict)}")
    return verdict


def _can_be_waited_for(wait: object) -> bool:
    return isinstance(wait, int | float) and not isinstance(wait, bool) and 0 <= wait < math.inf


def _concerns(on: On, error: ConcurrentError) -> bool:
    return matches(cause_of(error), on)


def _is_function(value: object) -> bool:
    return callable(value) and not isinstance(value, type)


def _function(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if not _is_function(value):
        raise TypeError(
            f"{field.name} must be a function of the number of failures, such as "
            f"Backoff(maximum=10), not {shown(value)}"
        )


def _budget(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if not (value is None or isinstance(value, RetryBudget)):
        raise TypeError(f"{field.name} must be a RetryBudget or None, not {shown(value)}")


def _when(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if value not in ("soon", "now"):
        raise ValueError(f"{field.name} must be 'soon' or 'now', not {value!r}")


def _tolerance(_: object, field: attrs.Attribute[int | str], value: int | str) -> None:
    if not isinstance(value, str):
        check_whole(field.name, value, 1)
        return
    share = value.removesuffix("%")
    if share == value or not share.replace(".", "", 1).isdecimal():
        raise ValueError(f"fail must be a number of items or a share like '5%', not {value!r}")
    if not 0 < float(share) <= 100:
        raise ValueError(f"fail must be over 0 % and at most 100 %, not {value!r}")


@final
@attrs.frozen
class Backoff:
    """Seconds to wait after a failure: doubling each time, with full jitter.

    After the n-th failure it is a random number between 0 and
    ``min(maximum, initial * 2 ** (n - 1))``, which spreads callers that failed
    together better than any narrower jitter does (M. Brooker, "Exponential
    Backoff And Jitter", AWS Architecture Blog, 2015).
    """

    initial: float = attrs.field(default=0.1, validator=seconds())
    """The most to wait after the first failure, in seconds."""
    maximum: float = attrs.field(default=30.0, validator=seconds())
    """The most to wait after any failure, in seconds."""
    uniform: Callable[[float, float], float] = attrs.field(
        default=random.uniform, kw_only=True, repr=False
    )
    """Returns a random number between two bounds."""

    def __call__(self, failures: int) -> float:
        """Return the seconds to wait after this many failures."""
        doublings = min(failures - 1, 1000)  # a float holds no more than 1023 of them
        return self.uniform(0, min(self.maximum, self.initial * 2.0**doublings))


@final
@attrs.frozen
class Retry:
    """Try again, up to a number of times or for some time; then leave the error to the next policy.

    ``Retry(3)`` tries again three times, ``Retry(None, within=60.0)`` for a minute, and
    ``Retry(None)`` for ever. In that case give `PipelineRun.drain` a deadline, because
    an item that never succeeds would never end.

    The item holds no token while it waits. If the error has a ``retry_after``
    attribute, in seconds, the wait is at least that long. The clean-up of an
    operation is not tried again.
    """

    times: int | None = attrs.field(validator=whole(0, optional=True))
    """How many retries: the first attempt does not count. ``None`` for any number."""
    on: On = attrs.field(default=Exception, kw_only=True, converter=as_on)
    """Which errors to try again after."""
    backoff: Callable[[int], float] = attrs.field(
        factory=Backoff, kw_only=True, validator=_function
    )
    """Takes the number of failures so far (1, 2, ...), and returns the seconds to wait."""
    budget: RetryBudget | None = attrs.field(default=None, kw_only=True, validator=_budget)
    """What the items of the step may spend on retries together; ``None`` for no bound."""
    within: float | None = attrs.field(
        default=None, kw_only=True, validator=seconds(positive=True, optional=True)
    )
    """Seconds since the first attempt at the item began; ``None`` for any time.

    If the wait would end later, no retry is made. Waiting for a budget, a rate or a token
    comes on top of that, and so does the attempt itself.
    """

    def decide(self, error: ConcurrentError, /) -> RetryIn | None:
        """Return `RetryIn` for an error that ``on`` matches, while tries and time are left."""
        if self.times is not None and error.attempt > self.times:
            return None
        if error.phase == "cleanup" or not _concerns(self.on, error):
            return None
        wait = max(self.backoff(error.attempt), retry_after(cause_of(error)) or 0.0)
        if self.within is not None and (error.elapsed or 0.0) + wait > self.within:
            return None
        return RetryIn(wait, self.budget)


@final
@attrs.frozen
class Skip:
    """Record the error, count the item as failed, and go on with the rest."""

    on: On = attrs.field(default=Exception, kw_only=True, converter=as_on)
    """Which errors to go on after."""

    def decide(self, error: ConcurrentError, /) -> Fail | None:
        """Return `Fail` for an error that ``on`` matches."""
        return Fail() if _concerns(self.on, error) else None


def _as_sink(sink: Sink | str | PathLike[str]) -> Sink:
    if isinstance(sink, str | PathLike):
        return LetterFile(sink)
    if isinstance(sink, trio.MemorySendChannel) or _is_function(sink):
        return sink
    raise TypeError(
        "a dead letter goes to the path of a file, the send end of a memory channel or an async "
        f"function, not to {shown(sink)}"
    )


@final
@attrs.frozen
class DeadLetter:
    """Send the error to a file or a channel, and count the item as diverted.

    The letter is the `ConcurrentError`: item, identifiers, step, attempt, notes and
    cause. It is sent before the item counts as diverted, without a token. If it cannot be
    sent, the run is stopped, and the error is in the report.

    A letter that was written to a file is safe. A letter that was sent to a channel is only as
    safe as its reader, which may be cancelled together with the run. The reader of
    `open_dead_letters` is not.
    """

    sink: Sink = attrs.field(converter=_as_sink)
    """Where to send the letters: the path of a JSON Lines file, which is added to; the send
    end of a memory channel; or an async function that keeps a letter before it returns."""
    on: On = attrs.field(default=Exception, kw_only=True, converter=as_on)
    """Which errors to send."""

    def decide(self, error: ConcurrentError, /) -> Divert | None:
        """Return `Divert` for an error that ``on`` matches."""
        return Divert(self.sink) if _concerns(self.on, error) else None


@final
@attrs.frozen
class Log:
    """Log the error, and leave the verdict to the next policy.

    It is the only policy with an effect of its own: a line in the log
    ``trio_turnstile.errors``.
    """

    level: int = logging.WARNING
    """The level to log at."""
    on: On = attrs.field(default=Exception, kw_only=True, converter=as_on)
    """Which errors to log."""

    def decide(self, error: ConcurrentError, /) -> None:
        """Log an error that ``on`` matches; never give a verdict."""
        if _concerns(self.on, error):
            _LOG.log(self.level, "attempt %d: %s", error.attempt, error, exc_info=error)


@final
@attrs.frozen
class Abort:
    """Cancel everything else, and raise the error."""

    on: On = attrs.field(default=Exception, kw_only=True, converter=as_on)
    """Which errors to abort for."""

    def decide(self, error: ConcurrentError, /) -> Stop | None:
        """Return `Stop` for an error that ``on`` matches."""
        return Stop() if _concerns(self.on, error) else None


@final
@attrs.frozen
class Halt:
    """Go on after errors, up to a tolerance; then stop the run and raise them.

    Two examples: ``Halt("soon", fail=3)`` starts nothing more once three items
    have failed; ``Halt("now", fail="10%")`` cancels what runs once at least three
    items, and a tenth of those that ended, have failed.
    """

    when: Literal["soon", "now"] = attrs.field(validator=_when)
    """``"soon"`` lets what is in flight finish; ``"now"`` cancels it."""
    fail: int | str = attrs.field(validator=_tolerance, kw_only=True)
    """How many items, or with ``%`` which share of them, have to fail."""
    on: On = attrs.field(default=Exception, kw_only=True, converter=as_on)
    """Which errors the policy is for."""

    def decide(self, error: ConcurrentError, /) -> Stop | None:
        """Return `Stop` with the tolerance, for an error that ``on`` matches."""
        if not _concerns(self.on, error):
            return None
        if isinstance(self.fail, int):
            return Stop(self.when, self.fail)
        # One failure among the first two items says little: a share needs three.
        return Stop(self.when, 3, float(self.fail.removesuffix("%")) / 100)
