"""`Limiter`: tokens are borrowed and given back as with trio's limiter."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import trio
from trio.lowlevel import current_task
from trio.testing import (
    assert_checkpoints,
    assert_no_checkpoints,
)

from testkit.limiters import free
from trio_turnstile import (
    Limiter,
)


async def test_async_with_borrows_and_gives_back() -> None:
    """The current task borrows, with a checkpoint on entering and none on leaving."""
    api = free()
    with assert_checkpoints():
        await api.__aenter__()
    assert api.statistics().borrowers == [current_task()]
    with assert_no_checkpoints():
        await api.__aexit__(None, None, None)
    assert api.borrowed_tokens == 0
    with pytest.raises(KeyError):
        async with api:
            raise KeyError
    assert api.borrowed_tokens == 0


async def test_acquire_and_release_are_for_the_current_task() -> None:
    """The current task borrows, blocking or not; ``acquire`` checkpoints even with a free token."""
    api = free()
    with assert_checkpoints():
        await api.acquire()
    with pytest.raises(RuntimeError, match="already holding"):
        await api.acquire()
    with pytest.raises(RuntimeError, match="already holding"):
        api.acquire_nowait()
    with assert_no_checkpoints():
        api.release()
    with pytest.raises(RuntimeError, match="isn't holding"):
        api.release()
    with assert_no_checkpoints():
        api.acquire_nowait()
    with pytest.raises(trio.WouldBlock):
        api.acquire_on_behalf_of_nowait("another")
    api.release()


async def test_others_can_borrow_through_one_task() -> None:
    """Any hashable object may be the borrower."""
    api = free(ceiling=2)
    with assert_checkpoints():
        await api.acquire_on_behalf_of("one")
    api.acquire_on_behalf_of_nowait("two")
    with pytest.raises(RuntimeError, match="already holding"):
        await api.acquire_on_behalf_of("one")
    assert (api.borrowed_tokens, api.available_tokens) == (2, 0)
    api.release_on_behalf_of("one")
    with pytest.raises(RuntimeError, match="isn't holding"):
        api.release_on_behalf_of("one")


async def test_a_cancelled_acquire_takes_no_token() -> None:
    """An acquire takes no token if it is cancelled before it begins or while it waits."""
    api = free()
    with trio.CancelScope() as scope:
        scope.cancel()
        await api.acquire()
    assert api.borrowed_tokens == 0
    api.acquire_on_behalf_of_nowait("holder")
    with trio.move_on_after(0) as scope:
        await api.acquire()
    assert scope.cancelled_caught
    assert api.statistics().tasks_waiting == 0
    api.release_on_behalf_of("holder")
    assert api.borrowed_tokens == 0


async def test_trio_to_thread_takes_it_as_a_limiter() -> None:
    """``trio.to_thread.run_sync(..., limiter=...)`` holds a token while the thread runs."""
    api = free()
    assert await trio.to_thread.run_sync(lambda: api.borrowed_tokens, limiter=api) == 1  # type: ignore[arg-type]
    assert api.borrowed_tokens == 0


def test_an_interrupt_at_any_line_leaks_no_token(interrupted: Callable[..., bool]) -> None:
    """Ctrl-C at any line of the limiter comes out, and the token is given back."""

    async def use(api: Limiter) -> None:
        async with api:
            await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()  # where an interrupt that was held back comes out

    lines, struck = 0, True
    while struck:
        api = free()
        files = {"_limiting/limiter.py", "_limiting/sack.py"}
        struck = interrupted(partial(use, api), lines + 1, event="line", modules=files)
        assert api.borrowed_tokens == 0
        lines += struck
    assert lines > 12
