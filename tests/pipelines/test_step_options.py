"""The options of a step are checked when the step is made."""

from __future__ import annotations

from typing import Any

import pytest

from trio_turnstile import Batch, Consumer, Processor


async def work(item: int) -> int:
    return item


@pytest.mark.parametrize("kind", [Processor, Consumer])
def test_an_unknown_option_is_refused_with_those_there_are(kind: Any) -> None:
    """A misspelt option is no option that is silently left out."""
    with pytest.raises(TypeError, match=r"has no option 'limit'; its options are: .*limiter"):
        kind(work, limit=3)


def test_a_processor_takes_no_batches() -> None:
    """Only a consumer does."""
    processor: Any = Processor
    with pytest.raises(TypeError, match="Processor has no option 'batch'"):
        processor(work, batch=Batch(3))
