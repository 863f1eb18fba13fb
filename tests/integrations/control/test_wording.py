"""How decisions are worded for people."""

from __future__ import annotations

import pytest

from trio_turnstile import Decision, Reason
from trio_turnstile.integrations.control._wording import sentence


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_has_words(reason: Reason) -> None:
    """For every reason an operator reads the old limit, the new limit and the cause."""
    text = sentence(Decision("api", 0.0, None, 4, 2, reason, by="ann", note="night"))
    assert text.endswith("(by ann): night")
