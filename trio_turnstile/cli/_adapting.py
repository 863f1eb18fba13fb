"""``--adapt``: a policy that finds the limit, and the errors that mean overload to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Literal, TypeAlias

from trio_turnstile import limits

from ._process import CommandFailed

Adapt: TypeAlias = Literal["knee", "aimd", "vegas", "gradient2"]
"""The name of a policy."""


def make_policy(name: Adapt, initial: int, *, minimum: int, maximum: int) -> limits.LimitPolicy:
    """Return a policy for commands, which may take hours.

    The package imports a policy when its name is first used.

    Args:
      name: the name of the policy.
      initial: the limit at the start.
      minimum: the least it may propose.
      maximum: the most it may propose.
    """
    match name:
        case "knee":
            return limits.KneeLimit(initial, minimum=minimum, maximum=maximum)
        case "aimd":  # how long a command takes says nothing; --timeout is there for that
            return limits.AIMDLimit(initial, minimum=minimum, maximum=maximum, timeout=math.inf)
        case "vegas":
            vegas = limits.VegasLimit(initial, minimum=minimum, maximum=maximum)
            return limits.Windowed(vegas, at_least=1)  # few commands end in a second
        case "gradient2":
            gradient = limits.Gradient2Limit(initial, minimum=minimum, maximum=maximum)
            return limits.Windowed(gradient, at_least=1)


def is_overload(statuses: Collection[int]) -> Callable[[BaseException], bool]:
    """Return a function that says whether an error means overload.

    A time-out does, and so does an exit status among ``statuses``.
    """

    def judge(error: BaseException) -> bool:
        if not isinstance(error, CommandFailed):
            return False
        return error.ending.timed_out or error.ending.status in statuses

    return judge
