"""`RecordedHistory`: how busy limiters were, also in earlier runs of a program."""

from __future__ import annotations

from typing import final

import attrs

from ._records import Point


@final
@attrs.frozen
class RecordedHistory:
    """What was recorded of the limiters of a program, in this run of it and in earlier ones.

    It is what `trio_turnstile.integrations.control.serve_control` takes as ``history``, so that
    the page shows more than the memory of the program knows::

        history = RecordedHistory("sqlite:///turnstile.db", turnstile.name)
        await nursery.start(partial(serve_control, turnstile, history=history))

    Args:
      url: the database, as for `record_statistics`.
      name: of the turnstiles. Those of one name are taken for runs of one program.
    """

    url: str
    name: str

    def points(self, limiter: str, since: float, until: float, most: int) -> tuple[Point, ...]:
        """Return how busy the limiters of a name were, oldest first. It blocks.

        The samples are averaged; where they were deleted, what was summed up by the minute.

        Args:
          limiter: the name.
          since: the Unix time of the first point, in seconds.
          until: the Unix time that no point reaches.
          most: how many points are returned at most.

        Raises:
          ValueError: if the address is none.
          ModuleNotFoundError: if SQLAlchemy, or the driver for the database, is not installed.
          StatisticsError: if there are no statistics, or the database cannot be read.
        """
        from ._past import read_past

        return read_past(self.url, self.name, limiter, (since, until), most)
