"""What decisions say to people."""

from __future__ import annotations

import pytest

from trio_turnstile import Decision, Reason
from trio_turnstile.integrations.control._wording import sentence


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_has_words(reason: Reason) -> None:
    """Whatever moves a limit, an operator reads from what to what, and why."""
    text = sentence(Decision("api", 0.0, None, 4, 2, reason, by="ann", note="night"))
    assert text.endswith("(by ann): night")
