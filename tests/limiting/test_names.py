"""`Names`: a name that is taken quickly gets the lowest number that is free."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_turnstile._limiting.names import Names

NAME = st.sampled_from(["a", "a-2", "a-3", "a-2-2", "a-02", "b", "-2", "", "a-\n", "a-9999999999"])


def add(names: Names[None], name: str) -> str:
    free = names.first_free(name)
    names.add(free, None)
    return free


@given(st.lists(st.tuples(st.just("add"), NAME) | st.tuples(st.just("discard"), st.integers(0))))
def test_it_is_the_first_free_name_of_a_plain_search(acts: list[tuple[str, Any]]) -> None:
    """The first free name is found after any additions and removals, even with numbers in names."""
    names = Names[None]()
    taken: list[str] = []
    for act, value in acts:
        if act == "add":
            expected, number = value, 1
            while expected in taken:
                number += 1
                expected = f"{value}-{number}"
            assert add(names, value) == expected
            taken.append(expected)
        elif taken:
            names.discard(taken.pop(value % len(taken)))
        assert list(names.taken) == taken


def test_the_names_of_things_that_are_gone_take_no_memory() -> None:
    """No numbers are remembered once all names are free again."""
    names: Names[None] = Names()
    for base in range(100):
        for name in [add(names, str(base)) for _ in range(5)]:
            names.discard(name)
    assert not any(vars(names).values())


def test_a_high_number_that_was_chosen_and_given_up_is_not_used_before_lower_ones() -> None:
    """``"a-50"`` is free, but ``"a-3"`` comes first."""
    names = Names[None]()
    assert [add(names, name) for name in ("a", "a", "a-50")] == ["a", "a-2", "a-50"]
    names.discard("a-50")
    assert add(names, "a") == "a-3"


def test_a_name_that_ends_in_very_many_digits_can_be_given_up() -> None:
    """Python refuses to convert so many digits to an int."""
    names = Names[None]()
    for name in ("a", "a", "a-" + "9" * 5000):
        add(names, name)
    names.discard("a-" + "9" * 5000)
    assert list(names.taken) == ["a", "a-2"]


def test_one_number_that_is_given_up_again_and_again_takes_no_memory() -> None:
    """Two requests at once use a number like this, if the second comes and goes."""
    names = Names[None]()
    for _ in range(10):
        add(names, "a")
    for _ in range(1000):
        names.discard("a-2")
        assert add(names, "a") == "a-2"
    assert sum(map(len, names._freed.values())) < 30
    assert add(names, "a") == "a-11"


@pytest.mark.parametrize("discard", [False, True])
def test_a_free_name_is_found_in_constant_time(discard: bool) -> None:
    """Four times as many things with one name run about four times as many lines."""
    assert lines_run(400, discard) < 4.5 * lines_run(100, discard)


def lines_run(things: int, discard: bool) -> int:
    """Count the lines that run while things with one name are added and low ones replaced."""
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        lines += event == "line" and frame.f_code.co_filename.endswith("names.py")
        return trace

    names = Names[None]()
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for _ in range(things):
            add(names, "api")
            if discard and len(names.taken) > 3:
                names.discard("api-2")
                names.discard("api-3")
                add(names, "api")
                add(names, "api")
    finally:
        sys.settrace(before)
    return lines
