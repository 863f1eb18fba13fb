"""Random schedules: one seed gives a run under limiters of a turnstile, and the events during it.

`play` makes the run and the events, lets them happen, and checks what must hold after every run,
however it ended. The same seed gives the same schedule, including the order of tasks.
"""

from __future__ import annotations

import math
import random
import signal
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs
import trio
from trio.testing import MockClock

import trio_turnstile
from testkit.interrupts import Event, Press, pressing
from testkit.limits import LimitCheck
from testkit.trial_sources import TrialSource, open_now
from trio_turnstile import (
    Aborted,
    ConcurrentError,
    Decision,
    Limiter,
    PipelineReport,
    Report,
    Throttle,
    Turnstile,
    open_turnstile,
)
from trio_turnstile._pipelines import run as pipeline_run
from trio_turnstile._pipelines import stages as pipeline_stages
from trio_turnstile.limits import AIMDLimit, VegasLimit
from trio_turnstile.testing import assert_conserved

HANGS_AFTER = 20_000.0
"""Virtual seconds after which a run is considered to hang."""

HANGS_AFTER_REALLY = 120
"""Real seconds after which a run is considered to hang, if the virtual time stands still."""

MAX_PAUSE = 3.0
"""The maximum time for which a token is withheld, in virtual seconds."""

WINGS = ("_engine", "_limiting", "_phases", "_pipelines")

ENGINE = frozenset(
    f"{wing}/{path.name}"
    for wing in WINGS
    for path in (Path(trio_turnstile.__file__).parent / wing).glob("*.py")
)
"""The modules in which Ctrl-C may be pressed at any line."""

Ending: TypeAlias = Literal[
    "itself", "drain", "deadline", "cancel", "outer", "close", "press", "press in a call", "trace"
]
"""How a run ends: by itself, or early by one of the other events."""

ENDINGS: tuple[Ending, ...] = (
    *("itself",) * 7,
    *("drain",) * 2,
    *("deadline",) * 2,
    *("cancel",) * 2,
    *("outer",) * 2,
    *("close",) * 2,
    *("press",) * 2,
    "press in a call",
    *("trace",) * 3,
)

NUDGES = ("up", "down", "down all", "assign", "assign 0", "pause", "pause for good", "resume")
"""The events that move a limit."""


@attrs.frozen
class Strike:
    """Ctrl-C at the n-th event inside the engine."""

    number: int
    event: Event = "line"


@attrs.define
class Happening:
    """A summary of a schedule and its end, for statistics."""

    seed: int
    ending: Ending
    outcome: str = ""
    """``"report"``, ``"aborted"``, ``"interrupted"`` or ``"cancelled"``."""
    kinds: set[str] = attrs.field(factory=set)
    """The kinds of events that occurred."""
    struck: str = ""
    """The place where Ctrl-C was pressed, if it was a line of the engine."""


class Trial(ABC):
    """One run of phases or of a pipeline, under limiters of a turnstile.

    Args:
      seed: everything else follows from it.
      ending: how the run ends, unless the seed decides.
      strike: where Ctrl-C is pressed, unless the seed decides.
    """

    def __init__(
        self, seed: int, *, ending: Ending | None = None, strike: Strike | None = None
    ) -> None:
        self.seed = seed
        self.random = random.Random(f"{type(self).__name__} {seed}")
        drawn = self.random.choice(ENDINGS)
        drawn_strike = Strike(int(10 ** self.random.uniform(1, 4)))
        self.ending: Ending = "trace" if strike else ending or drawn
        self.strike = strike or (drawn_strike if self.ending == "trace" else None)
        self.happening = Happening(seed, self.ending)
        self.sources: list[TrialSource[Any]] = []
        self.limiters: list[Limiter] = []
        self.trio_limiters: list[trio.CapacityLimiter] = []
        self.checks: dict[str, LimitCheck] = {}
        """The checks of the limits, by the names of their limiters."""
        self.faults: list[str] = []
        """Failed checks, where raising an exception would look like an error of the work."""
        self.letters: list[ConcurrentError] = []
        self.run: Any = None
        self.aborted: Aborted | None = None
        self.raised: BaseException | None = None
        self.pressed = False
        self.calls = 0
        self.press_in_call = self.random.randrange(1, 30)
        self.events = self._draw_events()

    # ---- what kinds of runs there are ----

    @abstractmethod
    def prepare(self, turnstile: Turnstile) -> None:
        """Make the limiters and the sources."""

    @abstractmethod
    def start(self, turnstile: Turnstile) -> AbstractAsyncContextManager[Any]:
        """Return a context manager that runs beside its block, and gives the block the run."""

    @abstractmethod
    def check_run(self) -> None:
        """Check what must hold for this kind of run after its end."""

    @abstractmethod
    def diverted(self) -> int:
        """Return how many diverted items the run has counted."""

    # ---- parts ----

    def make_limiter(self, turnstile: Turnstile, name: str, tokens: int) -> Limiter:
        """Return a limiter in the turnstile, and check that its limit is kept."""
        draw = self.random
        throttle = Throttle(min=0, hold=draw.choice([0, 0, 0.5, 2]), max_pause=MAX_PAUSE)
        policy = draw.choice(
            [None, None, None, AIMDLimit(tokens, minimum=1), VegasLimit(tokens, minimum=1)]
        )
        enforce = draw.random() < 0.8
        limiter = turnstile.limiter(name, tokens, throttle=throttle, policy=policy, enforce=enforce)
        self.limiters.append(limiter)
        self.checks[limiter.name] = LimitCheck(limiter)
        return limiter

    def make_source(self, kind: Any, items: list[Any]) -> TrialSource[Any]:
        """Return a source of the given kind, which sometimes fails."""
        draw = self.random
        fails_at = draw.randrange(len(items) + 1) if draw.random() < 0.12 else None
        source = TrialSource(kind, items, fails_at, self.seed, draw.choice([0, 0, 3, 99]))
        self.sources.append(source)
        return source

    async def divert(self, error: ConcurrentError) -> None:
        """Take a dead letter; add it at the very end, so that one that is cut off is not added."""
        await trio.sleep(0.1)
        self.letters.append(error)

    def called(self) -> None:
        """Note that a function of the user is called, and press Ctrl-C if it is time."""
        self.calls += 1
        if self.calls % 7 == 0:
            self.audit()
        if self.ending == "press in a call" and self.calls == self.press_in_call:
            self.pressed = True
            signal.raise_signal(signal.SIGINT)

    def audit(self) -> None:
        """Check what must hold at every instant."""
        if self.run is None:
            return
        try:
            assert_conserved(self.run)
        except AssertionError as error:
            self.faults.append(str(error))
        for limiter in self.limiters:
            if limiter.statistics().withheld:
                self.happening.kinds.add("withheld")

    # ---- what happens ----

    def _draw_events(self) -> list[tuple[float, str, int]]:
        draw = self.random
        nudges = [
            (draw.uniform(0, draw.choice([1, 5, 15])), draw.choice(NUDGES), draw.randrange(100))
            for _ in range(draw.choice([0, 1, 3, 8]))
        ]
        if self.ending in ("drain", "deadline", "cancel", "outer", "close"):
            at = draw.choice([0, draw.uniform(0, 1), draw.uniform(0, 10)])
            nudges.append((at, self.ending, draw.randrange(100)))
        return sorted(nudges)

    def _act(self, turnstile: Turnstile, what: str, number: int) -> None:
        if what in ("drain", "deadline", "cancel", "outer"):
            self._end(what, number)
            return
        if what == "down all":
            turnstile.down()
            return
        open_ones = [limiter for limiter in self.limiters if not limiter.statistics().closed]
        if not open_ones:
            return
        limiter = open_ones[number % len(open_ones)]
        actions: dict[str, Callable[[], object]] = {
            "up": limiter.up,
            "down": limiter.down,
            "assign": lambda: self._assign(limiter, number % 5 + 1),
            "assign 0": lambda: self._assign(limiter, 0),
            "pause": lambda: limiter.pause(number / 20 + 0.1),
            "pause for good": limiter.pause,
            "resume": limiter.resume,
            "close": limiter.close,
        }
        actions[what]()
        self.happening.kinds.add(what)

    def _end(self, what: str, number: int) -> None:
        if what == "drain":
            self.run.drain()
        elif what == "deadline":
            self.run.drain(trio.current_time() + number / 30)
        elif what == "cancel":
            self.run.cancel()
        else:
            self.outer.cancel()

    def _assign(self, limiter: Limiter, tokens: int) -> None:
        if self.checks[limiter.name].limiter is limiter:
            self.checks[limiter.name].retune(tokens)

    async def _direct(self, turnstile: Turnstile) -> None:
        """Let the events happen, then let the run come to its end."""
        began = trio.current_time()
        for at, what, number in self.events:
            await trio.sleep_until(began + at)
            self.audit()
            self._act(turnstile, what, number)
            self.audit()
        await trio.sleep(1)
        for limiter in self.limiters:
            if not limiter.statistics().closed:
                limiter.resume()
                self._assign(limiter, 2)

    def _observe(self, event: trio_turnstile.Event) -> None:
        if isinstance(event, Decision) and event.applied and event.limiter in self.checks:
            self.checks[event.limiter].moved(event.before)
            self.happening.kinds.add(event.reason.value)

    # ---- the run ----

    async def main(self) -> None:
        """Run the whole schedule, and make the checks that need a trio run."""
        with trio.fail_after(HANGS_AFTER):
            async with open_turnstile(observers=[self._observe]) as turnstile:
                self.prepare(turnstile)
                if self.ending == "press":
                    at = self.random.uniform(0, self.random.choice([0.2, 2, 10]))
                    trio.lowlevel.spawn_system_task(self._press, at)
                with trio.CancelScope() as self.outer:
                    await self._perform(turnstile)
                self._check_at_end()
                await trio.sleep(MAX_PAUSE + 0.1)
                self._check_later()

    async def _perform(self, turnstile: Turnstile) -> None:
        try:
            async with self.start(turnstile) as self.run:
                await self._direct(turnstile)
        except Aborted as aborted:
            self.aborted = aborted
        except BaseException as raised:
            self.raised = raised
            self._check_at_end()
            raise

    async def _press(self, at: float) -> None:
        await trio.sleep(at)
        self.pressed = True
        signal.raise_signal(signal.SIGINT)

    def _check_at_end(self) -> None:
        """Check what must hold at the very instant when the run is over."""
        if open_now(self.sources):
            self.faults.append(f"{open_now(self.sources)} sources are open after the end")
        for limiter in self._all_limiters():
            if limiter.borrowed_tokens:
                self.faults.append(f"after the end a token is borrowed: {limiter!r}")

    def _all_limiters(self) -> list[Limiter | trio.CapacityLimiter]:
        return [*self.limiters, *self.trio_limiters]

    def _check_later(self) -> None:
        """Check what must hold when all pauses are over."""
        for limiter in self.limiters:
            state = limiter.statistics()
            if state.withheld and not state.closed:
                self.faults.append(f"a token is withheld too long: {limiter!r}")

    def check(self) -> None:
        """Make the checks that follow the trio run."""
        assert not self.faults, self.faults
        for source in self.sources:
            assert source.open == 0
        for limiter in self._all_limiters():
            assert limiter.borrowed_tokens == 0
        self._check_outcome()
        if self.run is not None:
            assert self.run.report().ended
            assert_conserved(self.run)
            assert len(self.letters) == self.diverted()
            self.check_run()
        if self.happening.outcome != "interrupted":
            for check in self.checks.values():
                assert check.exceeded == []
                assert check.running == 0

    def _check_outcome(self) -> None:
        self.happening.outcome = "report"
        if self.raised is not None and _is_cancellation(self.raised):
            self.happening.outcome = "interrupted" if self.pressed else "cancelled"
            # If Ctrl-C strikes a task of the turnstile, the run inside is cancelled.
            assert self.ending == "outer" or self.happening.struck.startswith("_limiting/")
        elif self.raised is not None:
            self.happening.outcome = "interrupted"
            # It comes alone, and not in a group.
            assert type(self.raised) is KeyboardInterrupt, repr(self.raised)
            assert self.pressed
        if self.aborted is not None:
            self.happening.outcome = "aborted"
            self._check_abort(self.aborted)
        elif self.raised is None and self.ending == "itself":
            assert not any(source.failed for source in self.sources)

    def _check_abort(self, aborted: Aborted) -> None:
        assert type(aborted) is Aborted
        assert isinstance(aborted.report, Report | PipelineReport)
        assert aborted.report.ended
        assert_conserved(aborted.report)
        assert all(type(error) is ConcurrentError for error in aborted.exceptions)
        assert len(set(map(id, aborted.exceptions))) == len(aborted.exceptions)
        for error in aborted.exceptions:
            self.happening.kinds.add(type(error.__cause__).__name__)
            if isinstance(error.__cause__, trio.ClosedResourceError):
                assert self.ending == "close" or any(source.failed for source in self.sources)


def _is_cancellation(raised: BaseException) -> bool:
    if isinstance(raised, BaseExceptionGroup):
        return all(_is_cancellation(part) for part in raised.exceptions)
    return isinstance(raised, trio.Cancelled)


def play(trial: Trial) -> Happening:
    """Play a schedule and check it; the note on an error gives the seed to play it again."""
    interrupted = False
    try:
        with _in_fixed_order(trial.seed), _hang_guard(), _pressing(trial.strike) as press:
            try:
                trio.run(trial.main, clock=MockClock(autojump_threshold=0))
            except KeyboardInterrupt:
                interrupted = True
            finally:
                trial.pressed |= press.pressed
                trial.happening.struck = press.place
        assert interrupted == trial.pressed
        trial.check()
    except BaseException as error:
        error.add_note(f"to play it alone: TURNSTILE_SEED={trial.seed}")
        error.add_note(f"it was {type(trial).__name__}, ended by {trial.ending!r} {trial.strike}")
        error.add_note(f"Ctrl-C was pressed at {trial.happening.struck!r}; events {trial.events}")
        raise
    return trial.happening


@contextmanager
def _pressing(strike: Strike | None) -> Iterator[Press]:
    if strike is None:
        yield Press()
        return
    with pressing(strike.number, event=strike.event, modules=ENGINE) as press:
        yield press


def _set_turn(seconds: float) -> None:
    for module in (pipeline_stages, pipeline_run):  # one imports the constant from the other
        vars(module)["TURN"] = seconds


@contextmanager
def _in_fixed_order(seed: int) -> Iterator[None]:
    """Make trio run its tasks in an order that follows from the seed.

    The length of a turn is processor time, so in these tests each turn ends at once or never.
    """
    core: Any = trio._core._run
    before, state = core._ALLOW_DETERMINISTIC_SCHEDULING, core._r.getstate()
    core._ALLOW_DETERMINISTIC_SCHEDULING = True
    core._r.seed(seed)
    turn, never_or_at_once = pipeline_stages.TURN, random.Random(seed).choice([0.0, math.inf])
    _set_turn(never_or_at_once)
    try:
        yield
    finally:
        _set_turn(turn)
        core._ALLOW_DETERMINISTIC_SCHEDULING = before
        core._r.setstate(state)


@contextmanager
def _hang_guard() -> Iterator[None]:
    """Fail if a run spins while the virtual time stands still. This needs a timer."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def fail(*_: object) -> None:
        raise AssertionError(f"it spins: no end in {HANGS_AFTER_REALLY} seconds")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(HANGS_AFTER_REALLY)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def tally(happenings: list[Happening]) -> Counter[str]:
    """Count how the schedules ended."""
    return Counter(f"{each.ending}: {each.outcome}" for each in happenings)
