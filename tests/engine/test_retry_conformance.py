"""`retry` and its policies do what users of retry libraries (tenacity, stamina) rely on."""

from __future__ import annotations

import random
import statistics
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import attrs
import pytest
import trio
from trio.testing import MockClock

from trio_turnstile import Backoff, ConcurrentError, ErrorPolicy, Retry, RetryIn, Verdict, retry
from trio_turnstile.testing import no_backoff


@attrs.define(eq=False)
class Call:
    """An async callable that notes when it is called, and fails a given number of times."""

    failures: Sequence[BaseException]
    times: list[float] = attrs.field(factory=list)

    async def __call__(self, result: str = "done") -> str:
        self.times.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if len(self.times) <= len(self.failures):
            raise self.failures[len(self.times) - 1]
        return result

    @property
    def waits(self) -> list[float]:
        """The seconds between two attempts."""
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]


def errors(count: int, kind: type[Exception] = OSError) -> list[Exception]:
    return [kind(number) for number in range(1, count + 1)]


# ---- attempts ----


@pytest.mark.parametrize("times", [0, 1, 2, 5])
async def test_the_last_attempt_allowed_may_succeed(times: int) -> None:
    """As many failures as there are retries are made good, but one more is not."""
    call = Call(errors(times))
    with no_backoff():
        assert await retry(Retry(times), call) == "done"
    assert len(call.times) == times + 1
    call = Call(errors(times + 1))
    with no_backoff(), pytest.raises(OSError, match=str(times + 1)):
        await retry(Retry(times), call)
    assert len(call.times) == times + 1


async def test_without_a_bound_it_ends_with_success() -> None:
    """Without a bound, even hundreds of failures are not too many."""
    call = Call(errors(500))
    with no_backoff():
        assert await retry(Retry(None), call) == "done"
    assert len(call.times) == 501


async def test_one_policy_serves_many_calls(autojump_clock: MockClock) -> None:
    """A policy keeps no state: calls side by side or in sequence count their own attempts."""
    policy = Retry(2, backoff=lambda failures: 1.0)
    calls = [Call(errors(2)) for _ in range(3)]
    async with trio.open_nursery() as nursery:
        for call in calls:
            nursery.start_soon(retry, policy, call)
    assert [call.times for call in calls] == [[0, 1, 2]] * 3
    assert await retry(policy, Call(errors(2))) == "done"


@pytest.mark.parametrize(
    "function",
    [Call([OSError()]), Call([OSError()]).__call__, partial(Call([OSError()]))],
    ids=["object", "method", "partial"],
)
async def test_anything_that_can_be_called_and_awaited_will_do(
    function: Callable[[str], Awaitable[str]],
) -> None:
    """Any async callable gets the same arguments at each attempt."""
    with no_backoff():
        assert await retry(Retry(1), function, "result") == "result"


# ---- which errors ----


def says(text: str) -> Callable[[BaseException], bool]:
    return lambda error: text in str(error)


def caused_by(kind: type[BaseException]) -> Callable[[BaseException], bool]:
    return lambda error: isinstance(error.__cause__, kind)


def chained(cause: Exception) -> Exception:
    error = RuntimeError("wrapped")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("policy", "meant", "other"),
    [
        (Retry(9, on=OSError), ConnectionError(), ValueError()),
        (Retry(9, on=OSError | KeyError), KeyError(), ValueError()),
        (Retry(9, on=lambda error: not isinstance(error, OSError)), KeyError(), OSError()),
        (Retry(9, on=says("busy")), ValueError("busy now"), ValueError("gone")),
        (Retry(9, on=caused_by(OSError)), chained(OSError()), chained(ValueError())),
    ],
    ids=["class", "union", "all but", "message", "cause"],
)
async def test_it_tries_again_until_another_error_comes(
    policy: Retry, meant: Exception, other: Exception
) -> None:
    """The first error that is not meant comes out, even if attempts are left."""
    call = Call([meant, meant, other])
    with no_backoff(), pytest.raises(type(other)) as caught:
        await retry(policy, call)
    assert caught.value is other
    assert len(call.times) == 3


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_what_is_no_exception_ends_it_at_once(kind: type[BaseException]) -> None:
    """Even ``on=BaseException`` does not retry an exception that must end the program."""
    call = Call([kind()])
    with pytest.raises(kind):
        await retry(Retry(9, on=BaseException), call)
    assert len(call.times) == 1


async def test_each_error_can_have_bounds_of_its_own() -> None:
    """The first policy that concerns an error decides; all attempts count for each policy."""
    policies = [Retry(1, on=KeyError), Retry(3, on=OSError)]
    with no_backoff():
        assert await retry(policies, Call([KeyError(), OSError(), OSError()])) == "done"
        with pytest.raises(KeyError):
            await retry(policies, Call([OSError(), KeyError()]))


# ---- waits ----


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [
        (lambda n: 3.0, [3, 3, 3, 3]),
        (lambda n: 5.0 * n, [5, 10, 15, 20]),
        (lambda n: max(2.0, 2.0 ** (n - 1)), [2, 2, 4, 8]),
        (lambda n: (1.0, 2.0, 7.0)[min(n, 3) - 1], [1, 2, 7, 7]),
        (Backoff(1, 5, uniform=lambda low, high: high), [1, 2, 4, 5]),
        (Backoff(0, 5), [0, 0, 0, 0]),
    ],
    ids=["fixed", "longer each time", "at least", "chain", "doubling", "none"],
)
async def test_a_backoff_is_any_function_of_the_failures(
    autojump_clock: MockClock, backoff: Callable[[int], float], waits: list[float]
) -> None:
    """The back-off is waited for between attempts, not before the first or after the last."""
    call = Call(errors(4))
    await retry(Retry(9, backoff=backoff), call)
    assert call.waits == waits
    assert (call.times[0], trio.current_time()) == (0, sum(waits))


async def test_giving_up_takes_no_time(autojump_clock: MockClock) -> None:
    """The last error comes out without another wait."""
    with pytest.raises(OSError, match="3"):
        await retry(Retry(2, backoff=lambda failures: 10.0), Call(errors(3)))
    assert trio.current_time() == 20


async def test_a_policy_may_take_the_wait_from_the_error(autojump_clock: MockClock) -> None:
    """The verdict is carried out as it is, even if it is shorter than any back-off."""

    class AsTold:
        def decide(self, error: ConcurrentError, /) -> Verdict | None:
            return RetryIn(float(str(error.__cause__)))

    policy: ErrorPolicy = AsTold()
    call = Call([OSError("7"), OSError("0"), OSError("0.5")])
    await retry([policy, Retry(9)], call)
    assert call.waits == [7, 0, 0.5]


@pytest.mark.parametrize("failures", [1, 4, 9, 2000])
def test_jitter_is_spread_over_the_whole_wait(failures: int) -> None:
    """Callers that failed together come back evenly, from at once to after the longest wait."""
    most = min(60.0, 0.5 * 2.0 ** min(failures - 1, 20))
    backoff = Backoff(0.5, 60, uniform=random.Random(failures).uniform)
    waits = [backoff(failures) for _ in range(2000)]
    assert statistics.fmean(waits) == pytest.approx(most / 2, rel=0.1)
    quarters = [sum(wait // (most / 4) == quarter for wait in waits) for quarter in range(4)]
    assert min(quarters) > 400


def test_two_back_offs_are_not_in_step() -> None:
    """By default each call draws its own wait."""
    assert len({Backoff(1.0)(3) for _ in range(20)}) == 20


# ---- the error that comes out ----


async def test_the_error_keeps_what_it_was_raised_from() -> None:
    """An error keeps the causes from the user's code, and earlier attempts are not in its chain."""

    async def fail() -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise OSError("outer") from error

    with no_backoff(), pytest.raises(OSError, match="outer") as caught:
        await retry(Retry(3), fail)
    inner = caught.value.__cause__
    assert isinstance(inner, KeyError)
    assert inner.__cause__ is inner.__context__ is None


async def test_the_first_error_is_no_context_of_the_last() -> None:
    """Each attempt begins with no exception being handled."""
    first, last = OSError("first"), OSError("last")
    with no_backoff(), pytest.raises(OSError, match="last"):
        await retry(Retry(1), Call([first, last]))
    assert last.__context__ is None


async def test_one_error_may_be_raised_again_and_again() -> None:
    """A ready-made error of a module is retried like any other."""
    ready = OSError("ready-made")
    call = Call([ready, ready])
    with no_backoff():
        assert await retry(Retry(2), call) == "done"
