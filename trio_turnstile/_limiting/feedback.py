"""`Feedback`: what a limiter learns from an error that a call ended with.

It deals with other people's data and code: the error, its hint, the predicate. Whatever is wrong
with them, the token is given back, and the caller gets the error of the call.
"""

from __future__ import annotations

import logging
from typing import final

from trio_turnstile._errors import On, as_on, cause_of, retry_after
from trio_turnstile._texts import any_text, shown_error
from trio_turnstile.limits import Outcome

from .sampling import outcome_of

_LOG = logging.getLogger("trio_turnstile.limiter")


@final
class Feedback:
    """Judges the errors of calls; made for each limiter.

    Args:
      limiter: its name, for the log.
      overload: which errors mean overload.
    """

    __slots__ = ("_limiter", "_logged", "_overload")

    def __init__(self, limiter: str, overload: On) -> None:
        self._limiter = limiter
        self._overload = as_on(overload, "overload")
        self._logged = False

    def judge(self, error: BaseException) -> tuple[Outcome, float | None]:
        """Return what the error says of the service, and for how long to withhold the token."""
        try:
            outcome = outcome_of(cause_of(error), self._overload)
        except Exception as bug:
            self._log(
                "cannot tell whether %s means overload: %s", shown_error(error), any_text(bug)
            )
            return Outcome.IGNORED, None
        if outcome is not Outcome.OVERLOADED:
            return outcome, None
        wait = retry_after(cause_of(error))
        if wait is None and _has_a_hint(error):
            self._log("the retry_after of %s is not a number of seconds%s", shown_error(error), "")
        return outcome, wait

    def _log(self, text: str, *arguments: object) -> None:
        if not self._logged:
            self._logged = True
            name = self._limiter
            _LOG.warning(f"limiter %r {text}; this is logged once", name, *arguments)


def _has_a_hint(error: BaseException) -> bool:
    try:
        return getattr(error, "retry_after", None) not in (None, 0)
    except Exception:
        return True
