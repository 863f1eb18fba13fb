"""A limiter shared by keys, and the portions of a limiter, keep the promises of a limiter.

The tests of limiters in trio and anyio, which `Limiter` passes, run here with a shared limiter
that is used without keys. The tests of locks run with portions.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import pytest

from trio_turnstile import Limiter, Portion, Throttle, Turnstile, open_turnstile

Test = Callable[..., Awaitable[None]]

ANYIO = importlib.import_module(f"{__package__}.test_anyio_conformance")
TRIO = importlib.import_module(f"{__package__}.test_trio_conformance")
LOCKS = TRIO.load("trio._tests.test_sync")


def shared(turnstile: Turnstile, tokens: float) -> Limiter:
    """Make a shared limiter that refuses an impossible number of tokens in trio's words."""
    throttle = Throttle(min=0, hold=0)
    try:
        return turnstile.shared("trio", tokens, throttle=throttle).limiter
    except (TypeError, ValueError):
        limiter = turnstile.shared("trio", 0, throttle=throttle).limiter
        limiter.total_tokens = tokens
        return limiter


@asynccontextmanager
async def patched(module: ModuleType, name: str, options: dict[str, Any]) -> AsyncIterator[None]:
    """Make a module use shared limiters, with a turnstile that is open meanwhile."""
    async with open_turnstile() as turnstile:

        def make(tokens: float = 1, **named: float) -> Limiter:
            return shared(turnstile, next(iter(named.values()), tokens))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, name, make)
            patch.setattr("trio._threads.CapacityLimiter", make)
            factory = options.get("lock_factory")
            if factory is not None:
                options["lock_factory"] = make
            yield


def of_shared(module: ModuleType, name: str, test: Test) -> Test:
    """Return the test changed to use shared limiters."""

    @functools.wraps(test)
    async def run(**options: Any) -> None:
        async with patched(module, name, options):
            with TRIO.up_to_a_look_inside(test):
                await test(**options)

    vars(run)["pytestmark"] = [TRIO.of_limiters(mark) for mark in getattr(test, "pytestmark", ())]
    return run


for _name, _test in vars(ANYIO).items():
    if _name.startswith("test_") and inspect.iscoroutinefunction(_test):
        globals()[f"{_name}_as_in_anyio"] = of_shared(ANYIO, "free", _test)

for _name, _test in TRIO.COLLECTED.items():
    _original = getattr(_test, "__wrapped__")  # noqa: B009 (functools put it there)
    _module = TRIO.load(_original.__module__)
    globals()[f"{_name}_as_in_trio"] = of_shared(_module, "CapacityLimiter", _original)


@pytest.mark.parametrize("way", ["tokens", "key", "two tokens of a key"])
@pytest.mark.parametrize(
    "name",
    [
        "test_generic_lock_exclusion",
        "test_generic_lock_fifo_fairness",
        "test_generic_lock_acquire_nowait_blocks_acquire",
    ],
)
async def test_a_way_in_is_a_lock(name: str, way: str) -> None:
    """A portion of a limiter with room for one of its kind is a lock."""
    test = getattr(LOCKS, name)
    async with open_turnstile() as turnstile:

        def make() -> Portion:
            if way == "tokens":
                return turnstile.limiter("one", 1).tokens(1)
            if way == "key":
                return turnstile.shared("all", 10, each=1).of("key")
            return turnstile.shared("all", 3, each=2).of("key", tokens=2)

        await test(lock_factory=make)
