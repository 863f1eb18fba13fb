"""When batches end, tested without an event loop."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_turnstile import Batch, BatchError
from trio_turnstile._pipelines.gathering import Gathered, Gatherer


@pytest.mark.parametrize(
    ("options", "error", "rule"),
    [
        (
            {},
            ValueError,
            "nothing bounds a batch: give size, within, until, or weight and max_weight",
        ),
        ({"key": len}, ValueError, "nothing bounds a batch"),
        ({"size": 0}, ValueError, "size must be at least 1, not 0"),
        ({"size": 2.0}, TypeError, "size must be an int, not 2.0"),
        ({"size": True}, TypeError, "size must be an int, not True"),
        ({"within": 0}, ValueError, "within must be more than 0 seconds, not 0"),
        ({"within": math.nan}, ValueError, "within must be more than 0 seconds, not nan"),
        ({"weight": len}, ValueError, "weight and max_weight must be given together"),
        ({"max_weight": 5}, ValueError, "weight and max_weight must be given together"),
        ({"weight": len, "max_weight": 0}, ValueError, "max_weight must be more than 0, not 0"),
        ({"weight": len, "max_weight": -1}, ValueError, "max_weight must be more than 0, not -1"),
        ({"weight": len, "max_weight": math.nan}, ValueError, "max_weight must be more than 0"),
        ({"weight": len, "max_weight": "5"}, TypeError, "max_weight must be a number, not '5'"),
    ],
)
def test_wrong_bounds_say_which_rule_they_break(
    options: dict[str, Any], error: type[Exception], rule: str
) -> None:
    """A batch needs a bound, and a bad bound is named in the error."""
    with pytest.raises(error, match=rule):
        Batch(**options)


def test_size_ends_a_batch() -> None:
    """The item that fills a batch ends it."""
    gatherer = Gatherer[str](Batch(2))
    assert gatherer.add("a", 0) == []
    assert gatherer.add("b", 0) == [Gathered(("a", "b"), "size")]
    assert len(gatherer) == 0


def test_weight_ends_a_batch() -> None:
    """An item that would make the batch too heavy begins a new one; it can end both."""
    gatherer = Gatherer[str](Batch(weight=len, max_weight=3))
    assert gatherer.add("a", 0) == []
    assert gatherer.add("bbb", 0) == [Gathered(("a",), "weight"), Gathered(("bbb",), "weight")]
    assert gatherer.add("c", 0) == []
    assert gatherer.add("dd", 0) == [Gathered(("c", "dd"), "weight")]
    assert gatherer.add("eeeee", 0) == [Gathered(("eeeee",), "weight")]


def test_age_is_that_of_the_oldest() -> None:
    """A batch is due a fixed time after its first item, whatever arrives later."""
    gatherer = Gatherer[str](Batch(within=2))
    assert gatherer.due == math.inf
    gatherer.add("a", 10)
    gatherer.add("b", 11.5)
    assert gatherer.due == 12
    assert gatherer.aged(11.9) == []
    assert gatherer.aged(12) == [Gathered(("a", "b"), "age")]
    assert gatherer.due == math.inf


def test_without_an_age_nothing_is_due() -> None:
    """A batch bounded by size alone is never due."""
    gatherer = Gatherer[str](Batch(2))
    gatherer.add("a", 0)
    assert gatherer.due == math.inf
    assert gatherer.aged(1e9) == []


def test_keys_age_apart() -> None:
    """The batch begun first is due first, and several may be due together."""
    gatherer = Gatherer[str](Batch(2, within=5, key=str.lower))
    gatherer.add("a", 0)
    gatherer.add("b", 1)
    gatherer.add("c", 2)
    assert gatherer.add("A", 3) == [Gathered(("a", "A"), "size")]
    assert gatherer.due == 6
    gatherer.add("a", 6)
    assert gatherer.aged(7) == [Gathered(("b",), "age"), Gathered(("c",), "age")]
    assert gatherer.due == 11


def test_flush_ends_all() -> None:
    """`flush` returns all batches, the oldest first."""
    gatherer = Gatherer[str](Batch(9, key=str.lower))
    for item in "abA":
        gatherer.add(item, 0)
    assert len(gatherer) == 3
    assert gatherer.flush() == [Gathered(("a", "A"), "flush"), Gathered(("b",), "flush")]
    assert gatherer.flush() == []


def test_an_item_whose_key_or_weight_fails_is_not_taken_in() -> None:
    """If a key or weight function raises, the batch stays unchanged."""
    for batch in (
        Batch(9, key=lambda item: 1 // item),
        Batch(weight=lambda i: 1 // i, max_weight=9),
    ):
        gatherer = Gatherer[int](batch)
        gatherer.add(1, 0)
        with pytest.raises(ZeroDivisionError):
            gatherer.add(0, 0)
        assert gatherer.flush() == [Gathered((1,), "flush")]


@given(
    items=st.lists(st.tuples(st.integers(0, 9), st.sampled_from([0, 0.3, 1, 2.5]))),
    size=st.none() | st.integers(1, 4),
    within=st.none() | st.just(2.0),
    max_weight=st.none() | st.integers(1, 20),
    keys=st.integers(0, 3),
)
def test_rules_of_any_batch(
    items: list[tuple[int, float]],
    size: int | None,
    within: float | None,
    max_weight: int | None,
    keys: int,
) -> None:
    """Every item comes out once, in order within its key, and batches keep their bounds."""
    if size is within is max_weight is None:
        size = 3
    weighs: dict[str, Any] = {}
    if max_weight is not None:
        weighs = {"weight": lambda entry: entry[0], "max_weight": max_weight}
    key = (lambda entry: entry[0] % keys) if keys else None
    gatherer = Gatherer[tuple[int, float, int]](Batch(size, within=within, key=key, **weighs))
    ended: list[tuple[float, Gathered[tuple[int, float, int]]]] = []
    now = 0.0
    for index, (value, gap) in enumerate(items):
        while (due := gatherer.due) <= now + gap:
            ended += [(due, batch) for batch in gatherer.aged(due)]
        now += gap
        ended += [(now, batch) for batch in gatherer.add((value, now, index), now)]
    ended += [(now, batch) for batch in gatherer.flush()]
    for at, batch in ended:
        assert batch.items
        assert size is None or len(batch.items) <= size
        assert batch.trigger != "size" or len(batch.items) == size
        age = at - batch.items[0][1]
        assert within is None or age <= within + 1e-9
        assert batch.trigger != "age" or age == pytest.approx(within)
        weight = sum(entry[0] for entry in batch.items)
        assert max_weight is None or weight <= max_weight or len(batch.items) == 1
        assert key is None or len(set(map(key, batch.items))) == 1
    out = [entry[2] for _, batch in ended for entry in batch.items]
    assert sorted(out) == list(range(len(items)))
    for part in range(keys or 1):
        mine = [i for i in out if not keys or items[i][0] % keys == part]
        assert mine == sorted(mine)


def test_batch_error_tells_which_members_failed() -> None:
    """`BatchError` keeps a copy of its errors, and shows them."""
    errors = {1: OSError("a")}
    error = BatchError(errors)
    errors.clear()
    assert list(error.errors) == [1]
    assert str(error) == "1 members of the batch failed: {1: OSError('a')}"
