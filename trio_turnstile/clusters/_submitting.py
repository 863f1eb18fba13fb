"""`Submitter`: at most one job for one token, whatever the controller answers."""

from __future__ import annotations

from typing import Final, final

import attrs
import trio

from ._calls import Calls
from ._engine import Answer, Busy, Engine, Refused, Taken, Unclear
from ._jobs import JobSpec
from ._poller import Poller
from ._script import wrap
from ._tracking import Tracked

_BUSY: Final = 60.0
"""The longest time between two tries while the site has no room, in seconds."""


@final
@attrs.define(eq=False)
class Submission:
    """One submission under way."""

    job: Tracked
    over: trio.Event = attrs.field(factory=trio.Event)
    given_up: trio.Event = attrs.field(factory=trio.Event)
    """Set when nobody waits for it any more."""
    refusal: str | None = None
    """Why the job was refused."""


@final
@attrs.frozen(eq=False)
class Submitter:
    """Submits jobs, and looks for those of which it does not know whether they were taken."""

    _engine: Engine
    _directory: str
    _calls: Calls
    _poller: Poller

    async def submit(self, spec: JobSpec, submission: Submission) -> None:
        """Submit a job until it is taken or refused, or given up while the site has no room."""
        wrapper = wrap(self._engine, self._directory, submission.job.token, spec)
        pause = 1.0
        while True:
            answer = await self._try(spec, submission.job, wrapper)
            if isinstance(answer, Busy):
                if submission.given_up.is_set():
                    break
                with trio.move_on_after(pause):
                    await submission.given_up.wait()
                pause = min(2 * pause, _BUSY)
            elif not isinstance(answer, Unclear) or await self.search(submission):
                break
        if isinstance(answer, Taken):
            submission.job.take(answer.id, trio.current_time())
        elif isinstance(answer, Refused | Busy):
            submission.refusal = answer.reason
        submission.over.set()
        self._poller.look()

    async def _try(self, spec: JobSpec, job: Tracked, wrapper: str) -> Answer:
        output = f"{self._directory}/{job.token}"
        reply = await self._calls.submit(self._engine.submit(job.token, wrapper, spec, output))
        if reply is None:
            return Unclear("it does not answer")
        return self._engine.read_submitted(reply)

    async def search_and_submit(self, spec: JobSpec, submission: Submission) -> None:
        """Look for a job, and submit it only if it is not there."""
        if await self.search(submission):
            submission.over.set()
        else:
            await self.submit(spec, submission)

    async def search(self, submission: Submission) -> bool:
        """Look for a job, several times; return whether it is there."""
        found = submission.job.look_for()
        self._poller.look()
        await found.wait()
        return bool(submission.job.id)
