"""`Turnstile.ask`: a request to a limiter is answered with a decision; overrides."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock, wait_all_tasks_blocked

from testkit.limiters import STEP_BY_STEP, Proposal
from trio_turnstile import (
    Decision,
    Event,
    Limiter,
    Override,
    Pause,
    Reason,
    Release,
    Resume,
    SetLimit,
    Signal,
    Throttle,
    Turnstile,
    open_turnstile,
)


def outcome(decision: Decision) -> tuple[float, float, Reason]:
    return decision.before, decision.after, decision.reason


async def test_a_signal_that_is_asked_for_is_answered_with_its_decision() -> None:
    """The decision says who asked and what they noted; the limit has moved, and observers know."""
    heard: list[Event] = []
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10, throttle=STEP_BY_STEP)
        turnstile.observe(heard.append)
        decision = await turnstile.ask("api", Signal.DOWN, by="ann", note="the disk is full")
        assert (decision.limiter, decision.signal, *outcome(decision)) == (
            "api",
            Signal.DOWN,
            10,
            9,
            Reason.SIGNAL,
        )
        assert (decision.by, decision.note) == ("ann", "the disk is full")
        assert api.total_tokens == 9
        assert heard == [decision]
        assert api.decisions == (decision,)
        assert api.statistics().bounds["cap"].why["by"] == "ann"
        assert outcome(await turnstile.ask("api", Signal.UP)) == (9, 10, Reason.SIGNAL)


async def test_a_refusal_is_an_answer_too() -> None:
    """A request is refused by the rules of the throttle, and where there is nothing to end."""
    async with open_turnstile() as turnstile:
        turnstile.limiter("api", 10, throttle=Throttle(hold=30))
        ask = partial(turnstile.ask, "api", by="ann")
        assert outcome(await ask(Signal.UP)) == (10, 10, Reason.AT_CEILING)
        assert outcome(await ask(Signal.DOWN)) == (10, 8, Reason.SIGNAL)
        assert outcome(await ask(Signal.DOWN)) == (8, 8, Reason.HOLDING)
        resume, release = await ask(Resume()), await ask(Release())
        assert outcome(resume) == outcome(release) == (8, 8, Reason.UNCHANGED)
        assert (resume.evidence["asked"], release.evidence["asked"]) == ("resume", "release")
        assert [decision.by for decision in turnstile.limiters["api"].decisions] == ["ann"] * 4


async def test_refusals_of_two_who_ask_are_two_decisions() -> None:
    """Refusals of one asker with the same note are kept as one, which says how often it came."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10)
        for by in ("ann", "ann", "bob"):
            await turnstile.ask("api", Signal.UP, by=by)
        assert [(each.by, each.repeated) for each in api.decisions] == [("ann", 1), ("bob", 0)]


async def test_what_was_sent_before_is_done_before() -> None:
    """Signals and requests are handled in the order in which they were sent."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10, throttle=STEP_BY_STEP)
        api.down()
        assert outcome(await turnstile.ask("api", Signal.DOWN)) == (9, 8, Reason.SIGNAL)


async def test_a_pause_can_be_asked_for_and_ended(autojump_clock: MockClock) -> None:
    """A pause that was asked for ends automatically, and its bound says who asked for it."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10)
        assert outcome(await turnstile.ask("api", Pause(60), by="ann")) == (10, 0, Reason.PAUSED)
        assert api.statistics().bounds["pause"].why["by"] == "ann"
        assert outcome(await turnstile.ask("api", Resume(), by="bob")) == (0, 10, Reason.RESUMED)
        await turnstile.ask("api", Pause(5))
        await trio.sleep(6)
        assert api.total_tokens == 10
        assert api.decisions[-1].by is None


# ---- overrides ----


async def test_an_override_holds_past_every_rule() -> None:
    """An override may exceed the ceiling, which stays as it is. Waiters are woken at once."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        api = turnstile.limiter("api", 1)
        api.acquire_on_behalf_of_nowait("first")
        nursery.start_soon(api.acquire_on_behalf_of, "second")
        await wait_all_tasks_blocked()
        decision = await turnstile.ask("api", SetLimit(2), by="ann", note="night")
        assert outcome(decision) == (1, 2, Reason.OVERRIDE)
        assert api.borrowed_tokens == 2
        assert (api.total_tokens, api.ceiling) == (2, 1)
        assert api.override == Override(2, "ann", "night", decision.time)
        assert api.statistics().bounds.keys() == {"override"}
        why = api.statistics().bounds["override"].why
        assert (why["by"], why["note"]) == ("ann", "night")


async def test_signals_do_not_move_it() -> None:
    """Signals are refused during an override, and the refusal says who has set the limit."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10, throttle=STEP_BY_STEP)
        await turnstile.ask("api", SetLimit(7), by="ann")
        api.down()
        turnstile.up()
        await wait_all_tasks_blocked()
        assert api.total_tokens == 7
        *_, down, up = api.decisions
        assert (outcome(down), outcome(up)) == ((7, 7, Reason.OVERRIDDEN),) * 2
        assert down.evidence["by"] == "ann"
        assert not down.applied


async def test_a_policy_does_not_move_it(autojump_clock: MockClock) -> None:
    """What the policy proposes during an override applies once the override has ended."""
    policy = Proposal(5.0)
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10, policy=policy)
        assert outcome(await turnstile.ask("api", SetLimit(8))) == (5, 8, Reason.OVERRIDE)
        policy.limit = 3.0
        await trio.sleep(1)
        assert api.total_tokens == 8
        assert len(api.decisions) == 1
        assert outcome(await turnstile.ask("api", Release(), by="bob")) == (8, 3, Reason.RELEASED)
        assert api.override is None
        assert api.decisions[-1].evidence["override"] == 8


async def test_it_ends_by_itself(autojump_clock: MockClock) -> None:
    """An override ends after the seconds asked for, and not before; nobody asked for its end."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10)
        start = trio.current_time()
        await turnstile.ask("api", SetLimit(4, for_seconds=60), by="ann")
        override = api.override
        assert override is not None
        assert override.until == start + 60
        assert override.wall_until == override.wall_time + 60
        assert override.wall_time == pytest.approx(time.time(), abs=60)
        assert api.decisions[-1].evidence["until"] == start + 60
        assert api.statistics().bounds["override"].why["until"] == start + 60
        await trio.sleep(59.9)
        assert api.total_tokens == 4
        await trio.sleep(0.2)
        assert (api.total_tokens, api.override) == (10, None)
        assert outcome(api.decisions[-1]) == (4, 10, Reason.RELEASED)
        assert api.decisions[-1].by is None


async def test_one_without_an_end_stays(autojump_clock: MockClock) -> None:
    """An override without an end has infinity as its end on both clocks."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10)
        await turnstile.ask("api", SetLimit(4))
        await trio.sleep(7200)
        assert api.override is not None
        assert api.override.until == api.override.wall_until == math.inf


async def test_a_pause_goes_on_under_an_override() -> None:
    """The limit is that of the override once the pause has ended."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10)
        await turnstile.ask("api", Pause())
        assert outcome(await turnstile.ask("api", SetLimit(4))) == (0, 0, Reason.OVERRIDE)
        assert api.statistics().bounds.keys() == {"override", "pause"}
        assert outcome(await turnstile.ask("api", Resume())) == (0, 4, Reason.RESUMED)


async def test_the_last_of_two_overrides_holds() -> None:
    """The end of the last override is the one that counts, too."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10)
        await turnstile.ask("api", SetLimit(4, for_seconds=1))
        await turnstile.ask("api", SetLimit(0))
        assert (api.total_tokens, api.statistics().bounds["override"].tokens) == (0, 0)
        assert outcome(await turnstile.ask("api", Release())) == (0, 10, Reason.RELEASED)


async def test_an_assignment_of_the_program_ends_it() -> None:
    """The value assigned to ``total_tokens`` is the limit, as with any limiter."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10)
        await turnstile.ask("api", SetLimit(4))
        api.total_tokens = 6
        assert (api.total_tokens, api.override) == (6, None)
        assert api.statistics().bounds.keys() == {"cap"}


# ---- what would happen ----


@pytest.mark.parametrize(
    "action",
    [
        Signal.UP,
        Signal.DOWN,
        SetLimit(4),
        SetLimit(4, for_seconds=1),
        Release(),
        Pause(5),
        Resume(),
    ],
    ids=repr,
)
@pytest.mark.parametrize("before", [None, SetLimit(7), Pause()], ids=repr)
async def test_a_preview_says_what_asking_returns_and_changes_nothing(
    action: Any, before: Any, autojump_clock: MockClock
) -> None:
    """The preview agrees with the answer, whatever is in force."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10, throttle=STEP_BY_STEP, policy=Proposal(9.0))
        if before is not None:
            await turnstile.ask("api", before)
        state, decisions = api.statistics(), api.decisions
        foreseen = turnstile.preview("api", action)
        assert (api.statistics(), api.decisions) == (state, decisions)
        decision = await turnstile.ask("api", action)
        assert outcome(foreseen) == outcome(decision)
        # With an override in the evidence, or without one.
        assert foreseen == decision


# ---- what is wrong ----


async def test_a_limiter_that_is_not_there_is_named() -> None:
    """The error names the limiter and lists those that exist."""
    async with open_turnstile() as turnstile:
        turnstile.limiter("api", 10)
        for ask in (turnstile.ask, turnstile.preview):
            with pytest.raises(KeyError, match="no limiter is named 'ap'; there are: api"):
                answer = ask("ap", Signal.UP)
                assert not isinstance(answer, Decision)
                await answer


@pytest.mark.parametrize("action", ["up", 20, SetLimit, None])
async def test_what_is_no_action_is_an_error(action: Any) -> None:
    """The error for a value that is not an action lists all actions."""
    async with open_turnstile() as turnstile:
        turnstile.limiter("api", 10)
        with pytest.raises(TypeError, match=r"an action is Signal\.UP.*SetLimit\(20\).*not "):
            await turnstile.ask("api", action)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SetLimit(-1), ValueError, "tokens must be at least 0, not -1"),
        (lambda: SetLimit(2.5), TypeError, "tokens must be an int or math.inf, not 2.5"),
        (lambda: SetLimit(2, for_seconds=0), ValueError, "for_seconds must be more than 0"),
        (lambda: Pause(-1), ValueError, "seconds must be more than 0"),
    ],
)
def test_an_action_checks_its_figures(make: Any, error: type[Exception], message: str) -> None:
    """An action checks its figures when it is made, not when it is asked for."""
    with pytest.raises(error, match=message):
        make()


async def test_a_turnstile_that_was_left_answers_nothing() -> None:
    """A turnstile that was left answers no request, and neither does a closed limiter."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10)
        turnstile._dispatcher.post(lambda _: api.close())
        with pytest.raises(trio.ClosedResourceError, match="limiter 'api' is closed"):
            await turnstile.ask("api", Signal.UP)
        turnstile.limiter("db", 10)
    with pytest.raises(trio.ClosedResourceError, match="the turnstile is closed"):
        await turnstile.ask("db", Signal.UP)


async def test_asking_is_a_checkpoint_and_a_cancelled_one_does_nothing() -> None:
    """If the task was cancelled before it asked, nothing was done."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10)
        with trio.testing.assert_checkpoints():
            await turnstile.ask("api", Signal.UP)
        with trio.CancelScope() as scope:
            scope.cancel()
            await turnstile.ask("api", Signal.DOWN)
        assert scope.cancelled_caught
        assert api.total_tokens == 10


async def test_it_is_asked_in_the_run_of_the_turnstile() -> None:
    """A run in another thread cannot move the limit; the error says what can be used there."""

    async def elsewhere(turnstile: Turnstile) -> None:
        await turnstile.ask("api", Signal.DOWN)

    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10)
        with pytest.raises(RuntimeError, match="in another trio run"):
            await trio.to_thread.run_sync(trio.run, elsewhere, turnstile)
        assert api.total_tokens == 10


def test_a_limiter_by_itself_has_no_override() -> None:
    """A limiter without a turnstile has no override, because nobody can set one."""
    assert Limiter("api", 10).override is None
