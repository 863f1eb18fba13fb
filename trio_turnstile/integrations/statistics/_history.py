"""`RecordedHistory`: how busy limiters were, including earlier runs of a program."""

from __future__ import annotations

from typing import final

import attrs

from ._records import Point


@final
@attrs.frozen
class RecordedHistory:
    """The recorded history of the limiters of a program, from this run and earlier ones.

    Pass it to `trio_turnstile.integrations.control.serve_control` as ``history``, so that the page
    shows more than the samples in memory::

        history = RecordedHistory("sqlite:///turnstile.db", turnstile.name)
        await nursery.start(partial(serve_control, turnstile, history=history))

    Args:
      url: the database, as for `record_statistics`.
      name: the name of the turnstiles. Turnstiles of one name count as runs of one program.
    """

    url: str
    name: str

    def points(self, limiter: str, since: float, until: float, most: int) -> tuple[Point, ...]:
        """Return how busy the limiters of a name were, oldest first. This blocks.

        The points are averages of samples, or of minutes where the samples were deleted.

        Args:
          limiter: the name of the limiters.
          since: the earliest Unix time of a point, in seconds.
          until: the Unix time before which all points are.
          most: the most points to return.

        Raises:
          ValueError: if the address is not valid.
          ModuleNotFoundError: if SQLAlchemy, or the driver for the database, is not installed.
          StatisticsError: if there are no statistics, or the database cannot be read.
        """
        from ._past import read_past

        return read_past(self.url, self.name, limiter, (since, until), most)
