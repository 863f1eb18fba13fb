"""`LimitController`: computes the limit. Time is an argument, decisions are values."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Final, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testkit.limiters import Proposal
from trio_turnstile import Bound, Decision, Reason, Signal, Throttle
from trio_turnstile._limiting.controller import POLICY_TICK, LimitController

UP, DOWN = Signal.UP, Signal.DOWN


def controller(
    ceiling: float = 10, policy: Proposal | None = None, **rules: float
) -> LimitController:
    return LimitController("api", ceiling, Throttle(**rules), policy)  # type: ignore[arg-type]


# ---- signals and the hold ----


def test_it_starts_at_the_ceiling_and_not_holding() -> None:
    """The first signal is applied at once, whatever the time is."""
    api = controller(hold=30)
    assert api.limit == api.cap == api.ceiling == 10
    assert api.signal(DOWN, -5.0, 0) == Decision(
        "api", -5.0, DOWN, 10, 8, Reason.SIGNAL, {"cap": 8}
    )
    assert api.limit == 8


def test_the_first_signal_is_obeyed_under_an_endless_hold() -> None:
    """With ``hold=math.inf`` one change is applied and every later one refused."""
    api = controller(hold=math.inf)
    assert api.signal(DOWN, 0.0, 0).after == 8
    refusal = api.signal(UP, 1e9, 0)
    assert (refusal.reason, refusal.evidence["hold_left"]) == (Reason.HOLDING, math.inf)


def test_a_signal_within_the_hold_is_refused_with_the_time_that_is_left() -> None:
    """Both up and down signals are refused until the hold ends."""
    api = controller(hold=30)
    api.signal(DOWN, 100.0, 0)
    assert api.signal(DOWN, 110.0, 0) == Decision(
        "api", 110.0, DOWN, 8, 8, Reason.HOLDING, {"cap": 8, "hold_left": 20.0}
    )
    assert api.signal(UP, 129.5, 0).evidence["hold_left"] == 0.5
    assert api.signal(UP, 130.0, 0).after == 9


def test_a_refused_signal_does_not_extend_the_hold() -> None:
    """An alarm that repeats every second is applied once per hold."""
    api = controller(100, hold=30)
    applied = [float(t) for t in range(121) if api.signal(DOWN, float(t), 0).applied]
    assert applied == [0.0, 30.0, 60.0, 90.0, 120.0]


def test_a_signal_at_a_bound_is_refused_and_starts_no_hold() -> None:
    """An up signal at the ceiling is refused; the next down signal is applied at once."""
    api = controller(2, hold=30)
    assert api.signal(UP, 0.0, 0).reason is Reason.AT_CEILING
    assert api.signal(DOWN, 0.0, 0).after == 1
    assert api.signal(DOWN, 0.0, 0).reason is Reason.AT_MINIMUM
    assert api.signal(DOWN, 30.0, 0).reason is Reason.AT_MINIMUM
    assert api.signal(UP, 30.0, 0).after == 2


def test_without_a_hold_every_signal_counts() -> None:
    """With ``hold=0`` many signals are applied at the same time."""
    api = controller(hold=0)
    assert [api.signal(DOWN, 1.0, 0).after for _ in range(5)] == [8, 6, 4, 2, 1]


def test_an_infinite_limit_comes_down_from_what_is_in_use() -> None:
    """An infinite limit goes up again step by step, without end."""
    api = controller(math.inf, hold=0)
    assert api.signal(UP, 0.0, 7).reason is Reason.AT_CEILING
    assert api.signal(DOWN, 0.0, 7).after == 5
    assert api.signal(UP, 0.0, 5).after == 6


# ---- by hand ----


def test_an_assignment_overrides_every_rule_and_starts_a_hold() -> None:
    """An assignment applies within a hold and below the minimum; signals then wait for its hold."""
    api = controller(hold=30, min=3)
    api.signal(DOWN, 0.0, 0)
    assert api.assign(1, 1.0) == Decision("api", 1.0, None, 8, 1, Reason.MANUAL)
    assert api.signal(UP, 30.0, 0).evidence["hold_left"] == 1.0
    assert api.signal(DOWN, 31.0, 0).reason is Reason.AT_MINIMUM
    assert api.signal(UP, 31.0, 0).after == 3


def test_an_assignment_above_the_ceiling_raises_it() -> None:
    """An assignment below the ceiling leaves it, so that signals can raise the limit again."""
    api = controller(hold=0)
    api.assign(20, 0.0)
    assert api.ceiling == 20
    api.assign(5, 0.0)
    assert api.ceiling == 20
    assert api.signal(UP, 0.0, 0).after == 6


# ---- pauses ----


def test_a_pause_is_a_limit_of_0_until_it_is_resumed() -> None:
    """Signals move the cap during the pause, and the limit resumes there."""
    api = controller(hold=0)
    assert api.pause(None, 1.0) == Decision(
        "api", 1.0, None, 10, 0, Reason.PAUSED, {"cap": 10, "until": math.inf}
    )
    assert api.next_tick == math.inf
    assert api.signal(DOWN, 2.0, 0) == Decision("api", 2.0, DOWN, 0, 0, Reason.SIGNAL, {"cap": 8})
    assert api.resume(3.0) == Decision("api", 3.0, None, 0, 8, Reason.RESUMED, {"cap": 8})


def test_resuming_what_is_not_paused_is_no_decision() -> None:
    """Resuming a limiter that is not paused returns ``None``."""
    assert controller().resume(0.0) is None


def test_a_pause_for_a_time_ends_by_itself() -> None:
    """`next_tick` is the end of the pause; the tick at that time resumes."""
    api = controller()
    api.pause(5, 10.0)
    assert api.next_tick == 15.0
    assert api.tick(14.9, 0, 0) is None
    assert api.tick(15.0, 0, 0) == Decision("api", 15.0, None, 0, 10, Reason.RESUMED, {"cap": 10})
    assert api.next_tick == math.inf


@pytest.mark.parametrize(
    ("first", "second", "ends"),
    [(10, 2, 10.0), (2, 10, 11.0), (None, 2, math.inf), (2, None, math.inf)],
)
def test_a_pause_is_never_shortened_by_another(
    first: float | None, second: float | None, ends: float
) -> None:
    """The later end of two pauses counts."""
    api = controller()
    api.pause(first, 0.0)
    assert api.pause(second, 1.0).evidence["until"] == ends
    assert api.resume_at == ends


def test_an_assignment_ends_a_pause() -> None:
    """An assignment ends a pause, and the limit is the new one at once."""
    api = controller()
    api.pause(None, 0.0)
    assert api.assign(4, 1.0).before == 0
    assert api.limit == 4
    assert api.resume(2.0) is None


def test_a_pause_neither_starts_nor_ends_a_hold() -> None:
    """Only signals and assignments start a hold."""
    api = controller(hold=30)
    api.pause(None, 0.0)
    api.resume(1.0)
    assert api.signal(DOWN, 2.0, 0).applied
    api.pause(None, 3.0)
    api.resume(4.0)
    assert api.signal(DOWN, 5.0, 0).reason is Reason.HOLDING


# ---- policies ----


@pytest.mark.parametrize(
    ("proposed", "limit"), [(99.0, 10), (10.0, 10), (7.9, 7), (2.0, 3), (0.2, 3), (-math.inf, 3)]
)
def test_a_policy_proposes_between_the_minimum_and_the_cap(proposed: float, limit: float) -> None:
    """Fractions are rounded down; a proposal out of bounds counts as the nearer bound."""
    if math.isfinite(proposed):
        assert controller(policy=Proposal(proposed), min=3).limit == limit
    assert controller(policy=Proposal(max(proposed, -1e9)), min=3).limit == limit


def test_a_policy_leaves_one_token_at_least_even_where_the_minimum_is_none() -> None:
    """With no token no call would finish, and the policy could not learn anything more."""
    assert controller(policy=Proposal(0.0), min=0).limit == 1


def test_no_policy_raises_a_limit_of_0_set_by_hand() -> None:
    """A cap of 0 is a limit of 0, whatever the policy proposes."""
    api = controller(policy=Proposal(0.5), min=0)
    api.assign(0, 0.0)
    assert api.tick(1.0, 0, 0) is None
    assert api.limit == 0


def test_a_policy_is_called_ten_times_a_second_with_the_state() -> None:
    """A tick that comes sooner does not call the policy."""
    policy = Proposal(5.0)
    api = controller(policy=policy)
    assert api.next_tick == -math.inf
    for now in (0.0, 0.5 * POLICY_TICK, POLICY_TICK, 1.5 * POLICY_TICK):
        api.tick(now, 4, 2)
    assert policy.ticks == [(0.0, 4, 2), (POLICY_TICK, 4, 2)]
    assert api.next_tick == 2 * POLICY_TICK == 0.2


def test_a_policy_that_moves_is_followed_with_its_evidence() -> None:
    """The decision gives the reason; without a move there is no decision."""
    policy = Proposal(5.0)
    api = controller(policy=policy)
    assert api.limit == 5
    assert api.tick(0.0, 0, 0) is None
    policy.limit = 6.5
    assert api.tick(1.0, 0, 0) == Decision(
        "api", 1.0, None, 5, 6, Reason.POLICY, {"cap": 10, "proposed": 6.5}
    )
    policy.limit = 6.9
    assert api.tick(2.0, 0, 0) is None


def test_signals_are_guard_rails_round_a_policy() -> None:
    """A down signal lowers the limit only once the cap falls below the proposal."""
    api = controller(policy=Proposal(7.0), hold=0)
    assert [api.signal(DOWN, 0.0, 0).after for _ in range(3)] == [7, 6, 4]
    assert api.cap == 4


def test_a_policy_is_called_while_paused_but_cannot_resume() -> None:
    """The policy learns that nothing runs; the limit stays 0 until the pause ends."""
    policy = Proposal(5.0)
    api = controller(policy=policy)
    api.pause(10, 0.0)
    assert api.tick(1.0, 0, 3) is None
    assert (api.limit, policy.ticks) == (0, [(1.0, 0, 3)])
    resumed = api.tick(10.0, 0, 3)
    assert resumed is not None
    assert (resumed.reason, resumed.after) == (Reason.RESUMED, 5)


@pytest.mark.parametrize("signal", Signal)
def test_a_refusal_changes_nothing_though_the_policy_has_moved(signal: Signal) -> None:
    """The move of the policy is a decision of its own, with its own reason."""
    policy = Proposal(8.0)
    api = controller(policy=policy, hold=30)
    api.signal(DOWN, 0.0, 0)
    policy.limit = 3.0
    refusal = api.signal(signal, 1.0, 0)
    assert refusal.reason is Reason.HOLDING
    assert refusal.before == refusal.after == 8
    moved = api.tick(1.0, 0, 0)
    assert moved is not None
    assert (moved.reason, moved.before, moved.after) == (Reason.POLICY, 8, 3)


# ---- named bounds ----


def test_the_cap_says_what_put_it_there() -> None:
    """The reason is first the ceiling, then a signal, then an assignment."""
    api = controller(hold=0)
    assert api.bounds == {"cap": Bound(10, {"reason": "ceiling"})}
    api.signal(DOWN, 1.0, 0)
    assert api.bounds["cap"] == Bound(8, {"reason": "signal", "signal": "down", "time": 1.0})
    api.signal(UP, 2.0, 0)
    api.signal(UP, 2.0, 0)
    api.signal(UP, 3.0, 0)  # refused, at the ceiling
    assert api.bounds["cap"] == Bound(10, {"reason": "signal", "signal": "up", "time": 2.0})
    api.assign(4, 4.0)
    assert api.bounds == {"cap": Bound(4, {"reason": "manual", "time": 4.0})}


def test_the_policy_is_a_bound_with_its_own_evidence() -> None:
    """The policy is a bound even while it proposes more than the cap."""
    policy = Proposal(7.5)
    api = controller(policy=policy)
    assert api.bounds["policy"] == Bound(7, {"reason": "initial"})
    policy.limit = 5.5
    api.tick(1.0, 0, 0)
    assert api.bounds["policy"] == Bound(5, {"proposed": 5.5})
    policy.limit = 99.5
    api.tick(2.0, 0, 0)
    policy.limit = 88.5
    assert api.tick(3.0, 0, 0) is None
    assert (api.limit, api.bounds["policy"]) == (10, Bound(88, {"proposed": 88.5}))


def test_a_policy_is_no_bound_after_an_assignment_until_it_is_consulted() -> None:
    """The assigned limit applies at once; then the policy moves below it again."""
    api = controller(policy=Proposal(5.0))
    api.assign(8, 0.0)
    assert (api.limit, list(api.bounds)) == (8, ["cap"])
    api.tick(0.1, 0, 0)
    assert (api.limit, list(api.bounds)) == (5, ["cap", "policy"])


def test_a_policy_in_shadow_mode_is_no_bound() -> None:
    """The proposals of a policy in shadow mode are only recorded."""
    api = LimitController("api", 10, Throttle(), Proposal(5.0), enforce=False)
    api.tick(0.0, 0, 0)
    assert api.bounds == {"cap": Bound(10, {"reason": "ceiling"})}


def test_a_pause_is_a_bound_of_0_that_says_when_it_ends() -> None:
    """A pause is a bound of 0, which is removed when the limiter is resumed."""
    api = controller()
    api.pause(5, 1.0)
    assert api.bounds["pause"] == Bound(0, {"reason": "paused", "until": 6.0})
    api.tick(6.0, 0, 0)
    assert "pause" not in api.bounds


def test_bounds_are_a_copy() -> None:
    """A later change of the limit does not change the bounds, and the caller cannot change them."""
    api = controller(hold=0)
    bounds = api.bounds
    api.signal(DOWN, 0.0, 0)
    assert bounds["cap"].tokens == 10
    with pytest.raises(TypeError):
        bounds["cap"] = Bound(1)  # type: ignore[index]


# ---- the rules against a model ----

Act: TypeAlias = tuple[str, object]

EIGHTHS: Final = st.integers(0, 400).map(lambda n: n / 8)
"""Times that floats add exactly, so the model can ignore rounding."""

TOKENS = st.integers(0, 12) | st.just(math.inf)

ACTS: st.SearchStrategy[list[Act]] = st.lists(
    st.one_of(
        st.tuples(st.just("signal"), st.sampled_from(Signal)),
        st.tuples(st.just("signal"), st.sampled_from(Signal)),
        st.tuples(st.just("wait"), EIGHTHS),
        st.tuples(st.just("use"), st.integers(0, 12)),
        st.tuples(st.just("assign"), TOKENS),
        st.tuples(st.just("pause"), EIGHTHS.filter(bool) | st.none()),
        st.tuples(st.just("resume"), st.none()),
    ),
    max_size=40,
)

RULES = st.builds(
    Throttle, up=st.integers(1, 5), down=st.integers(1, 5), min=st.integers(0, 6), hold=EIGHTHS
)


class Model:
    """The rules as one would explain them to an operator, independent of the implementation."""

    def __init__(self, rules: Throttle, ceiling: float) -> None:
        self.rules = rules
        self.highest = self.cap = ceiling
        self.changes: list[float] = []
        self.pauses: list[float] = []

    def limit(self, now: float) -> float:
        return 0 if any(end > now for end in self.pauses) else self.cap

    def holds(self, now: float) -> bool:
        return any(now - change < self.rules.hold for change in self.changes)

    def signal(self, signal: Signal, now: float, in_use: int) -> Reason:
        wanted = self.stepped_up() if signal is UP else self.stepped_down(in_use)
        if wanted == self.cap:
            return Reason.AT_CEILING if signal is UP else Reason.AT_MINIMUM
        if self.holds(now):
            return Reason.HOLDING
        self.cap = wanted
        self.changes.append(now)
        return Reason.SIGNAL

    def stepped_up(self) -> float:
        wanted = self.cap + self.rules.up
        if wanted < self.rules.min:
            return self.rules.min
        return min(wanted, self.highest)

    def stepped_down(self, in_use: int) -> float:
        wanted = (in_use if self.cap == math.inf else self.cap) - self.rules.down
        if wanted >= self.rules.min:
            return wanted
        return min(self.cap, self.rules.min)

    def assign(self, tokens: float, now: float) -> None:
        self.cap = tokens
        self.highest = max(self.highest, tokens)
        self.changes.append(now)
        self.pauses.clear()


@settings(deadline=None)
@given(rules=RULES, headroom=TOKENS, acts=ACTS)
def test_the_rules_against_a_plain_model(rules: Throttle, headroom: float, acts: list[Act]) -> None:
    """After any sequence of acts, the limit, reasons and bounds are those of the model."""
    model = Model(rules, rules.min + headroom)
    api = LimitController("api", rules.min + headroom, rules)
    now, in_use = 0.0, 0
    for act, value in acts:
        match act, value:
            case "wait", float(seconds):
                now += seconds
                if now >= api.next_tick:
                    api.tick(now, in_use, 0)
            case "use", int(tokens):
                in_use = tokens
            case "signal", Signal() as signal:
                before = model.limit(now)
                expected = model.signal(signal, now, in_use)
                decision = api.signal(signal, now, in_use)
                assert decision.reason is expected
                assert (decision.before, decision.after) == (before, model.limit(now))
            case "assign", int() | float() as tokens:
                model.assign(tokens, now)
                api.assign(tokens, now)
            case "pause", float() | None as seconds:
                model.pauses.append(math.inf if seconds is None else now + seconds)
                api.pause(seconds, now)
            case "resume", None:
                paused = any(end > now for end in model.pauses)
                model.pauses.clear()
                assert (api.resume(now) is not None) == paused
            case _:
                raise AssertionError(act)
        assert (api.limit, api.cap, api.ceiling) == (model.limit(now), model.cap, model.highest)
        assert api.limit == min(bound.tokens for bound in api.bounds.values())


@settings(deadline=None)
@given(
    rules=RULES,
    headroom=TOKENS,
    signals=st.lists(st.tuples(EIGHTHS, st.sampled_from(Signal), st.integers(0, 12))),
)
def test_signals_alone_keep_the_bounds_and_the_hold(
    rules: Throttle, headroom: float, signals: list[tuple[float, Signal, int]]
) -> None:
    """Without assignments the limit stays within bounds, and changes are a hold apart."""
    ceiling = rules.min + headroom
    api = LimitController("api", ceiling, rules)
    now, decisions = 0.0, []
    for seconds, signal, in_use in signals:
        now += seconds
        decisions.append(api.signal(signal, now, in_use))
        assert rules.min <= api.limit <= ceiling
    applied = [decision.time for decision in decisions if decision.applied]
    assert all(later - sooner >= rules.hold for sooner, later in pairwise(applied))
    # A refusal for the hold is only ever given within a hold of a change.
    for refusal in decisions:
        if refusal.reason is Reason.HOLDING:
            assert any(0 <= refusal.time - time < rules.hold for time in applied)
