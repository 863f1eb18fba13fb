"""The control socket of a run: ``turnstile ctl`` and ``turnstile top`` reach the run by it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType

import trio

from trio_turnstile import Turnstile

from ._steered import SteeredRun
from ._threads import in_thread

_A_MOMENT = 0.3
"""Seconds after which a run is served: the first operations start sooner, and a run that is over
by then never imports what serves."""


async def serve(turnstile: Turnstile, run: SteeredRun, note: Callable[[str], object]) -> None:
    """Serve the control socket of a run until cancelled, if that can be done.

    Args:
      turnstile: what is steered.
      run: what is ended.
      note: shows a line to the user.
    """
    await trio.sleep(_A_MOMENT)
    control = await in_thread(_load)
    if control is None:
        return
    try:
        await control.serve_control(turnstile, as_seen=run.instead_of)
    except OSError as error:
        note(f"turnstile ctl cannot reach this run, as it has no control socket: {error}")


def _load() -> ModuleType | None:
    """Import what serves, which takes a while; ``None`` if the extra is not installed."""
    try:
        for name in ("asyncio", "msgspec"):  # else they were imported in the trio run
            import_module(name)
        from trio_turnstile.integrations import control

        assert control.serve_control
    except ImportError:
        return None
    return control
