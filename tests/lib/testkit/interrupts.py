"""Ctrl-C at every point of a run."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from dis import opname
from functools import cache, partial
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import trio

T = TypeVar("T")

AMID_AWAIT = {"SEND", "YIELD_VALUE", "JUMP_BACKWARD_NO_INTERRUPT"}
"""The instructions of an ``await``."""

Event: TypeAlias = Literal["line", "opcode"]
TraceFunction: TypeAlias = Callable[[FrameType, str, Any], Any]


class Started(Generic[T]):
    """A ``task_status`` that keeps its value, so that the value can be read after Ctrl-C."""

    def __init__(self) -> None:
        self.values: list[T] = []

    def started(self, value: Any = None) -> None:
        self.values.append(value)


def struck_everywhere(
    main: Callable[[T], Awaitable[object]],
    make: Callable[[], T],
    *,
    event: Event,
    modules: Collection[str],
    stride: int = 1,
) -> Iterator[T]:
    """Run ``main(make())`` again and again, and press Ctrl-C a little later each time.

    Args:
      main: the async function to run.
      make: makes the argument of the function, anew for each run.
      event: the kind of event to count.
      modules: the files whose events count, each with its folder: ``_limiting/limiter.py``.
      stride: how many more events to wait for in each run than in the run before.

    Yields:
      The argument of the run that just ended, once for each run in which Ctrl-C was pressed.
    """
    for number in count(1, stride):
        made = make()
        if not interrupted(partial(main, made), number, event=event, modules=modules):
            return
        yield made


def interrupted(
    main: Callable[[], Awaitable[object]], number: int, *, event: Event, modules: Collection[str]
) -> bool:
    """Press Ctrl-C at the n-th event of a trio run; return whether there were that many events.

    Args:
      main: the async function to run. It may let `KeyboardInterrupt` out.
      number: the number of the event, from 1.
      event: the kind of event to count.
      modules: the files whose events count, each with its folder: ``_limiting/limiter.py``.
    """
    with pressing(number, event=event, modules=modules) as press:
        try:
            trio.run(main)
        except KeyboardInterrupt:
            assert press.pressed
    return press.pressed


class Press:
    """Whether Ctrl-C was pressed, and where."""

    def __init__(self) -> None:
        self.place = ""
        """The file and the line; empty if it was not pressed."""

    @property
    def pressed(self) -> bool:
        return bool(self.place)


@contextmanager
def pressing(number: int, *, event: Event, modules: Collection[str]) -> Iterator[Press]:
    """Press Ctrl-C at the n-th event of the block; for the arguments see `interrupted`."""
    left = number
    press = Press()

    def trace(frame: FrameType, what: str, _: object) -> TraceFunction | None:
        nonlocal left
        module = _in_folder(frame.f_code.co_filename)
        if module not in modules:
            return None
        frame.f_trace_opcodes = event == "opcode"
        left -= what == event
        if what == event and left <= 0 and not _awaits(frame, event):
            sys.settrace(before)
            press.place = f"{module}:{frame.f_lineno}"
            signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    # CPython 3.12 traces opcodes only if some frame had asked for it before `sys.settrace`.
    sys._getframe().f_trace_opcodes = event == "opcode"
    sys.settrace(trace)
    try:
        yield press
    finally:
        sys.settrace(before)


def _awaits(frame: FrameType, event: Event) -> bool:
    """Return whether the frame is in an ``await``, where Python does not check for signals."""
    return event == "opcode" and opname[frame.f_code.co_code[frame.f_lasti]] in AMID_AWAIT


@cache
def _in_folder(file: str) -> str:
    """Return the file and its folder. The result is cached, because every call needs it."""
    return "/".join(Path(file).parts[-2:])
