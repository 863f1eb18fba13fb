"""Outputs in the order of the inputs, with bounded memory and files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from trio_turnstile.cli._in_order import InOrder
from trio_turnstile.cli._label import Label
from trio_turnstile.cli._output import Stream
from trio_turnstile.cli._printer import MOST_WAITING
from trio_turnstile.cli._printout import Printout

MANY = 200


def printout(seq: int, out: bytes | None = None) -> Printout:
    """Return the output of an operation; by default, its number."""
    pair = [Stream(), Stream()]
    for stream, data in zip(pair, (b"%d\n" % seq if out is None else out, b""), strict=True):
        os.write(stream.write_end, data)
        stream.take_in()
        stream.close_pipe()
    return Printout(Label(seq), pair)


def text_of(each: Printout) -> bytes:
    """Return the standard output of an operation, and close it."""
    text = b"".join(each.pieces(1))
    each.close()
    return text


def open_files() -> int:
    return len([*Path("/dev/fd").iterdir()])


def test_outputs_wait_for_those_before() -> None:
    """Whatever the order in which operations end, outputs come in the order of their inputs."""
    order = InOrder()
    came = [each.label.place for seq in (3, 1, 4, 2) for each in order.put(printout(seq))]
    assert came == [1, 2, 3, 4]
    assert order.held == 0


def test_what_waits_at_the_end_comes_in_order() -> None:
    """At the end of a run the rest comes in order, though some operations never began."""
    order = InOrder()
    for seq in (5, 3, 2):
        assert not [*order.put(printout(seq))]
    assert b"".join(map(text_of, order.rest())) == b"2\n3\n5\n"


def test_any_number_of_outputs_waits_in_a_few_files() -> None:
    """Behind a slow operation, many outputs share a file; it goes when they were printed."""
    order, before = InOrder(), open_files()
    for seq in range(2, MANY):
        assert not [*order.put(printout(seq))]
    assert order.held < MOST_WAITING
    assert open_files() == before + 1
    texts = [text_of(each) for each in order.put(printout(1))]
    assert texts == [b"%d\n" % seq for seq in range(1, MANY)]
    assert open_files() == before


def test_outputs_that_cannot_be_moved_count_as_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk outputs stay where they are, and nothing is lost."""
    order = InOrder()
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    for seq in range(2, MANY):
        assert not [*order.put(printout(seq))]
    assert order.held == MANY - 2
    assert b"".join(map(text_of, order.put(printout(1)))).count(b"\n") == MANY - 1
    assert order.held == 0


def test_a_waiting_output_knows_how_it_ends() -> None:
    """The last byte and the size are the same for an output that was moved."""
    order = InOrder()
    for seq in range(2, MANY):
        assert not [*order.put(printout(seq, b"open" if seq == MANY - 1 else None))]
    *others, last = order.put(printout(1))
    assert b"".join(map(text_of, others)).count(b"\n") == MANY - 2
    assert (last.last_byte(1), last.written, last.last_byte(2)) == (b"n", [1], b"")
    assert text_of(last) == b"open"
    assert text_of(last) == b""  # it is closed
