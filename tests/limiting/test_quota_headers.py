"""`parse_rate_headers` and `Budget.observe_headers`: what services say about their quotas."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from trio_turnstile import Allowance, Budget, QuotaState, RateLimiter, parse_rate_headers

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def parsed(**headers: str) -> list[QuotaState]:
    """Return what the headers say; hyphens in their names are written as underscores here."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return list(parse_rate_headers(named, now=NOW).quotas)


def test_names_and_durations() -> None:
    """OpenAI, Azure, Groq and Mistral send these headers."""
    assert parsed(
        x_ratelimit_limit_requests="500",
        X_RateLimit_Remaining_Requests="499",
        x_ratelimit_reset_requests="120ms",
        x_ratelimit_limit_tokens="90000",
        x_ratelimit_remaining_tokens="88000",
        x_ratelimit_reset_tokens="6m0s",
        x_ratelimit_remaining_tokens_minute="12",
    ) == [
        QuotaState(name="requests", limit=500, remaining=499, reset_after=0.12),
        QuotaState(name="tokens", limit=90_000, remaining=88_000, reset_after=360),
        QuotaState(name="tokens_minute", remaining=12),
    ]


def test_names_and_times() -> None:
    """Anthropic sends these headers; a time that has passed counts as now."""
    assert parsed(
        anthropic_ratelimit_input_tokens_limit="50000",
        anthropic_ratelimit_input_tokens_remaining="49000",
        anthropic_ratelimit_input_tokens_reset="2026-01-01T00:00:10Z",
        anthropic_ratelimit_requests_reset="2025-12-31T23:00:00",
    ) == [
        QuotaState(name="input_tokens", limit=50_000, remaining=49_000, reset_after=10),
        QuotaState(name="requests", reset_after=0),
    ]


@pytest.mark.parametrize(
    ("names", "reset"),
    [
        ("X-RateLimit-{}", "1767225660"),
        ("x-rate-limit-{}", "1767225660"),
        ("RateLimit-{}", "60"),
    ],
)
def test_no_name(names: str, reset: str) -> None:
    """GitHub, others, and the first IETF drafts have these headers, which count anew."""
    values = {"Limit": "5000", "Remaining": "4", "Reset": reset}
    headers = {names.format(part): value for part, value in values.items()}
    (state,) = parse_rate_headers(headers, now=NOW).quotas
    assert state == QuotaState(limit=5000, remaining=4, reset_after=60, counts_anew=True)


def test_structured_fields() -> None:
    """In the IETF draft, policies have units and periods; without a policy, less is known."""
    assert parsed(
        RateLimit_Policy='"burst";q=100;w=60;pk=:cHJv:, "day";q=5000;w=86400;qu="content-bytes"',
        RateLimit='"burst";r=50;t=30, "day";r=6000;t=400, default;r=1',
    ) == [
        QuotaState(limit=100, remaining=50, reset_after=30, period=60, counts_anew=True),
        QuotaState(
            name="content_bytes", limit=5000, reset_after=400, period=86_400, counts_anew=True
        ),
        QuotaState(remaining=1, counts_anew=True),
    ]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "12"}, 12),
        ({"Retry-After": "Thu, 01 Jan 2026 00:00:30 GMT"}, 30),
        ({"retry-after": "2", "retry-after-ms": "1500"}, 1.5),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-1"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """The header holds seconds or a date; the one with milliseconds is more precise and wins."""
    assert parse_rate_headers(headers, now=NOW).retry_after == seconds


@pytest.mark.parametrize("limit", ["-1", "0"])
def test_a_limit_that_is_none_says_nothing(limit: str) -> None:
    """Some services send -1 or 0 for everything that they do not know."""
    assert not parsed(x_ratelimit_limit_tokens=limit, x_ratelimit_remaining_tokens="0")


@pytest.mark.parametrize("text", ["-1", "x", "", "1e3", "nan", "9" * 40, "91000"])
def test_nonsense_is_unknown(text: str) -> None:
    """A number that is negative, not a number, or more than the limit is ignored."""
    (state,) = parsed(x_ratelimit_limit_tokens="90000", x_ratelimit_remaining_tokens=text)
    assert state == QuotaState(name="tokens", limit=90_000)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1d2h3m4.5s", 93_784.5),
        ("1m30s", 90),
        ("250ms", 0.25),
        ("7", 7),
        ("", None),
        ("s", None),
        ("yesterday", None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    """A duration may have any unit, or be a plain number of seconds."""
    (state,) = parsed(x_ratelimit_reset_tokens=text)
    assert state.reset_after == seconds


def test_pairs_of_bytes() -> None:
    """Libraries below the HTTP clients give headers like this; a field may occur twice."""
    pairs = [(b"RateLimit", b'"a";r=5'), ("ratelimit", '"b";r=6')]
    assert [state.remaining for state in parse_rate_headers(pairs).quotas] == [5, 6]


TEXTS = st.text(st.characters(codec="ascii"), max_size=12) | st.sampled_from(
    ["-1", "0", "1", '"a";r=1', "6m0s", "1767225660", "2026-01-01T00:00:10Z"]
)
NAMES = st.sampled_from(
    [
        "x-ratelimit-limit-a",
        "x-ratelimit-remaining-a",
        "x-ratelimit-reset-a",
        "ratelimit",
        "ratelimit-policy",
        "x-ratelimit-reset",
        "anthropic-ratelimit-a-reset",
        "retry-after",
    ]
)


@given(st.dictionaries(NAMES, TEXTS))
def test_no_headers_raise(headers: dict[str, str]) -> None:
    """Whatever the headers hold, each value read is a number of 0 or more, or ``None``."""
    told = parse_rate_headers(headers, now=NOW)
    for state in told.quotas:
        for number in (state.limit, state.remaining, state.reset_after, state.period):
            assert number is None or number >= 0
    assert told.retry_after is None or told.retry_after >= 0


# ---- a budget follows them ----


def minutes(**amounts: float) -> Any:
    return {name: RateLimiter.per(amount, seconds=60) for name, amount in amounts.items()}


async def test_a_budget_knows_its_rates_by_name(autojump_clock: MockClock) -> None:
    """A name with a period means the rate without one; other names are ignored."""
    rates = minutes(requests=100, tokens=1000, input_tokens=500)
    budget = Budget(**rates, dollars=Allowance(5))
    budget.observe_headers(
        {
            "anthropic-ratelimit-input-tokens-remaining": "100",
            "x-ratelimit-remaining-tokens-minute": "200",
            "x-ratelimit-remaining-images": "0",
            "x-ratelimit-remaining-dollars": "0",
            "x-ratelimit-remaining": "7",
            "x-ratelimit-reset": "30",
        }
    )
    assert [rate.available for rate in rates.values()] == [7, 200, 100]
    await trio.sleep(29)
    assert rates["requests"].available == 7
    await trio.sleep(1)
    assert rates["requests"].available == 100


async def test_the_only_rate_has_what_has_no_name(autojump_clock: MockClock) -> None:
    """The period of a policy is compared with that of the rate; a reset alone says nothing."""
    rates = minutes(points=600)
    budget = Budget(**rates)
    budget.observe_headers({"RateLimit-Policy": "p;q=18000;w=3600", "RateLimit": "p;r=300"})
    assert rates["points"].available == 300
    await rates["points"].acquire(100)
    await trio.sleep(1)
    assert rates["points"].available == 205
    budget.observe_headers({"x-ratelimit-reset": "60"})
    assert rates["points"].available == 205
    Budget(a=Allowance(1)).observe_headers({"x-ratelimit-remaining": "0"})


async def test_retry_after_closes_a_budget_for_a_time(autojump_clock: MockClock) -> None:
    """A budget closes only if the service does not say what is left, and for a bounded time."""
    rates = minutes(requests=100, tokens=1000)
    budget = Budget(**rates, dollars=Allowance(1))
    budget.observe_headers({"x-ratelimit-remaining-tokens": "200", "Retry-After": "50"})
    assert rates["tokens"].available == 200
    budget.observe_headers({"Retry-After": "50"})
    async with budget.reserve(requests=1, tokens=10, dollars=0.1):
        assert trio.current_time() == 50
    budget.observe_headers({"Retry-After": "1000000000"}, longest=60)
    async with budget.reserve(requests=1):
        assert trio.current_time() == 110
