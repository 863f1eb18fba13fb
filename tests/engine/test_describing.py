"""How errors of items are described: always successfully, and each item has its own error."""

from __future__ import annotations

import dataclasses
import math
import pickle
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_turnstile import (
    Aborted,
    ConcurrentError,
    Consumer,
    DeadLetter,
    Fail,
    PhaseTimeouts,
    Processor,
    Producer,
    Retry,
    RetryIn,
    Scalable,
    Skip,
    dead_letter_to_dict,
    retry,
    run_phases,
)
from trio_turnstile.testing import assert_conserved, no_backoff


class Broken(Exception):
    """An error that cannot be shown."""

    def __repr__(self) -> str:
        raise AttributeError("no code")

    __str__ = __repr__


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """An error that accepts neither a note nor a traceback."""

    code: int = 0


class Empty(Exception):
    """An error that is also a collection; it is empty, and so counts as false."""

    def __len__(self) -> int:
        return 0


class Unshown:
    """An item that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("half made")


@pytest.mark.parametrize("fused", [False, True])
async def test_an_error_that_cannot_be_shown_fails_its_item_alone(fused: bool) -> None:
    """The policies decide about an error that cannot be shown as about any other."""

    async def call(number: int) -> int:
        if number == 1:
            raise Broken
        return number

    first: Any = Processor(call, limiter=None if fused else 2, on_error=Skip())
    report = await (Producer(range(3)) | first | Consumer(call, on_error=Skip())).run()
    assert (report.steps[0].completed, report.steps[0].failed) == (2, 1)
    assert "<Broken, whose repr raised AttributeError>" in str(report.errors[0])
    assert_conserved(report)


async def test_an_item_that_cannot_be_shown_is_named_by_its_class() -> None:
    """The message names such an item by its class, and still says what failed."""

    async def call(item: object) -> None:
        raise OSError("x")

    report = await (Producer([Unshown()]) | Consumer(call, on_error=Skip())).run()
    (error,) = report.errors
    assert "Unshown" in str(error)
    assert "OSError('x')" in str(error)


class Named(Scalable):
    """An operation that fails, with a given identifier."""

    def __init__(self, identifiers: Any) -> None:
        self._identifiers = identifiers

    @property
    def identifiers(self) -> Any:
        if isinstance(self._identifiers, Exception):
            raise self._identifiers
        return self._identifiers

    async def work(self, channels: Any) -> None:
        raise OSError("x")


@pytest.mark.parametrize(
    ("identifiers", "texts"),
    [
        (("a", "b"), ("a", "b")),
        ((1, Path("x"), None), ("1", "x", "None")),
        ("sample", ("sample",)),
        (7, ("7",)),
        (None, ()),
        ([Broken()], ("<Broken instance at",)),
        (ValueError("no name yet"), ()),
    ],
    ids=["texts", "odd", "one", "number", "none", "broken", "raises"],
)
async def test_identifiers_are_texts_whatever_they_are(
    identifiers: Any, texts: tuple[str, ...]
) -> None:
    """Identifiers are only for people, so any value is accepted."""
    report = await run_phases([Named(identifiers)], limiter=1)
    (error,) = report.errors
    assert len(error.identifiers) == len(texts)
    assert all(map(str.startswith, error.identifiers, texts))


async def test_a_huge_error_makes_a_message_that_can_be_read() -> None:
    """The middle of a text that is too long for a message is left out."""

    async def call(number: int) -> None:
        raise OSError("x" * 10**6)

    report = await (Producer(["y" * 10**6]) | Consumer(call, on_error=Skip())).run()
    assert len(str(report.errors[0])) < 2000


SHARED = ConcurrentError("cannot connect", notes=["see the log"])


async def test_one_error_raised_for_many_items_is_one_for_each() -> None:
    """Each item has its own error, even if a cache raises the same object each time."""

    async def call(number: int) -> None:
        raise SHARED

    letters, dead = trio.open_memory_channel[ConcurrentError](10)
    await (Producer([5, 5, 6]) | Consumer(call, limiter=1, on_error=DeadLetter(letters))).run()
    letters.close()
    received = [letter async for letter in dead]
    assert [letter.item for letter in received] == [5, 5, 6]
    assert len(set(map(id, received))) == 3
    assert all("see the log" in letter.notes for letter in received)


async def test_a_copied_error_keeps_what_the_user_has_set() -> None:
    """The item, identifiers, phase, cause and notes that the user set stay."""
    cause = OSError("reset")
    mine = ConcurrentError("mine", item="part 3", identifiers=["s7"], phase="upload")
    mine.__cause__ = cause

    async def call(number: int) -> None:
        raise mine

    report = await (Producer(range(2)) | Consumer(call, limiter=1, on_error=Skip())).run()
    for error in report.errors:
        assert (error.item, error.identifiers, error.phase) == ("part 3", ("s7",), "upload")
        assert error.__cause__ is cause


async def test_a_retried_error_says_its_own_attempt() -> None:
    """Each says its own attempt, even if the same object is raised each time."""
    mine = ConcurrentError("mine")

    async def call(number: int) -> None:
        raise mine

    with no_backoff():
        report = await (Producer([1, 2]) | Consumer(call, on_error=[Retry(2), Skip()])).run()
    assert [(error.item, error.attempt) for error in report.errors] == [(1, 3), (2, 3)]


async def test_an_aborted_run_says_how_far_it_came_and_why_it_ended() -> None:
    """The message has the counts; the error says which policy stopped the run."""

    async def call(number: int) -> None:
        if number == 3:
            raise OSError("boom")

    with pytest.raises(Aborted, match="'call' received 4, completed 3, failed 1") as caught:
        await (Producer(range(9)) | Consumer(call, limiter=1)).run()
    (error,) = caught.value.exceptions
    assert str(error) == "call of item 3 failed: OSError('boom')"
    assert error.notes == ("the run was stopped by an error on which no policy gives a verdict",)


def test_a_described_error_can_be_pickled() -> None:
    """The pickle includes what the library remembers about the error."""
    error = pickle.loads(pickle.dumps(ConcurrentError("m", item=3, notes=["n"])))
    assert (error.item, error.notes) == (3, ("n",))


class Strange(list[int]):
    """A value whose class has the name of another, and which raises when it is looked into."""

    def __iter__(self) -> Iterator[int]:
        raise RuntimeError("cannot be gone through")

    def __len__(self) -> int:
        raise RuntimeError("has no length")


Strange.__name__ = "list"


async def test_what_lies_about_itself_is_shown_by_its_class() -> None:
    """An item or identifier that lies about itself is shown by its class."""

    async def call(item: object) -> None:
        raise OSError("x")

    report = await (Producer([Strange()]) | Consumer(call, on_error=Skip())).run()
    assert "<Strange>" in str(report.errors[0])
    phases = await run_phases([Named(Strange())], limiter=1)
    assert phases.errors[0].identifiers == ("<Strange>",)


@pytest.mark.parametrize("wait", [math.nan, -1, math.inf, "1", True])
async def test_a_retry_that_cannot_be_waited_for_aborts_with_a_note(wait: Any) -> None:
    """A wait that is not possible aborts the run, whichever policy asks for the retry."""

    class Mine:
        def decide(self, error: ConcurrentError) -> RetryIn:
            return RetryIn(wait)

    async def call(item: object) -> None:
        raise OSError("x")

    with pytest.raises(Aborted) as caught:
        await (Producer([1, 2]) | Consumer(call, limiter=1, on_error=[Mine(), Skip()])).run()
    assert "the error policies could not decide: ValueError" in caught.value.exceptions[0].notes[0]


@pytest.mark.parametrize("verdict", [Fail, "fail", True, 5])
async def test_what_is_no_verdict_aborts_with_a_note(verdict: Any) -> None:
    """A value that is not a verdict is not mistaken for one, but aborts the run."""

    class Mine:
        def decide(self, error: ConcurrentError) -> Any:
            return verdict

    async def call(item: object) -> None:
        raise OSError("x")

    with pytest.raises(Aborted) as caught:
        await (Producer([1, 2]) | Consumer(call, limiter=1, on_error=[Mine(), Skip()])).run()
    assert "must give a verdict or None" in caught.value.exceptions[0].notes[0]


async def test_groups_and_chains_of_kept_errors_keep_no_tracebacks() -> None:
    """Kept errors lose their tracebacks however they are linked, even in a circle."""
    circle = ValueError("circle")
    circle.__context__ = ExceptionGroup("", [circle, OSError("x")])

    async def call(item: int) -> None:
        raise circle

    class Reports(Scalable):
        async def work(self, channels: Any) -> None:
            await channels.errors.send(ConcurrentError("noted"))

    report = await (Producer(range(30)) | Consumer(call, limiter=1, on_error=Skip())).run()
    assert report.errors[-1].__traceback__ is None
    phases = await run_phases([Reports() for _ in range(30)], limiter=1)
    assert phases.errors[-1].notes == ()


@pytest.mark.parametrize("seconds", [None, 10])
async def test_a_frozen_error_is_kept_as_others_are(seconds: float | None) -> None:
    """Policies know it by its class, even with a timeout, and its traceback is dropped in time."""

    async def call(number: int) -> None:
        raise Frozen(number)

    consumer = Consumer(call, limiter=1, timeout=seconds, on_error=Skip(on=Frozen))
    report = await (Producer(range(30)) | consumer).run()
    assert [error.__cause__ for error in report.errors] == [Frozen(n) for n in range(30)]
    assert [bool(e.__cause__ and e.__cause__.__traceback__) for e in report.errors] == (
        [True] * 20 + [False] * 10
    )


async def test_a_frozen_error_of_a_phase_is_itself() -> None:
    """Policies know it by its class, even in a phase with a timeout."""

    class Gone(Scalable):
        async def work(self, channels: Any) -> None:
            raise Frozen(410)

    timeouts = PhaseTimeouts(work=10)
    report = await run_phases([Gone()], limiter=1, timeouts=timeouts, on_error=Skip(on=Frozen))
    assert report.errors[0].__cause__ == Frozen(410)


async def test_a_frozen_error_comes_out_of_retry() -> None:
    """The caller sees this error, and not that a note could not be added."""

    async def call() -> None:
        raise Frozen(410)

    with no_backoff(), pytest.raises(Frozen):
        await retry(Retry(1), call)


async def test_an_error_that_is_false_is_an_error() -> None:
    """The error is kept with the place where it was raised, and a dead letter reports it."""

    async def call(number: int) -> None:
        raise Empty(number)

    letters: list[ConcurrentError] = []

    async def keep(letter: ConcurrentError) -> None:
        letters.append(letter)

    report = await (Producer(range(30)) | Consumer(call, limiter=1, on_error=Skip())).run()
    assert "raised in " in report.errors[-1].notes[0]
    await (Producer([1]) | Consumer(call, on_error=DeadLetter(keep))).run()
    assert dead_letter_to_dict(letters[0])["error"] == "Empty(1)"


async def test_a_source_may_fail_with_an_error_that_is_false() -> None:
    """An error that counts as false ends the run, as its cause."""

    async def source() -> AsyncIterator[int]:
        yield 1
        raise Empty("source")

    async def call(number: int) -> None:
        await trio.lowlevel.checkpoint()

    with pytest.raises(Aborted) as caught:
        await (Producer(source()) | Consumer(call)).run()
    assert isinstance(caught.value.exceptions[0].__cause__, Empty)
