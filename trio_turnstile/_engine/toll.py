"""`Toll`: what one item has to pay before it is begun."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import attrs

from trio_turnstile._limiting.budget import Spending
from trio_turnstile._limiting.meter import Need


@final
@attrs.define(eq=False)
class Toll:
    """What one item has to pay, and has paid."""

    needs: Mapping[str, Need] = {}
    error: Exception | None = None
    """Why the needs are not known."""
    spending: Spending | None = None
    """What is paid and not yet used."""
