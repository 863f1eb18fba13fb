"""`Gatherer`: makes tasks of one array from jobs that come together and need the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, TypeAlias, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ._calls import Calls
from ._engine import Answer, ArrayEngine, Busy, Command, Refused, Taken, TaskArray, Unclear
from ._indices import ranges_of
from ._jobs import JobSpec, new_token
from ._room import Room
from ._script import wrap_tasks, write_tasks
from ._submitting import Submission, Submitter
from ._throttling import Throttler

_QUIET: Final = 0.05
"""Seconds without another submission, after which an array is submitted."""

_PATIENCE: Final = 2.0
"""Seconds after which an array is submitted in any case."""

_Need: TypeAlias = JobSpec
"""The needs of a job: its spec without the script and the name."""


def _need_of(spec: JobSpec) -> _Need:
    return attrs.evolve(spec, script="", name="")


@final
@attrs.define(eq=False)
class _Batch:
    """Jobs for one array."""

    name: str
    need: _Need
    promised: int = 0
    """How many tokens have been given out."""
    members: dict[int, Submission] = attrs.field(factory=dict)


@final
@attrs.define(eq=False)
class Gatherer:
    """Submits jobs as tasks of arrays."""

    _submitter: ArraySubmitter
    _size: float
    """The largest index."""
    _open: dict[_Need, _Batch] = attrs.field(init=False, factory=dict)
    """Batches that still give out tokens."""
    _gathering: dict[tuple[str, _Need], _Batch] = attrs.field(init=False, factory=dict)
    """Batches that are waiting for their jobs before they are submitted."""

    def token_for(self, spec: JobSpec) -> str:
        """Return a name for a new job: the name of an array, and the index of a task."""
        need = _need_of(spec)
        batch = self._open.get(need)
        if batch is None:
            batch = self._open[need] = _Batch(new_token(), need)
        batch.promised += 1
        if batch.promised >= self._size:
            del self._open[need]
        self._gathering[batch.name, need] = batch
        return f"{batch.name}.{batch.promised}"

    def takes(self, token: str) -> bool:
        """Whether a job of this name can be a task."""
        name, _, index = token.rpartition(".")
        return bool(name) and index.isdecimal() and 1 <= int(index) <= self._size

    async def submit(self, submission: Submission) -> None:
        """Submit a job together with others that come now."""
        name, _, index = submission.job.token.rpartition(".")
        need = _need_of(submission.spec)
        batch = self._gathering.setdefault((name, need), _Batch(name, need))
        batch.members[int(index)] = submission
        if len(batch.members) > 1:
            return await trio.lowlevel.checkpoint()  # the first one submits it
        await self._gather(batch)
        del self._gathering[name, need]
        if self._open.get(need) is batch:
            del self._open[need]
        await self._submitter.submit(batch.name, need, batch.members)

    @enable_ki_protection
    async def _gather(self, batch: _Batch) -> None:
        """Wait until no more jobs come, and all tokens that were given out are used."""
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(_PATIENCE):
            await trio.lowlevel.checkpoint()
            before = 0
            while len(batch.members) > before or len(batch.members) < batch.promised:
                before = len(batch.members)
                await trio.sleep(_QUIET)


@final
@attrs.define(eq=False)
class _Array:
    """An array that is being submitted."""

    name: str
    need: _Need
    wrapper: str
    left: dict[int, Submission]
    """The tasks that are not submitted yet."""
    part: TaskArray = attrs.field(init=False)
    """The tasks that the last call was for."""

    def wanted(self) -> bool:
        """Whether any task is still wanted."""
        return any(submission.wanted() for submission in self.left.values())

    def next_part(self, most: float) -> range:
        """Return the tasks for the next call: the first range without a gap."""
        first, last = ranges_of(self.left)[0]
        return range(first, int(min(last, first + most - 1)) + 1)

    def take_out(self) -> list[tuple[int, Submission]]:
        """Remove the tasks that the last call was for, and return them."""
        indices = range(self.part.first, self.part.last + 1)
        return [(index, self.left.pop(index)) for index in indices]


@final
@attrs.define(eq=False)
class ArraySubmitter:
    """Submits arrays, in as many parts as the site has room for."""

    _engine: ArrayEngine
    _directory: str
    _calls: Calls
    _submitter: Submitter
    _room: Room
    _throttler: Throttler
    _turn: trio.Lock = attrs.field(init=False, factory=trio.Lock)
    _most: float = attrs.field(init=False, default=math.inf)
    """How many tasks to submit with one call. This is halved while there is no room."""

    async def submit(self, name: str, need: JobSpec, members: Mapping[int, Submission]) -> None:
        """Submit jobs, until each is taken or refused."""
        path = f"{self._directory}/{name}.{min(members)}.tasks"
        specs = {index: submission.spec for index, submission in members.items()}
        reply = await self._calls.read(write_tasks(path, name, specs))
        if reply is None or reply.status:
            why = "no answer" if reply is None else reply.said
            for submission in members.values():
                submission.refuse(f"its script cannot be written to {path}: {why}")
            return
        wrapper = wrap_tasks(self._engine, self._directory, name, path, need)
        array = _Array(name, need, wrapper, dict(members))
        while array.left:
            async with self._turn:
                answer = await self._room.submit(partial(self._attempt, array), array.wanted)
                if isinstance(answer, Taken):
                    self._take(array, answer.id)
            if isinstance(answer, Unclear):
                await self._search(array)
            elif isinstance(answer, Refused):
                for _, submission in array.take_out():
                    submission.refuse(answer.reason)

    async def _attempt(self, array: _Array, wanted: Callable[[], bool]) -> Answer:
        while True:
            tasks = array.next_part(self._most)
            at_once = self._throttler.allotment(len(tasks))
            array.part = TaskArray(array.name, tasks[0], tasks[-1], at_once)
            answer = await self._submitter.call(self._command(array), wanted)
            if not isinstance(answer, Busy) or len(tasks) == 1:
                self._most = 2 * len(tasks)
                return answer
            self._most = len(tasks) // 2

    def _command(self, array: _Array) -> Command:
        output = f"{self._directory}/{array.name}"
        return self._engine.submit_array(array.part, array.wrapper, array.need, output)

    def _take(self, array: _Array, number: str) -> None:
        now = trio.current_time()
        for index, submission in array.take_out():
            submission.take(self._engine.number_of(number, index), now)
        self._throttler.know(number, array.part.at_once)
        self._submitter.look()

    async def _search(self, array: _Array) -> None:
        searched = array.take_out()
        missing = await self._submitter.search([submission for _, submission in searched])
        array.left.update(each for each in searched if each[1] in missing)
