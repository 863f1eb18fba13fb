"""Mistakes are named where they are made, with the value, the rule and the way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from trio_turnstile import (
    Batch,
    Consumer,
    DeadLetter,
    Halt,
    Limiter,
    Processor,
    Producer,
    RateLimiter,
    Retry,
    Scalable,
    Skip,
    Throttle,
    run_phases,
)
from trio_turnstile.limits import KneeLimit


async def step(item: Any) -> Any:
    await trio.lowlevel.checkpoint()
    return item


def gives(item: Any) -> Any:
    yield item


any_consumer: Any = Consumer
any_processor: Any = Processor
any_limiter: Any = Limiter

WRONG: list[tuple[Callable[[], object], str]] = [
    (lambda: any_processor(step, rate=10), "rate must be a RateLimiter, such as RateLimiter(10)"),
    (lambda: any_consumer(step, batch=100), "batch must be a Batch, such as Batch(100), not 100"),
    (lambda: any_processor(step, key="account"), "key must be a function of an item, such as oper"),
    (lambda: any_processor(step, on_error="skip"), "on_error must be an error policy or several"),
    (lambda: any_processor(step, on_error=[Retry]), "[Retry(3), Skip()], not <class"),
    (lambda: any_processor(step, on_error=5), "not 5"),
    (lambda: any_processor(print), "a step must be an async function: <built-in function print>"),
    (lambda: any_processor(gives), "await trio.to_thread.run_sync"),
    (lambda: any_processor(Scalable), "did you mean Scalable(...)?"),
    (lambda: any_processor(step, limiter=0), "limiter must be at least 1, not 0"),
    (lambda: Retry(3, on="OSError"), "on must be an exception class, a tuple or union"),  # type: ignore[arg-type]
    (lambda: Skip(on=OSError()), "not OSError()"),  # type: ignore[arg-type]
    (lambda: Skip(on=()), "for example OSError, or OSError | TimeoutError"),
    (lambda: Skip(on=(OSError, "x")), "not (<class 'OSError'>, 'x')"),  # type: ignore[arg-type]
    (lambda: Skip(on=int), "not <class 'int'>"),  # type: ignore[arg-type]
    (lambda: Skip(on=[OSError]), "not [<class 'OSError'>]"),  # type: ignore[arg-type]
    (lambda: Skip(on=OSError | None), "not OSError | None"),  # type: ignore[arg-type]
    (lambda: Retry(3, backoff=1.0), "backoff must be a function of the number of failures"),  # type: ignore[arg-type]
    (lambda: Retry(3, budget=10), "budget must be a RetryBudget or None, not 10"),  # type: ignore[arg-type]
    (lambda: Halt("later", fail=3), "when must be 'soon' or 'now', not 'later'"),  # type: ignore[arg-type]
    (lambda: any_limiter("api", 3, overload=503), "overload must be an exception class"),
    (lambda: any_limiter("api", 3, policy=KneeLimit), "such as KneeLimit(), or None, not <class"),
    (lambda: any_limiter("api", 3, policy="knee"), "policy must be an adaptive policy"),
    (lambda: any_limiter("api", 3, throttle=5), "throttle must be a Throttle, such as Throttle("),
    (lambda: any_limiter("api", 3, max_waiting="no"), "max_waiting must be an int, not 'no'"),
]


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_mistake_is_named_where_it_is_made(make: Callable[[], object], message: str) -> None:
    """A mistake does not show only at the first error, in the middle of the night."""
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeouts": 10}, "timeouts must be a PhaseTimeouts, such as PhaseTimeouts(work=10)"),
        ({"rate": 10}, "rate must be a RateLimiter"),
        ({"on_error": "skip"}, "on_error must be an error policy"),
        ({"limiter": 0}, "limiter must be at least 1, not 0"),
    ],
)
async def test_mistakes_in_runs_of_phases_are_named(options: dict[str, Any], message: str) -> None:
    """Mistakes are named before an operation is read from the source."""
    arguments: dict[str, Any] = {"limiter": 1} | options
    with pytest.raises((TypeError, ValueError)) as caught:
        await run_phases([Scalable()], **arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize("on", [OSError | KeyError, (OSError, KeyError), lambda error: True])
async def test_errors_are_named_in_each_way_of_python(on: Any) -> None:
    """Errors may be named by a union, a tuple or a predicate."""

    async def fails(item: int) -> None:
        raise KeyError

    report = await (Producer([1, 2]) | Consumer(fails, on_error=Skip(on=on))).run()
    assert report.steps[0].failed == 2


async def test_one_policy_may_be_given_alone() -> None:
    """Steps and phases accept one policy alone."""

    async def fails(item: int) -> None:
        raise KeyError

    report = await (Producer([1, 2]) | Consumer(fails, on_error=Skip())).run()
    assert report.steps[0].failed == 2
    assert (await run_phases([Scalable()], limiter=1, on_error=Skip())).completed == 1


@pytest.mark.parametrize("weight", [None, "3", float("nan"), -1])
async def test_an_item_without_a_weight_fails_alone(weight: Any) -> None:
    """A weight is checked before anything changes, and the books balance."""
    stored: list[int] = []

    async def store(rows: list[tuple[int, Any]]) -> None:
        stored.extend(number for number, _ in rows)

    batch = Batch(5, weight=lambda row: row[1], max_weight=100)
    rows = [(1, weight), (2, 1), (3, weight), (4, 1)]
    report = await (Producer(rows) | Consumer(store, batch=batch, on_error=Skip())).run()
    (account,) = report.steps
    assert stored == [2, 4]
    assert (account.completed, account.failed, account.in_flight) == (2, 2, 0)


def test_attributes_that_do_nothing_are_refused() -> None:
    """Nobody would notice a limit that is assigned under a wrong name."""
    for thing, names in (
        (Limiter("api", 3), ["limit", "ceiling", "tokens", "policy", "name", "minimum"]),
        (RateLimiter(3), ["rate", "burst", "tokens"]),
        (Throttle(), ["hold", "minimum"]),
    ):
        for name in names:
            with pytest.raises(AttributeError):
                setattr(thing, name, 5)


def test_policies_and_batches_show_what_they_are() -> None:
    """The texts of policies and batches are made for logs and errors."""
    assert "Retry(times=3" in repr(Retry(3))
    assert repr(DeadLetter("dead.jsonl")).startswith("DeadLetter(sink=LetterFile('dead.jsonl')")
