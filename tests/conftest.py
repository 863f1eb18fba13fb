"""What all tests share."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

import pytest
import trio
from hypothesis import HealthCheck, settings

TraceFunction: TypeAlias = Callable[[FrameType, str, Any], Any]

# A machine that is busy with other things makes no test fail.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

# Nor does a shell that started the tests in the background, with these ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def interrupted() -> Callable[..., bool]:
    """Runs what is given and presses Ctrl-C at some point of it: see `_interrupted`."""
    return _interrupted


def _interrupted(
    main: Callable[[], Awaitable[object]], number: int, *, event: str, modules: Collection[str]
) -> bool:
    """Interrupt a trio run at the n-th event, from 1, in some modules; tell if there are as many.

    Args:
      main: what is run; an interrupt may come out of it.
      number: the n.
      event: what is counted, a "line" or an "opcode".
      modules: the files, each with its folder: ``_limiting/limiter.py``.
    """
    left = number

    def trace(frame: FrameType, what: str, _: object) -> TraceFunction | None:
        nonlocal left
        if "/".join(Path(frame.f_code.co_filename).parts[-2:]) not in modules:
            return None
        frame.f_trace_opcodes = event == "opcode"
        left -= what == event
        if what == event and left == 0:
            sys.settrace(before)
            signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        trio.run(main)
    except KeyboardInterrupt:
        assert left <= 0
    finally:
        sys.settrace(before)
    return left <= 0
