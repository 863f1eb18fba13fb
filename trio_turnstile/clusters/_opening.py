"""`open_cluster`: makes the parts of a cluster, and runs its tasks while it is open."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile import Limiter, RateLimiter
from trio_turnstile._util import (
    check_seconds,
    open_background_nursery,
    open_plain_nursery,
    whole,
)

from ._arrays import ArraySubmitter, Gatherer
from ._calls import Calls, Run, run_command, unlimited
from ._canceller import Canceller
from ._cluster import Cluster, Parts
from ._engine import ArrayEngine, Engine, Unreadable
from ._poller import Poller
from ._room import Room
from ._script import make_directory
from ._submitting import Submitter
from ._throttling import Throttler
from ._tracking import Interval, Tracker


@final
@attrs.frozen
class Arrays:
    """Makes `open_cluster` submit jobs as tasks of arrays.

    Args:
      size: the most tasks of an array. If the site allows fewer, arrays are smaller.
      running: limits how many tasks run at a time, and the cluster follows its limit when it
        moves. By default the cluster decides how many run.
    """

    size: int = attrs.field(default=1000, validator=whole(1))
    running: Limiter | None = attrs.field(default=None, kw_only=True)


@final
@attrs.frozen(kw_only=True)
class _Settings:
    """The settings of a cluster."""

    engine: Engine
    directory: str
    calls: Calls
    interval: Interval
    lost_after: float
    grace: float
    arrays: _ArraySettings | None


@final
@attrs.frozen
class _ArraySettings:
    """The settings of a cluster that submits arrays."""

    engine: ArrayEngine
    size: float
    running: Limiter | None


def _assemble(settings: _Settings) -> Parts:
    engine, directory, calls = settings.engine, settings.directory, settings.calls
    tracker, canceller = Tracker(settings.lost_after, _array_of(engine)), Canceller(engine, calls)
    poller = Poller(engine, directory, calls, tracker, settings.interval, canceller)
    room = Room(tracker)
    submitter = Submitter(engine, directory, calls, poller, room)
    parts = Parts(calls, tracker, poller, canceller, submitter)
    if settings.arrays is None:
        return parts
    array_engine = settings.arrays.engine
    throttler = Throttler(array_engine, calls, tracker, settings.arrays.running)
    arrays = ArraySubmitter(array_engine, directory, calls, submitter, room, throttler)
    gatherer = Gatherer(arrays, settings.arrays.size)
    return attrs.evolve(parts, gatherer=gatherer, throttler=throttler)


def _array_of(engine: Engine) -> Callable[[str], str]:
    return engine.array_of if isinstance(engine, ArrayEngine) else lambda _: ""


@enable_ki_protection
async def _serve(
    settings: _Settings, leaving: trio.Event, task_status: trio.TaskStatus[Cluster]
) -> None:
    """Run the tasks of a cluster until it has been closed."""
    parts = _assemble(settings)
    with trio.CancelScope(shield=True) as scope:
        async with open_background_nursery() as background:
            background.start_soon(parts.poller.run)
            background.start_soon(parts.canceller.run)
            if parts.throttler is not None:
                background.start_soon(parts.throttler.run)
            async with open_plain_nursery() as submissions:
                cluster = Cluster(settings.engine, settings.directory, parts, submissions)
                task_status.started(cluster)
                await leaving.wait()
                scope.deadline = trio.current_time() + settings.grace
            await cluster._close()


@asynccontextmanager
@enable_ki_protection
async def open_cluster(
    engine: Engine,
    *,
    directory: str | os.PathLike[str] = "turnstile-jobs",
    poll: tuple[float, float] = (0.5, 30.0),
    calls: RateLimiter | None = None,
    lost_after: float = 20.0,
    grace: float = 30.0,
    arrays: Arrays | None = None,
    run: Run = run_command,
) -> AsyncIterator[Cluster]:
    """Open a cluster, to submit jobs to it. One task polls for all jobs.

    At the end of the block, jobs that have not ended are cancelled, unless they are detached. The
    block waits for their ends, and for submissions under way.

    Args:
      engine: the kind of cluster.
      directory: where jobs write their output and how they ended. The nodes of the cluster have
        to see it under the same path. It is made if it does not exist.
      poll: the shortest and the longest time between two polls, in seconds. The time is short
        after news, and grows while there is none.
      calls: how often the controller may be called: to submit, to poll and to cancel. By
        default as often as necessary.
      lost_after: a job is lost if the controller does not know it for this many seconds, and
        there is no other trace of it. It should exceed the lag of file systems and accounts.
      grace: how many seconds the end of the block may take. Jobs that cannot be cancelled in
        that time are left running.
      arrays: submits jobs that come at the same time, and need the same, as tasks of one array.
        By default each job is submitted separately.
      run: runs the commands. By default they run on this machine.

    Raises:
      OSError: if the directory cannot be made.
      TypeError: if ``arrays`` is given, and the engine does not support arrays.
    """
    least, most = poll
    check_seconds("poll", least, positive=True)
    check_seconds("poll", most, positive=True)
    check_seconds("lost_after", lost_after)
    check_seconds("grace", grace)
    if least > most:
        raise ValueError(f"poll must be the shortest and the longest time, not {poll!r}")
    made = Calls(run, calls or unlimited())
    reply = await run(make_directory(_absolute(directory)))
    if reply.status:
        raise OSError(f"the directory for jobs cannot be made: {reply.said}")
    settings = _Settings(
        engine=engine,
        directory=_absolute(directory),
        calls=made,
        interval=Interval(least, most),
        lost_after=lost_after,
        grace=grace,
        arrays=None if arrays is None else await _array_settings(engine, arrays, made),
    )
    leaving = trio.Event()
    async with open_plain_nursery() as nursery:
        try:
            yield await nursery.start(_serve, settings, leaving)
        finally:
            leaving.set()


async def _array_settings(engine: Engine, arrays: Arrays, calls: Calls) -> _ArraySettings:
    """Ask the site how large arrays may be; without an answer, use the size that was asked for."""
    if not isinstance(engine, ArrayEngine):
        raise TypeError(f"a {type(engine).__name__} submits no arrays: leave arrays= out")
    reply = await calls.ask(engine.limits())
    size: float = arrays.size
    if reply is not None:
        with suppress(Unreadable):
            size = min(size, engine.read_limits(reply))
    return _ArraySettings(engine, size, arrays.running)


def _absolute(directory: str | os.PathLike[str]) -> str:
    return str(Path(directory).absolute())
