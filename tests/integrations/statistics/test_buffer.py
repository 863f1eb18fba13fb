"""Entries that wait to be stored: samples are dropped first, and dropped ones are counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trio_turnstile.integrations.statistics._buffer import Buffer

STEPS = st.lists(st.sampled_from(["sample", "event", "begin", "end"]), max_size=60)


@given(st.integers(1, 8), st.integers(1, 5), STEPS)
def test_each_entry_is_stored_or_counted_as_dropped(
    most: int, at_once: int, steps: list[str]
) -> None:
    """Whatever arrives while a portion is being written, the count loses nothing."""
    buffer = Buffer[int, int](most)
    came = {"sample": 0, "event": 0}
    stored: dict[str, list[int]] = {"sample": [], "event": []}
    shares = None
    for step in steps:
        if step == "sample":
            buffer.add_sample(came["sample"])
            came["sample"] += 1
        elif step == "event":
            buffer.add_event(came["event"])
            came["event"] += 1
        elif step == "begin" and shares is None:
            shares = buffer.samples.first(at_once), buffer.events.first(at_once)
        elif step == "end" and shares is not None:
            for kind, lane, share in zip(
                stored, (buffer.samples, buffer.events), shares, strict=True
            ):
                lane.settle(share)
                stored[kind] += share.entries
            shares = None
        assert len(buffer) <= most
    for kind, lane in (("sample", buffer.samples), ("event", buffer.events)):
        assert came[kind] == len(stored[kind]) + len(lane) + lane.dropped
        assert stored[kind] == sorted(set(stored[kind]))


def test_no_event_is_dropped_while_there_is_a_sample() -> None:
    """The oldest samples go first, then the oldest events."""
    buffer = Buffer[str, str](3)
    for number in range(3):
        buffer.add_sample(f"sample {number}")
    buffer.add_event("first")
    assert buffer.samples.first(9).entries == ("sample 1", "sample 2")
    for event in ("second", "third"):
        buffer.add_event(event)
    assert (buffer.samples.dropped, buffer.events.dropped) == (3, 0)
    buffer.add_event("fourth")
    assert buffer.events.first(9).entries == ("second", "third", "fourth")
    assert (buffer.samples.dropped, buffer.events.dropped) == (3, 1)
