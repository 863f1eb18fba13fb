"""`Submitter`: at most one job for one token, whatever the controller answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import final

import attrs
import trio

from ._calls import NOT_MADE, Calls
from ._engine import Answer, Command, Engine, Refused, Taken, Unclear
from ._jobs import JobSpec
from ._poller import Poller
from ._room import GIVEN_UP, Room
from ._script import wrap
from ._tracking import Tracked


@final
@attrs.define(eq=False)
class Submission:
    """One submission under way."""

    job: Tracked
    spec: JobSpec
    over: trio.Event = attrs.field(factory=trio.Event)
    refusal: str | None = None
    """Why the job was refused."""
    given_up: bool = False
    """Whether nobody waits for it any more; it is completed if the job may have been taken."""

    def wanted(self) -> bool:
        """Whether to try it again."""
        return not self.given_up

    def take(self, number: str, now: float) -> None:
        """Note that the controller has taken the job."""
        self.job.take(number, now)
        self.over.set()

    def refuse(self, reason: str) -> None:
        """Note that there is no job, and will be none."""
        self.refusal = reason
        self.over.set()


@final
@attrs.frozen(eq=False)
class Submitter:
    """Submits jobs, and looks for a job if it is unclear whether it was taken."""

    _engine: Engine
    _directory: str
    _calls: Calls
    _poller: Poller
    _room: Room

    async def submit(self, submission: Submission) -> None:
        """Submit a job until it is taken or refused."""
        job, spec = submission.job, submission.spec
        wrapper = wrap(self._engine, self._directory, job.token, spec)
        output = f"{self._directory}/{job.token}"
        command = self._engine.submit(job.token, wrapper, spec, output)
        while True:
            answer = await self._room.submit(partial(self.call, command), submission.wanted)
            if not isinstance(answer, Unclear) or not await self.search([submission]):
                break
        if isinstance(answer, Taken):
            submission.take(answer.id, trio.current_time())
        elif isinstance(answer, Refused):
            submission.refuse(answer.reason)
        self.look()

    def look(self) -> None:
        """Poll the controller soon, as there is something new."""
        self._poller.look()

    async def call(self, command: Command, wanted: Callable[[], bool]) -> Answer:
        """Run a command that submits, if it is still wanted, and return its answer."""
        reply = await self._calls.submit(command, wanted)
        if reply is None:
            return Unclear("it does not answer")
        return GIVEN_UP if reply is NOT_MADE else self._engine.read_submitted(reply)

    async def search(self, submissions: Sequence[Submission]) -> list[Submission]:
        """Look for jobs several times; return the submissions without a job."""
        searches = [submission.job.look_for() for submission in submissions]
        self.look()
        for found in searches:
            await found.wait()
        missing = []
        for submission in submissions:
            if submission.job.id:
                submission.over.set()
            else:
                missing.append(submission)
        return missing
