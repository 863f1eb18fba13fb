"""`LimitMemory`: the limit that a policy finds in one run is a hint in the next."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_turnstile import Limiter, LimitMemory, LimitPolicy, open_turnstile
from trio_turnstile.limits import KneeLimit, Sample


class Finds(LimitPolicy):
    """A policy that has found a limit."""

    def __init__(self, limit: float) -> None:
        self.limit_found = limit

    @property
    def limit(self) -> float:
        """The limit that it has found."""
        return self.limit_found

    def on_finish(self, sample: Sample) -> None:
        """Learn nothing."""

    def why(self) -> Mapping[str, object]:
        """Return the reason."""
        return {"reason": "found"}


async def use(limiter: Limiter, seconds: float, workers: int = 8) -> None:
    """Use a service with a number of workers for a while, at more than it can take."""
    service = trio.CapacityLimiter(workers)

    async def call() -> None:
        while True:
            async with limiter, service:
                await trio.sleep(0.1)

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for _ in range(64):
                nursery.start_soon(call)


async def test_what_is_found_is_a_hint_in_the_next_run(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The file is written when the turnstile is left, and the policy starts near its limit."""
    path = tmp_path / "limits.json"
    memory = LimitMemory(path)
    assert memory.hint("api") is None
    async with open_turnstile() as turnstile:
        turnstile.watch(memory.watch)
        turnstile.limiter("plain", 3)
        turnstile.limiter("unused", 50, policy=KneeLimit(20))
        api = turnstile.limiter("api", 50, policy=KneeLimit(20))
        await use(api, 20)
    again = LimitMemory(path)
    found = again.hint("api")
    assert found is not None
    assert 7 <= found <= 14
    assert again.hint("plain") is again.hint("unused") is None
    assert KneeLimit(hint=found).limit == found // 2


async def test_it_is_written_now_and_then(tmp_path: Path, mock_clock: MockClock) -> None:
    """A run that is killed loses only what it found in the last seconds; other names stay."""
    path = tmp_path / "limits.json"
    path.write_text('{"limits": {"other": 5}}')
    policy = Finds(20)
    async with open_turnstile() as turnstile:
        turnstile.watch(LimitMemory(path, every=10).watch)
        turnstile.limiter("api", 50, policy=policy)
        policy.limit_found = 7
        for seconds in (1, 10):
            await wait_all_tasks_blocked()
            mock_clock.jump(seconds)
        with trio.fail_after(1000):
            while "api" not in path.read_text():
                await wait_all_tasks_blocked()
        assert json.loads(path.read_text()) == {"limits": {"other": 5, "api": 7}}


async def test_a_file_that_cannot_be_written_is_logged(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """If the file cannot be written, this is logged, and the run goes on."""
    memory = LimitMemory(tmp_path / "no folder" / "limits.json")
    async with open_turnstile() as turnstile:
        turnstile.watch(memory.watch)
        await trio.sleep(100)
    assert "the limits cannot be kept in" in caplog.text


@pytest.mark.parametrize("text", ["", "{", "[]", '{"limits": 3}', '{"limits": {"a": "7"}}', "\xff"])
def test_a_foreign_file_is_refused(text: str, tmp_path: Path) -> None:
    """A foreign file is refused, and stays as it is."""
    path = tmp_path / "mine.txt"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"mine\.txt holds no limits .* name another file"):
        LimitMemory(path)
    assert path.read_text(encoding="latin-1") == text
