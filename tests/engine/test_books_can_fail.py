"""`assert_conserved` finds every booking that is left out.

Each call in the engine that makes a booking is taken out of the code in turn, and runs are made
that would reach it: at the end of at least one of them the books must not balance.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import CodeType, FunctionType
from typing import Any, TypeAlias

import attrs
import pytest
import trio
from trio.testing import MockClock

from trio_turnstile import (
    DISCARD,
    Batch,
    BatchError,
    Consumer,
    DeadLetter,
    Limiter,
    Many,
    Processor,
    Producer,
    Scalable,
    Skip,
    run_phases,
)
from trio_turnstile.testing import assert_conserved

MODULES = (
    "_engine.pool",
    "_pipelines.fused",
    "_pipelines.inbox",
    "_pipelines.batch_step",
)
"""The modules that make bookings."""

BOOKINGS = {"receive", "settle", "cancel", "pass_on", "hand_over"}
BOOKKEEPERS = {"counts", "_counts", "_books", "_before", "origin", "books", "_inbox"}
"""The names of the objects that make bookings in those modules."""


# ---- taking a booking out ----


@attrs.frozen
class Booking:
    """A statement that makes a booking."""

    module: str
    function: str
    line: int
    source: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.source}"


def _is_booking(node: ast.stmt) -> bool:
    """Say whether a statement calls a booking method, or the method under its bare name."""
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
        return False
    function = node.value.func
    if isinstance(function, ast.Name):
        return function.id in {"receive", "settle"}
    if not isinstance(function, ast.Attribute) or function.attr not in BOOKINGS:
        return False
    owner = function.value
    if isinstance(owner, ast.Subscript):
        owner = owner.value
    name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
    return name in BOOKKEEPERS


def _tree(module: str) -> ast.Module:
    return ast.parse(inspect.getsource(importlib.import_module(f"trio_turnstile.{module}")))


def _bookings() -> Iterator[Booking]:
    """Find all statements that make a booking."""
    for module in MODULES:
        for owner in ast.walk(_tree(module)):
            if not isinstance(owner, ast.ClassDef):
                continue
            for function in owner.body:
                if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                    continue
                for node in ast.walk(function):
                    if isinstance(node, ast.stmt) and _is_booking(node):
                        name = f"{owner.name}.{function.name}"
                        yield Booking(module, name, node.lineno, ast.unparse(node))


ALL_BOOKINGS = list(_bookings())


class _Without(ast.NodeTransformer):
    def __init__(self, line: int) -> None:
        self._line = line

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        if node.lineno == self._line and _is_booking(node):
            return ast.copy_location(ast.Pass(), node)
        return node


def _code(module: CodeType, qualname: str) -> CodeType:
    for constant in module.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_qualname == qualname:
                return constant
            if qualname.startswith(constant.co_qualname + "."):
                return _code(constant, qualname)
    raise LookupError(qualname)


@contextmanager
def left_out(booking: Booking) -> Iterator[None]:
    """Run the code without one booking."""
    module = importlib.import_module(f"trio_turnstile.{booking.module}")
    tree = ast.fix_missing_locations(_Without(booking.line).visit(_tree(booking.module)))
    compiled = compile(tree, str(module.__file__), "exec", dont_inherit=True)
    owner, name = booking.function.split(".")
    function = vars(getattr(module, owner))[name]
    assert isinstance(function, FunctionType)
    whole = function.__code__
    function.__code__ = _code(compiled, booking.function)
    try:
        yield
    finally:
        function.__code__ = whole


# ---- runs that make every booking ----

Run: TypeAlias = Callable[[], Awaitable[Any]]


async def double(number: int) -> int:
    await trio.sleep(1)
    return 2 * number


async def now(number: int) -> int:
    return number


async def numbers() -> AsyncIterator[int]:
    for number in range(6):
        await trio.sleep(0.1)
        yield number


async def spread(number: int) -> Many[int]:
    await trio.sleep(1)
    return Many([number] * 3)


async def picky(number: int) -> int:
    if number == 2:
        raise ValueError(number)
    return DISCARD if number == 3 else number  # type: ignore[return-value]


async def store(number: object) -> None:
    await trio.sleep(1)


async def store_now(number: int) -> None:
    pass


async def store_all(numbers: list[int]) -> None:
    await trio.sleep(1)
    if 2 in numbers:
        raise BatchError({numbers.index(2): ValueError(2)})


async def join(numbers: list[int]) -> Many[int]:
    await trio.sleep(1)
    return Many(numbers[:1] * 2)


async def _to_the_end(pipeline: Any) -> Any:
    return await pipeline.run()


async def _cancelled(pipeline: Any, seconds: float) -> Any:
    async with trio.open_nursery() as nursery:
        run = await nursery.start(pipeline.run)
        await trio.sleep(seconds)
        run.cancel()
    return run


async def _closed_limiter() -> Any:
    tokens = Limiter("tokens", 1)
    async with trio.open_nursery() as nursery:
        pipeline = Producer(numbers()) | Consumer(store_all, limiter=tokens, batch=Batch(2))
        run = await nursery.start(pipeline.run)
        await trio.sleep(1.5)
        run.cancel()
    return run


class _Sleeps(Scalable):
    async def work(self, channels: object) -> None:
        await trio.sleep(1)


async def _drained_operations() -> Any:
    async def operations() -> AsyncIterator[Scalable]:
        for _ in range(9):
            await trio.sleep(0.1)
            yield _Sleeps()

    async with trio.open_nursery() as nursery:
        manager = await nursery.start(partial(run_phases, operations(), limiter=1))
        await trio.sleep(1.5)
        manager.drain()
    return manager


async def _abandoned_pages() -> Any:
    async def fetch(page: int) -> tuple[list[int], int | None]:
        await trio.sleep(0.1)
        return list(range(5)), page + 1

    return await _cancelled(Producer.pages(fetch, 1) | Consumer(store, limiter=1), 1.5)


SKIP = [Skip()]

RUNS: dict[str, Run] = {
    "fused": partial(
        _to_the_end,
        Producer(range(6))
        | Processor(double, limiter=2)
        | Processor(picky, on_error=SKIP)
        | Processor(now)
        | Consumer(store_now),
    ),
    "stages": partial(
        _to_the_end,
        Producer(range(6))
        | Processor(double, limiter=2)
        | Processor(double, limiter=2, window=2)
        | Consumer(store, limiter=1, window=1),
    ),
    "many to the next stage": partial(
        _to_the_end,
        Producer(range(3)) | Processor(spread, limiter=2) | Consumer(store, limiter=1, window=1),
    ),
    "many to the next step": partial(
        _to_the_end,
        Producer(range(3)) | Processor(spread, limiter=2) | Processor(now) | Consumer(store),
    ),
    "ordered": partial(
        _to_the_end,
        Producer(range(6)) | Processor(double, limiter=2, ordered=True) | Consumer(store_now),
    ),
    "batches": partial(
        _to_the_end,
        Producer(range(6))
        | Processor(double, limiter=2)
        | Consumer(store_all, limiter=1, batch=Batch(2), on_error=SKIP),
    ),
    "batches to the next stage": partial(
        _to_the_end,
        Producer(range(6))
        | Processor(join, limiter=1, batch=Batch(2))
        | Consumer(store, limiter=1, window=1),
    ),
    "cancelled amid what a batch passes on": partial(
        _cancelled,
        Producer(range(6))
        | Processor(join, limiter=1, batch=Batch(2))
        | Consumer(store, limiter=1, window=1),
        1.5,
    ),
    "cancelled in a fused step": partial(
        _cancelled,
        Producer(range(6)) | Processor(now, limiter=2) | Consumer(store),
        0.5,
    ),
    "cancelled at a limiter": partial(
        _cancelled, Producer(range(6)) | Consumer(store, limiter=2), 0.5
    ),
    "cancelled amid many": partial(
        _cancelled,
        Producer(range(3)) | Processor(spread, limiter=2) | Consumer(store),
        1.5,
    ),
    "cancelled between stages": partial(
        _cancelled,
        Producer(range(9)) | Processor(now, limiter=2) | Consumer(store, limiter=1, window=3),
        1.5,
    ),
    "cancelled amid a batch": partial(
        _cancelled,
        Producer(range(9)) | Consumer(store_all, limiter=1, batch=Batch(2)),
        0.5,
    ),
    "batches that wait for a token": _closed_limiter,
    "batches that are too wide": partial(
        _cancelled,  # otherwise it would wait for ever for a booking that is left out
        Producer(range(6))
        | Consumer(store_all, limiter=1, weight=2, batch=Batch(2), on_error=SKIP),
        0.5,
    ),
    "cancelled amid batches that are too wide": partial(
        _cancelled,
        Producer(range(6))
        | Consumer(store_all, limiter=1, weight=2, batch=Batch(2), on_error=DeadLetter(store)),
        0.5,
    ),
    "drained operations": _drained_operations,
    "abandoned pages": _abandoned_pages,
}


def complaint(run: Run) -> str:
    """Make a run, and return what `assert_conserved` says of it, or nothing if the run hangs."""

    async def within() -> str:
        with trio.move_on_after(1_000):
            account = await run()
            try:
                assert_conserved(account)
            except AssertionError as error:
                return str(error)
        return ""

    return trio.run(within, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("name", RUNS)
def test_the_books_of_every_run_balance(name: str) -> None:
    """With all bookings in place, no run fails."""
    assert not complaint(RUNS[name])


def test_the_bookings_are_found() -> None:
    """The search finds enough bookings: finding too few would prove nothing."""
    assert len(ALL_BOOKINGS) >= 20


@pytest.mark.parametrize("booking", ALL_BOOKINGS, ids=str)
def test_a_booking_that_is_left_out_shows(booking: Booking) -> None:
    """With a booking left out, `assert_conserved` fails at the end of some run."""
    with left_out(booking):
        assert any(complaint(run) for run in RUNS.values())
