"""A refusal withholds its own token: one caller costs one token, and an outage stops all calls."""

from __future__ import annotations

import math

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from trio_turnstile import (
    Consumer,
    Limiter,
    Overloaded,
    Producer,
    Reason,
    Retry,
    Skip,
    Throttle,
    open_turnstile,
)
from trio_turnstile.testing import assert_conserved


async def refuse(api: Limiter, seconds: float) -> None:
    """Make a call that gets a refusal."""
    with pytest.raises(Overloaded):
        async with api:
            raise Overloaded(seconds)


async def test_one_caller_who_is_always_refused_costs_one_token(
    autojump_clock: MockClock,
) -> None:
    """Beside this caller, sixty calls of one second over ten tokens take seven seconds."""

    async def call(item: int) -> None:
        if not item:
            raise Overloaded(60)
        await trio.sleep(1)

    done: list[float] = []

    async def worker(api: Limiter, item: int) -> None:
        try:
            async with api:
                await call(item)
        except Overloaded:
            return
        done.append(trio.current_time())

    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        api = turnstile.limiter("api", 10)
        for item in range(61):
            nursery.start_soon(worker, api, item)
    assert len(done) == 60
    assert max(done) <= 8


async def test_a_refused_item_that_is_retried_costs_one_token(autojump_clock: MockClock) -> None:
    """In a pipeline, too, a refused item costs one token, with a retry after each refusal."""
    ended: list[float] = []

    async def call(item: int) -> None:
        if not item:
            raise Overloaded(60)
        await trio.sleep(1)
        ended.append(trio.current_time())

    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10)
        policies = [Retry(3), Skip()]
        report = await (Producer(range(61)) | Consumer(call, limiter=api, on_error=policies)).run()
    assert max(ended) <= 8
    assert report.steps[0].retried == 3
    assert_conserved(report)


async def test_in_an_outage_there_are_no_more_calls_than_tokens(autojump_clock: MockClock) -> None:
    """Ten refusals stop all ten tokens until the time is up."""
    calls: list[float] = []

    async def call(item: int) -> None:
        calls.append(trio.current_time())
        if trio.current_time() < 60:
            raise Overloaded(30)
        await trio.sleep(1)

    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10)
        report = await (Producer(range(200)) | Consumer(call, limiter=api, on_error=Retry(9))).run()
    for start in (0, 30):
        assert sum(start <= time < start + 30 for time in calls) == 10
    assert report.steps[0].completed == 200


async def test_a_withheld_token_is_not_given_to_who_waits(autojump_clock: MockClock) -> None:
    """The token leaves the limit before it is given back."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 1)
        got: list[float] = []

        async def wait() -> None:
            async with api:
                got.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            with pytest.raises(Overloaded):
                async with api:
                    nursery.start_soon(wait)
                    await trio.sleep(1)
                    raise Overloaded(5)
        assert got == [6]


async def test_no_token_is_withheld_longer_than_the_throttle_allows(
    autojump_clock: MockClock,
) -> None:
    """A service may ask for 31 years: a minute is the most, or what the throttle says."""
    async with open_turnstile() as turnstile:
        for throttle, seconds in ((Throttle(), 60), (Throttle(max_pause=5), 5)):
            api = turnstile.limiter("api", 2, throttle=throttle)
            await refuse(api, 1e9)
            await trio.sleep(seconds - 0.1)
            assert api.total_tokens == 1
            await trio.sleep(0.2)
            assert api.total_tokens == 2


async def test_a_success_ends_no_withholding_and_resume_ends_all(
    autojump_clock: MockClock,
) -> None:
    """Only time or the operator ends the withholding of a token."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 3)
        await refuse(api, 10)
        await refuse(api, 20)
        async with api:
            await trio.sleep(1)
        assert (api.total_tokens, api.statistics().withheld) == (1, 2)
        assert api.statistics().bounds["withheld"].tokens == 1
        await trio.sleep(9.5)
        assert (api.total_tokens, api.statistics().withheld) == (2, 1)
        api.resume()
        await trio.sleep(0.1)
        assert (api.total_tokens, api.statistics().withheld) == (3, 0)
    reasons = [decision.reason for decision in api.decisions]
    assert reasons == [Reason.WITHHELD, Reason.WITHHELD, Reason.RESUMED, Reason.RESUMED]


async def test_an_assignment_ends_withholding(autojump_clock: MockClock) -> None:
    """An assignment by the operator applies at once and regardless of every rule."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 3)
        await refuse(api, 10)
        api.total_tokens = 4
        assert api.total_tokens == 4
        await trio.sleep(20)
        assert api.total_tokens == 4


async def test_signals_move_the_limit_beside_what_is_withheld(autojump_clock: MockClock) -> None:
    """The limit is the least of the other bounds, less the tokens withheld."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10, throttle=Throttle(hold=0))
        await refuse(api, 10)
        api.down()
        await trio.sleep(0.1)
        assert api.total_tokens == 7
        api.pause(1)
        await trio.sleep(0.1)
        assert api.total_tokens == 0
        await trio.sleep(1)
        assert api.total_tokens == 7
        await trio.sleep(10)
        assert api.total_tokens == 8


async def test_more_refusals_than_tokens_take_the_limit_to_zero_and_no_lower(
    autojump_clock: MockClock,
) -> None:
    """After more refusals than tokens the limit is 0, and each token comes back at its own time."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 2)
        for seconds in (5, 6):
            await refuse(api, seconds)
        assert api.total_tokens == 0
        async with api:
            assert trio.current_time() == 5
        assert api.total_tokens == 1


async def test_without_a_limit_there_is_nothing_to_withhold() -> None:
    """Without a limit there is nothing to withhold: infinity less one is infinity."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", math.inf)
        await refuse(api, 5)
        assert api.total_tokens == math.inf


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.floats(0, 3), st.one_of(st.none(), st.floats(0.1, 100))), max_size=20),
)
def test_the_limit_is_the_ceiling_less_what_is_withheld(
    tokens: int, calls: list[tuple[float, float | None]]
) -> None:
    """The limit is right whatever is refused when, and in the end all tokens are back."""

    async def main() -> None:
        until: list[float] = []
        async with open_turnstile() as turnstile:
            api = turnstile.limiter("api", tokens)
            for wait, hint in calls:
                await trio.sleep(wait)
                if api.available_tokens > 0 and hint is not None:
                    await refuse(api, hint)
                    until.append(trio.current_time() + min(hint, 60))
                await trio.testing.wait_all_tasks_blocked()
                now = trio.current_time()
                withheld = sum(time > now for time in until)
                assert api.total_tokens == max(0, tokens - withheld)
            await trio.sleep(61)
            assert api.total_tokens == tokens

    trio.run(main, clock=MockClock(autojump_threshold=0))
