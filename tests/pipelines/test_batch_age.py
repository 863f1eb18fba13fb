"""How old and how big a batch can get, whenever items arrive."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from trio_turnstile import Batch, Consumer, Producer
from trio_turnstile.testing import assert_conserved

arrivals = st.lists(st.sampled_from([0, 0, 0.1, 0.5, 1, 1.5, 3]), max_size=30)


@settings(max_examples=100, deadline=None)
@given(
    gaps=arrivals,
    size=st.none() | st.integers(1, 5),
    keyed=st.booleans(),
    tokens=st.integers(1, 3),
    seconds=st.sampled_from([0, 0.2, 2]),
)
def test_no_batch_is_too_old_or_too_big(
    gaps: list[float], size: int | None, keyed: bool, tokens: int, seconds: float
) -> None:
    """A batch that is due waits only for a token, and takes no more items meanwhile."""
    within = 1.0
    came: dict[int, float] = {}
    busy = 0
    free_since = 0.0

    async def source() -> Any:
        for number, gap in enumerate(gaps):
            await trio.sleep(gap)
            came[number] = trio.current_time()
            yield number

    async def store(numbers: list[int]) -> None:
        nonlocal busy, free_since
        now = trio.current_time()
        ages = [now - came[number] for number in numbers]
        assert size is None or len(numbers) <= size
        # It was due when its oldest item reached the age, and may have waited for a token then.
        assert max(ages) <= within + 1e-9 or now == pytest.approx(free_since)
        assert max(ages) - min(ages) <= within + 1e-9
        busy += 1
        await trio.sleep(seconds)
        busy -= 1
        free_since = trio.current_time()

    batch = Batch(size, within=within, key=(lambda number: number % 2) if keyed else None)
    pipeline = Producer(source) | Consumer(store, limiter=tokens, window=100, batch=batch)

    async def main() -> None:
        report = await pipeline.run()
        assert_conserved(report)
        assert report.steps[0].completed == len(gaps)

    trio.run(main, clock=MockClock(autojump_threshold=0))
