"""``turnstile run``: the options for the output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]


# ---- order ----


@pytest.mark.parametrize("option", ["--keep-order", "-k"])
def test_outputs_can_come_in_the_order_of_the_inputs(
    option: str, call: Call, gate: Any, here: Path
) -> None:
    """With --keep-order the output of a slow operation comes before that of later ones."""
    work = f"case {{}} in a) {gate.wait};; esac; echo {{}}; echo err {{}} >&2; echo >>ended"
    inputs = ["a", *map(str, range(300))]

    def operate(watch: Any) -> None:
        gate.arrivals(1)
        ended = here / "ended"
        watch.wait_until(lambda: ended.exists() and ended.stat().st_size == 300)
        gate.let(1)

    result = call("run", option, "-j2", "--work", work, "--", *inputs, operator=operate)
    assert (result.status, result.lines) == (0, inputs)
    errors = [line for line in result.err.splitlines() if line.startswith("err ")]
    assert errors == [f"err {each}" for each in inputs]


def test_a_failed_operation_keeps_its_place(call: Call) -> None:
    """With --keep-order an operation without output or with an error holds nobody up."""
    work = "test {} != 2 && echo {}"
    result = call("run", "-k", "-j4", "--work", work, "--", "0", "2", "1", "3")
    assert (result.status, result.lines) == (1, ["0", "1", "3"])
