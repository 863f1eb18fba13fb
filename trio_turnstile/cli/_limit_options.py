"""The options of ``turnstile run`` for the limit, and the limiter that is made from them."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any, final

import attrs
from cyclopts import Group, Parameter, Token
from cyclopts.validators import Number

from trio_turnstile import Limiter, Throttle

from ._adapting import Adapt, is_overload, make_policy
from ._arguments import UsageError
from ._columns import Columns
from ._cores import usable_cores
from ._durations import Duration
from ._job_plan import JobPlan
from ._options import Seconds
from ._rates import parse_limit
from ._weights import Weight

LIMIT = Group("Limit", sort_key=3)

_OPEN_FILES, _OPEN_FILES_EACH = 100, 10
"""How many open files a run needs itself, and how many it needs for each operation."""

_FEW_FILES, _FEW_FILES_EACH = 25, 5
"""The same if the output of the operations is short."""

_TIMES, _MOST = 10, 1000
"""By default, an adaptive limit may grow to 10 times its start value, but not over 1000."""

LIMITER = "work"
"""The name of a run's limiter, for those who steer it."""

_JOBS = 100
"""How many jobs are on a cluster at once by default; most sites allow some thousands."""

_HALF_A_MINUTE = Duration(30)
_NONE_OR_MORE = Number(gte=0)
_ONE_OR_MORE = Number(gte=1)


def _to_limit(_: Any, tokens: Sequence[Token]) -> int:
    return parse_limit(tokens[0].value, usable_cores())


@Parameter(name="*", group=LIMIT)
@final
@attrs.frozen(kw_only=True)
class LimitOptions:
    """How many operations may run at a time, and what changes that.

    Attributes:
      limit: How many operations may run at a time when the run starts. The default is the
        number of usable cores, or 100 jobs on a cluster, within --min and --max. 50% is half
        of the cores, +1 is one more than the number of cores, -1 is one less, and 0 is as many
        as possible, at most 1000.
      weight: How many places of the limit an operation takes: 4, or {2} for the number in the
        second column of its input. The default is 1. Operations start in the order of the
        inputs: the ones after a heavy operation wait until there is room for it. An operation
        that is heavier than the limit fails.
      max: The maximum to which SIGUSR1 can raise the limit. The default is --limit, so
        that SIGUSR1 only takes back what SIGUSR2 has done, or ten times --limit with --adapt.
      min: The minimum to which SIGUSR2 can lower the limit. At 0 no operation starts, and a
        graceful shutdown gives up the operations that have not begun.
      up: By how much one SIGUSR1 raises the limit.
      down: By how much one SIGUSR2 lowers the limit.
      hold: How long further signals are refused after a change of the limit.
      adapt: Find the limit between --min and --max that gives the most throughput, with the
        policy knee (if you give --adapt alone), aimd, vegas or gradient2. Signals then change
        the maximum of the limit.
      overload: With --adapt, an exit status with which a command reports an overload, which
        lowers the limit. A command that times out counts as overload too.
    """

    limit: Annotated[
        int | None,
        Parameter(
            name=["--limit", "-j"],
            converter=_to_limit,
            n_tokens=1,
            accepts_keys=False,
            allow_leading_hyphen=True,
        ),
    ] = None
    weight: str | None = None
    max: Annotated[int | None, Parameter(validator=_ONE_OR_MORE)] = None
    min: Annotated[int, Parameter(validator=_NONE_OR_MORE)] = 1
    up: Annotated[int, Parameter(validator=_ONE_OR_MORE)] = 1
    down: Annotated[int, Parameter(validator=_ONE_OR_MORE)] = 2
    hold: Seconds = _HALF_A_MINUTE
    adapt: Adapt | None = None
    overload: Annotated[
        Sequence[int] | None, Parameter(negative=(), validator=Number(gte=1, lte=255))
    ] = None

    def make_limiter(self, jobs: JobPlan | None) -> Limiter:
        """Return the limiter of a run.

        Args:
          jobs: the plan of the jobs, if jobs do the work.

        Raises:
          UsageError: if the options contradict each other.
        """
        if self.overload and self.adapt is None:
            raise UsageError("--overload is only for --adapt: give --adapt too")
        limit = self.start(jobs)
        maximum = self._maximum(limit)
        if not self.min <= limit <= maximum:
            raise UsageError(
                f"--limit must be from --min, {self.min}, to --max, {maximum}, not {limit}"
            )
        _allow_open_files(limit, maximum)
        throttle = Throttle(up=self.up, down=self.down, min=self.min, hold=self.hold)
        if self.adapt is not None:
            return self._make_adaptive(self.adapt, limit, maximum, throttle)
        limiter = Limiter(LIMITER, maximum, throttle=throttle)
        limiter.total_tokens = limit  # not in a turnstile yet, so that no hold begins
        return limiter

    def make_weight(self, columns: Columns, limiter: Limiter) -> Weight | None:
        """Return the weight of operations, or ``None`` if each weighs 1.

        Raises:
          UsageError: if no operation could have that weight.
        """
        if self.weight is None:
            return None
        try:
            return Weight.parse(self.weight, columns, limiter.ceiling)
        except ValueError as error:
            raise UsageError(f"--weight: {str(error).removeprefix('--weight: ')}") from None

    def describe(self, limiter: Limiter, jobs: JobPlan | None) -> str | None:
        """Return a note for the user about a limit or a maximum that is a default."""
        if self.limit is None and _on_cluster(jobs):
            return f"up to {limiter.total_tokens} jobs at a time; --limit changes that"
        if self.adapt is None or self.max is not None:
            return None
        return f"--adapt {self.adapt}: the limit can become {limiter.ceiling}; --max changes that"

    def start(self, jobs: JobPlan | None) -> int:
        """Return how many may run at a time when the run starts."""
        if self.limit is not None:
            return self.limit
        usual = _JOBS if _on_cluster(jobs) else usable_cores()
        return max(usual if self.max is None else min(usual, self.max), self.min)

    def _maximum(self, limit: int) -> int:
        if self.max is not None:
            return self.max
        return limit if self.adapt is None else max(limit, min(_TIMES * limit, _MOST))

    def _make_adaptive(self, adapt: Adapt, limit: int, maximum: int, throttle: Throttle) -> Limiter:
        policy = make_policy(adapt, limit, minimum=max(throttle.min, 1), maximum=maximum)
        overload = is_overload(self.overload or ())
        return Limiter(LIMITER, maximum, throttle=throttle, policy=policy, overload=overload)


def _on_cluster(jobs: JobPlan | None) -> bool:
    return jobs is not None and jobs.on_cluster


def _allow_open_files(limit: int, maximum: int) -> None:
    number = _OPEN_FILES + _OPEN_FILES_EACH * maximum
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # then fewer operations run at a time
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _FEW_FILES + _FEW_FILES_EACH * limit
    if allowed != resource.RLIM_INFINITY and allowed < needed:
        print(
            f"turnstile: --limit {limit} needs at least {needed} open files, but only {allowed} "
            "are allowed (see ulimit -n), so fewer operations will run at a time",
            file=sys.stderr,
        )
