"""Outputs are printed whole, one after the other, in the order that is asked for."""

from __future__ import annotations

import errno
import os
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_turnstile.cli._label import Label
from trio_turnstile.cli._output import Stream
from trio_turnstile.cli._printer import MOST_WAITING, AsTheyEnd, Printer
from trio_turnstile.cli._printout import Printout


@attrs.define(eq=False)
class Screen:
    """A screen that records the calls to it."""

    asked: list[str] = attrs.field(factory=list)

    def hide(self) -> None:
        self.asked.append("hide")

    def flush(self) -> None:
        pass

    def show(self, *, mid_line: bool) -> None:
        self.asked.append("show on a new line" if mid_line else "show")


def output(out: bytes, err: bytes = b"", seq: int = 1) -> Printout:
    """Return the output of an operation that wrote these."""
    pair = [Stream(), Stream()]
    for stream, data in zip(pair, (out, err), strict=True):
        os.write(stream.write_end, data)
        stream.take_in()
        stream.close_pipe()
    return Printout(Label(seq), pair)


async def test_outputs_are_printed_one_after_the_other(capfd: pytest.CaptureFixture[str]) -> None:
    """The outputs of operations come in order, and the screen is hidden meanwhile."""
    screen = Screen()
    printer = Printer(screen, AsTheyEnd())
    for number in range(3):
        printer.put(output(b"out %d\n" % number, b"err %d\n" % number))
    printer.put(output(b""))
    printer.end()
    await printer.run(pytest.fail)
    assert capfd.readouterr() == ("out 0\nout 1\nout 2\n", "err 0\nerr 1\nerr 2\n")
    assert screen.asked == ["hide", "show"] * 3


@pytest.mark.parametrize(
    ("out", "err", "asked"),
    [
        (b"whole\n", b"", "show"),
        (b"open", b"", "show on a new line"),
        (b"open", b"whole\n", "show"),
        (b"", b"open", "show on a new line"),
    ],
)
async def test_a_screen_hears_if_a_line_was_left_open(
    out: bytes, err: bytes, asked: str, replaced: Any
) -> None:
    """The screen starts on a new line if the output ends in the middle of one."""
    screen = Screen()
    printer = Printer(screen, AsTheyEnd())
    printer.put(output(out, err))
    printer.end()
    ours, theirs = os.openpty()
    with replaced((1, theirs), (2, theirs)):
        await printer.run(pytest.fail)
    os.close(ours)
    assert screen.asked == ["hide", asked]


async def test_a_line_left_open_elsewhere_is_not_the_screens_business(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """An unfinished line in a file does not matter to the screen."""
    screen = Screen()
    printer = Printer(screen, AsTheyEnd())
    printer.put(output(b"open"))
    printer.end()
    await printer.run(pytest.fail)
    assert screen.asked == ["hide", "show"]


async def test_lost_output_is_reported_once(
    capfd: pytest.CaptureFixture[str], replaced: Any
) -> None:
    """If standard output is closed the rest is dropped; standard error is still printed."""
    lost: list[OSError] = []
    printer = Printer(Screen(), AsTheyEnd())
    for _ in range(2):
        printer.put(output(b"out\n", b"err\n"))
    printer.end()
    read_end, write_end = os.pipe()
    os.close(read_end)
    with replaced((1, write_end)):
        await printer.run(lost.append)
    assert [error.errno for error in lost] == [errno.EPIPE]
    assert capfd.readouterr().err == "err\nerr\n"


async def test_there_is_room_until_much_waits(capfd: pytest.CaptureFixture[str]) -> None:
    """`wait_for_room` blocks while many outputs wait to be printed."""
    printer = Printer(Screen(), AsTheyEnd())
    got_room = []

    async def begin() -> None:
        await printer.wait_for_room()
        got_room.append(True)

    for _ in range(MOST_WAITING):
        await printer.wait_for_room()
        printer.put(output(b"x\n"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(begin)
        await wait_all_tasks_blocked()
        assert not got_room
        printer.end()
        await printer.run(pytest.fail)
    assert got_room
    assert capfd.readouterr().out == "x\n" * MOST_WAITING
