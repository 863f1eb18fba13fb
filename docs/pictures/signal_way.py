"""Draws how a signal gets from a thread to a task that waits for a token.

The calls are those of a recorded run, reduced to those that go from one module to another.
So the picture has the modules and functions that there are.
"""

from __future__ import annotations

import sys
import threading
from inspect import CO_COROUTINE, getattr_static
from types import FrameType
from typing import Any, NamedTuple

import trio
import trio.testing
from svg import MARGIN, WIDTH, Picture

from trio_turnstile import Decision, Event, Throttle, open_turnstile

WING = "trio_turnstile._limiting."
VALUES = {"decisions", "events", "throttle"}
"""Modules that are not drawn: they hold values and pure rules."""

THREAD, TRIO, OBSERVER = "your thread", "trio", "observer"
WAITERS = ("first waiter", "second waiter")

OURS = {"send": THREAD, "observe": OBSERVER, "wait_first": WAITERS[0], "wait_second": WAITERS[1]}
"""The functions of this module that have a lane."""

TOP, ROW, HEAD = 22.0, 31.0, 32.0


class Message(NamedTuple):
    """An arrow: from whom, to whom, and what stands at it."""

    sender: str
    receiver: str
    words: str
    answer: bool = False


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def party(frame: FrameType) -> str | None:
    """Return in which lane a frame belongs; ``None`` if in that of its caller."""
    module, name = _module(frame), frame.f_code.co_name
    if module == __name__:
        return OURS.get(name)
    if module.startswith("trio."):
        return TRIO
    short = module.removeprefix(WING)
    return None if short == module or short in VALUES or name.startswith("<") else short


def caller(frame: FrameType) -> str | None:
    """Return the lane from which a frame was called."""
    above = frame.f_back
    while above is not None:
        found = party(above)
        if found is not None:
            return found
        above = above.f_back
    return None


def _is_read(frame: FrameType) -> bool:
    """Tell whether the frame reads a property."""
    owner: Any = sys.modules[_module(frame)]
    for part in frame.f_code.co_qualname.split("."):
        owner = getattr_static(owner, part, None)
    return isinstance(owner, property)


def _words(frame: FrameType, receiver: str) -> str | None:
    """Return what stands at the arrow of a call; ``None`` if it is not drawn."""
    name, local = frame.f_code.co_name, frame.f_locals
    if receiver in WAITERS:
        return "resumes with a token"
    if receiver == OBSERVER:
        return "Decision"
    if receiver != TRIO:
        resumed = bool(frame.f_code.co_flags & CO_COROUTINE) and frame.f_lasti > 0
        return None if _is_read(frame) else f"resumes {name}()" if resumed else f"{name}()"
    if name == "total_tokens" and frame.f_code.co_argcount == 2:
        return f"total_tokens = {local[frame.f_code.co_varnames[1]]:g}"
    return {"run_sync_soon": "run_sync_soon()", "set": "event.set()"}.get(name)


class Recorder:
    """Records the calls between lanes, each thread by itself."""

    def __init__(self) -> None:
        self._of_thread: dict[int, list[Message]] = {}
        self._observed = False

    def messages(self) -> list[list[Message]]:
        """Return the messages of your thread, and those of the thread of trio."""
        main = threading.get_ident()
        other = [messages for thread, messages in self._of_thread.items() if thread != main]
        return [*other, self._of_thread[main]]

    def __call__(self, frame: FrameType, event: str, value: object) -> None:
        """Take note of a call or a return; for `sys.setprofile`."""
        receiver, sender = party(frame), None
        if event in ("call", "return") and receiver is not None:
            sender = caller(frame)
        if receiver is None or sender is None or sender == receiver:
            return
        if event == "call":
            self._called(sender, receiver, frame)
        elif isinstance(value, Decision):
            words = f"Decision: {value.before:g} \N{RIGHTWARDS ARROW} {value.after:g}"
            self._add(Message(receiver, sender, words, answer=True))

    def _called(self, sender: str, receiver: str, frame: FrameType) -> None:
        words = _words(frame, receiver)
        # What the throttle task does after it told the observers is not on the way.
        if words is not None and (not self._observed or receiver in WAITERS):
            self._add(Message(sender, receiver, words))
        self._observed = self._observed or receiver == OBSERVER

    def _add(self, message: Message) -> None:
        self._of_thread.setdefault(threading.get_ident(), []).append(message)


async def _run(recorder: Recorder) -> None:
    def observe(event: Event) -> None:
        pass

    def send() -> None:
        limiter.up()

    def thread() -> None:
        sys.setprofile(recorder)
        send()
        sys.setprofile(None)

    async def wait_first() -> None:
        async with limiter:
            await trio.sleep_forever()

    async def wait_second() -> None:
        async with limiter:
            await trio.sleep_forever()

    async with open_turnstile(observers=[observe], sample_every=3600) as turnstile:
        limiter = turnstile.limiter("api", 2, throttle=Throttle(hold=0))
        limiter.total_tokens = 1
        async with limiter, trio.open_nursery() as nursery:
            for waiter in (wait_first, wait_second):
                nursery.start_soon(waiter)
                await trio.testing.wait_all_tasks_blocked()
            sys.setprofile(recorder)
            await _finished(threading.Thread(target=thread))
            sys.setprofile(None)
            nursery.cancel_scope.cancel()


async def _finished(thread: threading.Thread) -> None:
    """Run the thread, and wait until all that came of it has happened."""
    thread.start()
    thread.join()
    await trio.testing.wait_all_tasks_blocked()


def record() -> list[list[Message]]:
    """Send a signal from a thread; return the messages of that thread, and of trio's."""
    recorder = Recorder()
    trio.run(_run, recorder)
    return recorder.messages()


def lanes(messages: list[Message]) -> list[str]:
    """Return the lanes, in the order of their first message."""
    seen = [name for message in messages for name in (message.sender, message.receiver)]
    return list(dict.fromkeys(seen))


def _draw_message(picture: Picture, at: dict[str, float], y: float, message: Message) -> None:
    start, end = at[message.sender], at[message.receiver]
    picture.text((start + end) / 2, y - 8, message.words, "mono small middle halo")
    picture.arrow((start, y), (end, y), "line dash" if message.answer else "line")


def _draw_lane(picture: Picture, x: float, name: str, width: float, bottom: float) -> None:
    yours = name in OURS.values()
    colour = "green" if yours else "orange" if name == TRIO else "blue"
    picture.line((x, TOP + HEAD), (x, bottom), "grid")
    picture.box(x - width / 2, TOP, width, HEAD, colour)
    picture.text(x, TOP + HEAD / 2 + 4, name, "small middle" if yours else "mono small bold middle")


def _draw_border(picture: Picture, y: float) -> None:
    picture.line((MARGIN, y), (WIDTH - MARGIN, y), "line dash")
    picture.text(WIDTH - MARGIN, y - 7, "in your thread", "small soft end halo")
    picture.text(WIDTH - MARGIN, y + 17, "in the thread of trio", "small soft end halo")


def draw() -> str:
    """Return the picture."""
    parts = record()
    messages = [message for part in parts for message in part]
    names = lanes(messages)
    step = (WIDTH - 2 * MARGIN) / len(names)
    at = {name: MARGIN + step * (index + 0.5) for index, name in enumerate(names)}
    bottom = TOP + HEAD + 12 + ROW * (len(messages) + 1)
    picture = Picture(
        "How a signal gets to a waiter",
        "; ".join(f"{m.sender} to {m.receiver}: {m.words}" for m in messages),
        bottom + 16,
    )
    for name, x in at.items():
        _draw_lane(picture, x, name, step - 8, bottom)
    y = TOP + HEAD + ROW
    for message in parts[0]:
        _draw_message(picture, at, y, message)
        y += ROW
    _draw_border(picture, y - 8)
    for message in parts[1]:
        y += ROW
        _draw_message(picture, at, y, message)
    return str(picture)
