"""`run_phases` refuses bad arguments."""

from __future__ import annotations

from typing import Any

import pytest

from trio_turnstile import PhaseTimeouts, Scalable, run_phases


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"limiter": True}, TypeError, "limiter must be a Limiter.* not True"),
        ({"limiter": -1}, ValueError, "limiter must be at least 1, not -1"),
        ({"limiter": "4"}, TypeError, "a number of tokens, not '4'"),
        ({"limiter": 1, "prepare_limiter": 1.5}, TypeError, "prepare_limiter must be"),
        ({"limiter": 1, "cleanup_grace": -1}, ValueError, "cleanup_grace must be 0 or more"),
        ({"limiter": 1, "max_errors": 1.0}, TypeError, "max_errors must be an int"),
        ({"limiter": 1, "window": 0}, ValueError, "window must be at least 1, not 0"),
        ({"limiter": 1, "counting": "me"}, ValueError, "'runner' or 'phases', not 'me'"),
    ],
)
async def test_bad_arguments_are_named(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """A bad argument raises an error that names it, before anything is read from the source."""
    source = iter([Scalable()])
    with pytest.raises(error, match=message):
        await run_phases(source, **options)
    assert len(list(source)) == 1


async def test_bad_source_is_named() -> None:
    """A source that cannot be iterated is refused."""
    with pytest.raises(TypeError, match=r"a source must be an iterable.* not 7"):
        await run_phases(7, limiter=1)  # type: ignore[arg-type]


def test_bad_timeouts_are_named() -> None:
    """A timeout must be more than 0 seconds."""
    with pytest.raises(ValueError, match="work must be more than 0 seconds, not 0"):
        PhaseTimeouts(work=0)
