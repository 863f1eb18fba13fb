"""The options of a step are checked when the step is made."""

from __future__ import annotations

from typing import Any

import pytest

from trio_turnstile import Batch, Consumer, Processor


async def work(item: int) -> int:
    return item


@pytest.mark.parametrize("kind", [Processor, Consumer])
def test_an_unknown_option_is_refused_with_those_there_are(kind: Any) -> None:
    """A misspelt option is not silently ignored."""
    with pytest.raises(TypeError, match=r"has no option 'limit'; its options are: .*limiter"):
        kind(work, limit=3)


@pytest.mark.parametrize("kind", [Processor, Consumer])
@pytest.mark.parametrize("order", [{"ordered": True}, {"key": id}])
def test_batches_have_no_order(kind: Any, order: dict[str, Any]) -> None:
    """The members of a batch come from many places in the order."""
    with pytest.raises(ValueError, match="batches have no order"):
        kind(work, batch=Batch(3), **order)
