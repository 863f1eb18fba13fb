"""`Limiter` passes trio's own tests of `trio.CapacityLimiter`.

The tests are those of the installed trio, so a newer trio brings newer tests.
Each runs here under its own name and with its own parameters, with `Limiter` in
place of trio's class, both in the namespace of the test and where trio makes the
default limiter of its threads.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_turnstile import Limiter, Throttle

EXPECTED = {
    "test_CapacityLimiter",
    "test_CapacityLimiter_change_total_tokens",
    "test_CapacityLimiter_inf",
    "test_CapacityLimiter_memleak_548",
    "test_CapacityLimiter_zero_limit_tokens",
    "test_generic_lock_acquire_nowait_blocks_acquire",
    "test_generic_lock_exclusion",
    "test_generic_lock_fifo_fairness",
    "test_run_in_worker_thread_fail_to_spawn",
    "test_run_in_worker_thread_limiter",
}
"""What every trio from 0.32 has; a newer one may have more."""

USES_A_LIMITER = re.compile(r"\bCapacityLimiter\(|\block_factory\b|default_thread_limiter\(")
"""What to search the tests for. Tests that bring a limiter of their own are left out."""

LAST_LOOK_INSIDE = "_pending_borrowers"
"""A private attribute of trio's class; the tests that look at it do so in their last line."""


def capacity_limiter(total_tokens: float) -> Limiter:
    """Make a `Limiter` where ``trio.CapacityLimiter(total_tokens)`` is called.

    The limiter needs a name and a minimum of 0. One error is worded differently: when
    our constructor refuses a value, it names its ``ceiling``, but trio's constructor
    refuses to assign ``total_tokens``. So a value that our constructor refuses is
    assigned here, and must be refused once more, in trio's words.
    """
    throttle = Throttle(min=0)
    try:
        return Limiter("trio", total_tokens, throttle=throttle)
    except (TypeError, ValueError):
        limiter = Limiter("trio", 0, throttle=throttle)
        limiter.total_tokens = total_tokens
        return limiter


def load(module: str) -> ModuleType:
    """Import a module, without deprecation warnings of trio about itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


def with_limiter(
    module: ModuleType, test: Callable[..., Awaitable[None]]
) -> Callable[..., Awaitable[None]]:
    """Return the test changed to use `Limiter` in place of the class."""

    @functools.wraps(test)
    async def run(**arguments: object) -> None:
        made = 0

        def make(total_tokens: float) -> Limiter:
            nonlocal made
            made += 1
            return capacity_limiter(total_tokens)

        with pytest.MonkeyPatch.context() as patch, up_to_a_look_inside(test):
            patch.setattr(module, "CapacityLimiter", make)
            patch.setattr("trio._threads.CapacityLimiter", make)
            await test(**arguments)
        assert made, "the test passed without a Limiter, so it shows nothing"

    marks = getattr(test, "pytestmark", ())
    vars(run)["pytestmark"] = [of_limiters(mark) for mark in marks]
    return run


def up_to_a_look_inside(test: Callable[..., object]) -> AbstractContextManager[object]:
    """If a test looks at what only trio's class has inside, expect it to get as far as that."""
    if LAST_LOOK_INSIDE in inspect.getsource(test).splitlines()[-1]:
        return pytest.raises(AttributeError, match=LAST_LOOK_INSIDE)
    return nullcontext()


def of_limiters(mark: pytest.Mark) -> pytest.Mark:
    """Leave out the other kinds of lock of a test that is run for each kind."""
    if mark.args[:1] != ("lock_factory",):
        return mark
    factories = dict(zip(mark.kwargs["ids"], mark.args[1], strict=True))
    ours = {name: make for name, make in factories.items() if "CapacityLimiter" in name}
    assert ours, f"none of {list(factories)} is a limiter"
    return pytest.mark.parametrize("lock_factory", ours.values(), ids=ours).mark


def collect() -> Iterator[tuple[str, Callable[..., Awaitable[None]]]]:
    """Give trio's tests that use a limiter, each with its name."""
    for module in (load("trio._tests.test_sync"), load("trio._tests.test_threads")):
        for name, test in inspect.getmembers(module, inspect.iscoroutinefunction):
            if name.startswith("test_") and USES_A_LIMITER.search(inspect.getsource(test)):
                yield name, with_limiter(module, test)


COLLECTED = dict(collect())
globals().update(COLLECTED)


def test_trios_tests_are_found() -> None:
    """The search for trio's tests misses none of the intended ones."""
    assert set(COLLECTED) >= EXPECTED


async def test_a_cancelled_acquire_leaves_no_waiter_behind() -> None:
    """A task that was cancelled while it waited does not count, and gets no token."""
    limiter = capacity_limiter(1)
    await limiter.acquire_on_behalf_of("holder")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(limiter.acquire)
        await wait_all_tasks_blocked()
        assert limiter.statistics().tasks_waiting == 1
        nursery.cancel_scope.cancel()
    assert limiter.statistics().tasks_waiting == 0
    limiter.release_on_behalf_of("holder")
    assert limiter.statistics().borrowers == []
