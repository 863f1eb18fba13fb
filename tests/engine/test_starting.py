"""What comes out when a run is interrupted while it starts."""

from __future__ import annotations

from typing import Any, cast

import pytest
import trio

from trio_turnstile._util import _started


class Nursery:
    """A nursery that fails to start anything, as trio's does if both task and caller raise."""

    def __init__(self, *errors: BaseException) -> None:
        self._errors = errors

    async def start(self, _function: object) -> None:
        """Fail."""
        await trio.lowlevel.checkpoint()
        cause = BaseExceptionGroup("both", self._errors) if self._errors else None
        raise trio.TrioInternalError("several tasks") from cause


async def run(task_status: trio.TaskStatus[Any]) -> None:
    """Never called."""
    await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("errors", "raised"),
    [
        ([KeyboardInterrupt(), OSError()], KeyboardInterrupt),
        ([ValueError(), OSError()], trio.TrioInternalError),
        ([], trio.TrioInternalError),
    ],
)
async def test_an_interrupt_comes_out_by_itself(
    errors: list[BaseException], raised: type[BaseException]
) -> None:
    """An interrupt comes out alone, and any other error of trio's stays as it is."""
    with pytest.raises(raised):
        await _started(cast("trio.Nursery", Nursery(*errors)), run)
