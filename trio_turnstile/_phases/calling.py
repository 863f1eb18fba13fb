"""How a phase is called: within its timeout, and measured if somebody asks for that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeAlias

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._engine.durations import Tell, measured
from trio_turnstile._util import unprotected

from .scalable import PHASES, Channels, Phase, PhaseTimeouts, Scalable

Call: TypeAlias = Callable[[Channels], Awaitable[None]]

NO_TIMEOUTS = PhaseTimeouts()


@enable_ki_protection
async def within(seconds: float, phase: Call, channels: Channels) -> None:
    """Call a phase, which may take this many seconds.

    An interrupt between the end of a block and the exit of its cancel scope would leave the
    scope open, so Ctrl-C may strike in the phase alone.

    Raises:
      trio.TooSlowError: if it takes longer.
    """
    # `trio.fail_after` sets the traceback of an error that passes, which some errors refuse.
    with trio.move_on_after(seconds) as scope:
        await unprotected(phase, channels)
    if scope.cancelled_caught:
        raise trio.TooSlowError


def defines(operation: Scalable, phase: Phase) -> bool:
    """Return whether the operation has a phase of its own, which may do something."""
    function = getattr(getattr(operation, phase), "__func__", None)
    return function is not getattr(Scalable, phase)


@attrs.frozen
class Phases:
    """The phases of an operation, as they are called."""

    prepare: Call
    work: Call
    monitor: Call
    cleanup: Call


def measured_phases(
    operation: Scalable, timeouts: PhaseTimeouts, tellers: Mapping[Phase, Tell]
) -> Phases:
    """Return the phases of an operation, with their timeouts, and measured.

    Phases that the operation does not define are left as they are, because they do nothing.
    """
    return Phases(*(_phase(operation, phase, timeouts, tellers[phase]) for phase in PHASES))


def _phase(operation: Scalable, phase: Phase, timeouts: PhaseTimeouts, tell: Tell) -> Call:
    call: Call = getattr(operation, phase)
    if not defines(operation, phase):
        return call
    seconds = getattr(timeouts, phase, None)  # there is none for the clean-up
    return measured(call if seconds is None else partial(within, seconds, call), tell)
