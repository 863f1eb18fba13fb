"""`retry`: one call, tried again under the policies of steps.

There is no run here that could be stopped, no item that could be skipped, and nobody who waits
for a dead letter. So whatever verdict ends the attempts, the caller gets the error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, TypeVar, TypeVarTuple

import trio

from trio_turnstile._errors import describe
from trio_turnstile._limiting.either import AnyLimiter
from trio_turnstile._limiting.portion import Portion
from trio_turnstile._texts import add_note, shown, shown_error

from .attempts import _BACKS_OFF, since
from .budget import RetryBudget
from .policies import ErrorPolicy, as_policies, decide
from .purse import purse_of
from .verdicts import RetryIn, Verdict

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def retry(
    policies: ErrorPolicy | Iterable[ErrorPolicy],
    function: Callable[[*Ts], Awaitable[T]],
    *args: *Ts,
    limiter: AnyLimiter | Portion | None = None,
) -> T:
    """Call an async function, and call it again after an error, as the policies say.

    For a call outside any pipeline::

        page = await retry(Retry(3, on=OSError), fetch, url)

    A `RetryIn` verdict is carried out. Any other verdict, or none, ends the attempts, and the
    last error is raised unchanged; nothing is counted, and no dead letter is sent. Calls
    whose policies have the same `RetryBudget` object share that budget.

    Args:
      policies: one policy, or several that are asked in order, such as ``[Log(), Retry(3)]``.
      function: an async function.
      args: its arguments. For keyword arguments use ``functools.partial``.
      limiter: if given, each attempt takes a token from it, or as many as a `Portion` says. No
        token is held during a back-off.

    Returns:
      What the function returns.

    Raises:
      TypeError: for an argument of a wrong type, before any attempt.
      Exception: the error of the last attempt, unwrapped, with a note that says how many
        attempts were made. An error of the limiter counts as an error of the attempt.

    Cancellation:
      It cancels the attempt or the back-off. It is not an error, and no policy is asked.
    """
    asked, held = as_policies(policies, "policies"), _held(limiter)
    if not callable(function):
        raise TypeError(
            f"function must be an async function, not {shown(function)}: give its arguments after "
            "it, as in retry(policies, fetch, url)"
        )
    name = str(getattr(function, "__name__", type(function).__name__))
    attempts, began = 0, trio.current_time()
    while True:
        attempts += 1
        await trio.lowlevel.checkpoint()
        try:
            async with held:
                result = await function(*args)
        except Exception as error:
            verdict = _verdict(asked, error, args, name, attempt=attempts, began=began)
            if not isinstance(verdict, RetryIn):
                add_note(error, f"attempts made: {attempts}")
                raise
        else:
            _earn(asked)
            return result
        attempts -= not verdict.spends_try
        await _back_off(verdict)


def _held(limiter: AnyLimiter | Portion | None) -> AbstractAsyncContextManager[object]:
    if limiter is None:
        return nullcontext()
    if not isinstance(limiter, AnyLimiter | Portion):
        raise TypeError(
            "limiter must be a Limiter or a trio.CapacityLimiter that other calls share, not "
            f"{shown(limiter)}"
        )
    return limiter


def _verdict(
    policies: Iterable[ErrorPolicy],
    error: Exception,
    args: object,
    name: str,
    *,
    attempt: int,
    began: float,
) -> Verdict | None:
    """Return the verdict on an error; ``None`` if the policies themselves fail."""
    failed = describe(error, item=args or None, phase=name)
    failed.attempt, failed.elapsed = attempt, since(began)
    try:
        return decide(policies, failed)
    except Exception as bug:
        add_note(error, f"the error policies could not decide: {shown_error(bug)}")
        return None


async def _back_off(verdict: RetryIn) -> None:
    await trio.sleep(verdict.seconds * _BACKS_OFF.get())
    if verdict.budget is None:
        return
    purse = purse_of(verdict.budget)
    while True:
        wait = purse.withdraw(trio.current_time())
        if not wait:
            return
        await trio.sleep(wait)


def _earn(policies: Iterable[ErrorPolicy]) -> None:
    """Pay a success into the budgets of the policies."""
    for policy in policies:
        budget: Any = getattr(policy, "budget", None)
        if isinstance(budget, RetryBudget):
            purse_of(budget).successes += 1
