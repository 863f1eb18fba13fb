"""The exceptions that trio_turnstile raises or records.

Work that fails is described by a `ConcurrentError`; a run that ends because of
such errors raises them together, flat, in one `Aborted` group. `Saturated` is
what a caller meets at a limiter that has too many callers waiting already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, final

import trio


@final
class Saturated(Exception):
    """A limiter refused a caller at once, because too many are waiting for it.

    Raised by `Limiter.acquire` when ``max_waiting`` callers wait already. It
    sheds load: turn the request away, or try again later.

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
        it said so. A limiter in a turnstile admits nobody until then.
    """

    def __init__(self, retry_after: float | None = None) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after

    def __str__(self) -> str:
        wait = "" if self.retry_after is None else f"; retry after {self.retry_after} seconds"
        return f"the service is overloaded{wait}"


@final
class ConcurrentError(Exception):
    """An error of one operation or item among many that run at a time.

    The runner makes one for each error that a user's function raises, with that
    error as its ``__cause__``. A phase may also make one itself, to report
    something worth noting that does not fail the operation::

        await channels.errors.send(ConcurrentError("slow disk", identifiers=("s7",)))

    Args:
      message: what went wrong, for people.
      identifiers: what the operation calls itself, outermost first.
      item: the operation or datum that was in hand.
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
        self.identifiers: tuple[str, ...] = tuple(identifiers)
        self.item = item
        self.phase = phase
        self.attempt = attempt
        self.elapsed: float | None = None
        """Seconds from the beginning of the first attempt to this error, for policies.

        ``None`` if no policy of the step asks: of ours only `Retry` with ``within`` does.
        """
        for note in notes:
            self.add_note(note)

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes added to this error, oldest first."""
        return tuple(getattr(self, "__notes__", ()))

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only arguments and notes live in __dict__, which pickle restores.
        return (ConcurrentError, self.args, self.__dict__)


@final
class Aborted(ExceptionGroup[ConcurrentError]):
    """A run ended early: the errors that ended it, flat, none of them twice.

    Attributes:
      report: the account of the run so far, as the runner would have returned it.
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
    error: Exception, *, item: object, phase: str, identifiers: Iterable[str] = ()
) -> ConcurrentError:
    """Wrap what a user's function raised; complete it, if it is a `ConcurrentError`."""
    if isinstance(error, ConcurrentError):
        error.identifiers = error.identifiers or tuple(identifiers)
        error.item = item if error.item is None else error.item
        error.phase = error.phase or phase
        return error
    names = tuple(identifiers)
    subject = f"{phase} of {' / '.join(names)}" if names else phase
    wrapped = ConcurrentError(
        f"{subject} failed: {error!r}", identifiers=names, item=item, phase=phase
    )
    wrapped.__cause__ = error
    return wrapped


def part_cancellation(
    group: BaseExceptionGroup[BaseException],
) -> tuple[BaseException, Exception | None]:
    """Part errors that user code raised beside its cancellation from the latter.

    Returns:
      What to raise on, and the errors; all of ``group`` and ``None``, if it holds no
      cancellation, or something that is no error either.
    """
    cancelled, errors = group.split(trio.Cancelled)
    if cancelled is None or not isinstance(errors, ExceptionGroup):
        return group, None
    return cancelled, errors


def interruption(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """Return the interrupt in ``group``, if there is one: it goes before all else.

    Code that waits for ``except KeyboardInterrupt`` would not look into a group.
    """
    found: BaseException | None = group.subgroup((KeyboardInterrupt, SystemExit))
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


On: TypeAlias = (
    type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
)
"""Which errors a policy is for: a type, several, or a predicate."""


def matches(error: BaseException, on: On) -> bool:
    """Tell whether ``error`` is one that ``on`` means.

    An exception group is, if all of its leaves are: user code with a nursery of
    its own raises groups, and one stray error among them deserves its own look.
    """
    if isinstance(error, BaseExceptionGroup) and not _is_meant(error, on):
        return all(matches(leaf, on) for leaf in error.exceptions)
    return _is_meant(error, on)


def _is_meant(error: BaseException, on: On) -> bool:
    if isinstance(on, type | tuple):
        return isinstance(error, on)
    return on(error)
