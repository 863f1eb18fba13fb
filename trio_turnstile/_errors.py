"""The exceptions that trio_turnstile raises or records.

A `ConcurrentError` describes work that failed. A run that ends because of such errors raises
them together, flat, in one `Aborted` group. A caller gets `Saturated` at a limiter that
has too many callers waiting already.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import UnionType
from typing import Any, TypeAlias, Union, final, get_args, get_origin

import trio

from ._texts import any_text, notes_of, shown, shown_error, texts


@final
class Saturated(Exception):
    """A limiter refused a caller at once, because too many are waiting for it.

    Raised by `Limiter.acquire` when ``max_waiting`` callers are waiting already. It is
    for load shedding: turn the request away, or try again later.

    Args:
      limiter: the name of the limiter.
      waiting: how many callers were waiting.
      limit: the limit at that moment, in tokens.
    """

    def __init__(self, limiter: str, waiting: int, limit: float) -> None:
        super().__init__(limiter, waiting, limit)
        self.limiter = limiter
        self.waiting = waiting
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"limiter {self.limiter!r} has {self.waiting} callers waiting for its "
            f"{self.limit} tokens, and max_waiting allows no more: "
            "turn the request away or try again later"
        )


@final
class Overloaded(Exception):
    """Raised by user code to say that a service asked for less.

    Args:
      retry_after: the seconds after which the service wants to be asked again, if
        it said so. A limiter in a turnstile withholds the token of the call for that
        long; see `Limiter`. `parse_retry_after` reads it from an HTTP header.
    """

    def __init__(self, retry_after: float | None = None) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after

    def __str__(self) -> str:
        wait = "" if self.retry_after is None else f"; retry after {self.retry_after} seconds"
        return f"the service is overloaded{wait}"


@final
class ConcurrentError(Exception):
    """An error of one operation or item among many that run at once.

    The runner makes one for each error that a user's function raises, with that
    error as its ``__cause__``. A phase may also make one itself, to report
    something that is worth noting but does not fail the operation::

        await channels.errors.send(ConcurrentError("slow disk", identifiers=("s7",)))

    Args:
      message: what went wrong, for people.
      identifiers: what the operation calls itself, outermost first.
      item: the operation or item that was in hand.
      phase: where it happened: ``"prepare"``, ``"work"``, ``"monitor"``,
        ``"cleanup"``, ``"source"``, or the name of a step.
      attempt: which attempt at the item it was, from 1.
      notes: remarks to add, as :pep:`678` notes.
    """

    def __init__(
        self,
        message: str,
        *,
        identifiers: Iterable[str] = (),
        item: object = None,
        phase: str = "",
        attempt: int = 1,
        notes: Iterable[str] = (),
    ) -> None:
        super().__init__(message)
        self.identifiers: tuple[str, ...] = texts(identifiers)
        self.item = item
        self.phase = phase
        self.attempt = attempt
        self._as_raised: _AsRaised | None = None
        self.elapsed: float | None = None
        """Seconds from the beginning of the first attempt to this error, for policies.

        ``None`` if no policy of the step asks for it. Among ours, only `Retry` with ``within``
        does.
        """
        for note in notes:
            self.add_note(note)

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes added to this error, oldest first."""
        return notes_of(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only arguments and notes live in __dict__, which pickle restores.
        return (ConcurrentError, self.args, self.__dict__)


@final
class Aborted(ExceptionGroup[ConcurrentError]):
    """A run ended early: the errors that ended it, flat, none of them twice.

    Attributes:
      report: the report of the run so far, as the runner would have returned it.
    """

    report: Any = None

    def __new__(cls, message: str, errors: Sequence[ConcurrentError]) -> Aborted:
        """Make the group from a message and the errors, at least one."""
        return super().__new__(cls, message, errors)

    def derive(self, excs: Sequence[Exception]) -> ExceptionGroup[Any]:  # type: ignore[override]
        """Keep the report when ``except*`` splits the group."""
        part = Aborted(self.message, excs)  # type: ignore[arg-type]
        part.report = self.report
        return part


def describe(
    error: Exception, *, item: object, phase: str, identifiers: object = ()
) -> ConcurrentError:
    """Return the `ConcurrentError` of one item for what a user's function raised.

    If it raised a `ConcurrentError`, that is completed with what it lacks. Each item has its own,
    so an error that was completed for another item before, perhaps because a cache of failures
    raises it, is copied. Never fails, whatever the error, the item and the identifiers are.
    """
    names = texts(identifiers)
    if isinstance(error, ConcurrentError):
        own = error if error._as_raised is None else _copy(error, error._as_raised)
        own._as_raised = own.identifiers, own.item, own.phase
        own.identifiers = own.identifiers or names
        own.item = item if own.item is None else own.item
        own.phase = own.phase or phase
        return own
    subject = f"{phase} of {' / '.join(names)}" if names else phase
    if item is not None and not names:
        subject = f"{phase} of item {shown(item)}"
    described = ConcurrentError(
        f"{subject} failed: {shown_error(error)}", identifiers=names, item=item, phase=phase
    )
    described.__cause__ = error
    return described


_AsRaised: TypeAlias = tuple[tuple[str, ...], object, str]
"""Identifiers, item and phase of an error, as the user's code set them."""


def _copy(error: ConcurrentError, as_raised: _AsRaised) -> ConcurrentError:
    identifiers, item, phase = as_raised
    copy = ConcurrentError(
        any_text(error), identifiers=identifiers, item=item, phase=phase, notes=error.notes
    )
    copy.__cause__, copy.__context__ = error.__cause__, error.__context__
    copy.__suppress_context__ = error.__suppress_context__
    return copy.with_traceback(error.__traceback__)


def cause_of(error: BaseException) -> BaseException:
    """Return what the user's code raised: the cause of a `ConcurrentError`, if it has one."""
    if isinstance(error, ConcurrentError) and error.__cause__ is not None:
        return error.__cause__
    return error


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors in an exception group, at any depth; or the error, if it is no group."""
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for part in error.exceptions:
        yield from leaves(part)


def part_cancellation(
    group: BaseExceptionGroup[BaseException],
) -> tuple[BaseException, Exception | None]:
    """Separate a cancellation from the errors that user code raised besides it.

    Returns:
      What to raise, and the errors. It is the whole ``group`` and ``None`` if the group holds
      no cancellation, or something that is not an `Exception` either.
    """
    cancelled, errors = group.split(trio.Cancelled)
    if cancelled is None or not isinstance(errors, ExceptionGroup):
        return group, None
    return cancelled, errors


def interruption(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """Return the interrupt in ``group``, if there is one: it takes precedence over all else.

    Code with ``except KeyboardInterrupt`` would not look into a group.
    """
    found: BaseException | None = group.subgroup((KeyboardInterrupt, SystemExit))
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


On: TypeAlias = (
    type[BaseException]
    | tuple[type[BaseException], ...]
    | UnionType
    | Callable[[BaseException], bool]
)
"""Which errors a policy is for: a type, a tuple or union of types, or a predicate."""


def as_on(on: On, name: str = "on") -> On:
    """Return ``on`` with a union as a tuple.

    Raises:
      TypeError: if it is not one of the types of `On`.
    """
    kinds = get_args(on) if get_origin(on) in (Union, UnionType) else on
    if isinstance(kinds, type):
        kinds = (kinds,)
    if isinstance(kinds, tuple):
        if kinds and all(isinstance(k, type) and issubclass(k, BaseException) for k in kinds):
            return kinds
    elif callable(kinds):
        return kinds
    raise TypeError(
        f"{name} must be an exception class, a tuple or union of such classes, or a function of "
        f"an error, not {shown(on)}: for example OSError, or OSError | TimeoutError"
    )


def matches(error: BaseException, on: On) -> bool:
    """Return whether ``on`` matches an error.

    It matches an exception group if it matches all of its leaves: user code with a nursery of
    its own raises groups, and another error among them must not pass unnoticed.
    """
    if isinstance(error, BaseExceptionGroup) and not _is_meant(error, on):
        return all(matches(leaf, on) for leaf in error.exceptions)
    return _is_meant(error, on)


def _is_meant(error: BaseException, on: On) -> bool:
    if isinstance(on, type | tuple | UnionType):
        return isinstance(error, on)
    return bool(on(error))


def retry_after(error: BaseException) -> float | None:
    """Return after how many seconds the service of a failed call wants to be asked again.

    It is the ``retry_after`` of the error, or the longest in an exception group. ``None`` if
    there is none, or none is a number of seconds over 0.
    """
    hints = [hint for leaf in leaves(error) if (hint := _seconds(leaf)) is not None]
    return max(hints, default=None)


def _seconds(error: BaseException) -> float | None:
    try:
        hint: Any = getattr(error, "retry_after", None)
        if isinstance(hint, bool) or not isinstance(hint, int | float):
            return None
        return float(hint) if 0 < hint < math.inf else None
    except Exception:  # a property that raises, or an int beyond all floats
        return None


def parse_retry_after(header: str | None, *, now: float | None = None) -> float | None:
    """Return the seconds that an HTTP ``Retry-After`` header asks to wait.

    The header holds a number of seconds, or a date (:rfc:`9110`, section 10.2.3)::

        raise Overloaded(parse_retry_after(response.headers.get("Retry-After")))

    Args:
      header: the text of the header; ``None`` if there is none.
      now: the present Unix time, in seconds; by default the system's.

    Returns:
      The seconds, 0 for a date in the past; ``None`` if there is no header, or it is unreadable.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdecimal():
        seconds = float(text)
        return seconds if seconds < math.inf else None
    # Imported here, because they would take a tenth of the time that the library takes to import.
    from datetime import UTC
    from email.utils import parsedate_to_datetime

    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    if date.tzinfo is None:  # RFC 5322 has "-0000" for a time that is UTC
        date = date.replace(tzinfo=UTC)
    return max(0.0, date.timestamp() - (time.time() if now is None else now))
