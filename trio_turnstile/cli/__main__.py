"""``python -m trio_turnstile.cli``."""

from __future__ import annotations

from . import main

main()
