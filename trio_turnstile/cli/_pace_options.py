"""The options of ``turnstile run`` that say when operations may start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, final

import attrs
from cyclopts import Parameter, Token

from trio_turnstile import RateLimiter

from ._options import PACE, Seconds
from ._rates import Rate
from ._units import Duration


def _to_rate(_: Any, tokens: Sequence[Token]) -> Rate:
    return Rate.parse(tokens[0].value)


@Parameter(name="*", group=PACE)
@final
@attrs.frozen(kw_only=True)
class PaceOptions:
    """When operations may start."""

    rate: Annotated[Rate | None, Parameter(converter=_to_rate)] = None
    """How many operations may start in a time: 5/s, 100/m or 1000/h. They are spread evenly,
    and retries count."""

    delay: Seconds = Duration(0)
    """How long to wait between two starts."""

    def make_rate(self) -> RateLimiter | None:
        """Return what lets operations start, if they may not start at any time."""
        rates = [self.rate.per_second] if self.rate is not None else []
        rates += [1 / self.delay] if self.delay else []
        return RateLimiter(min(rates)) if rates else None
