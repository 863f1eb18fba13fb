"""The control socket of a run: ``turnstile ctl`` and ``turnstile top`` reach the run by it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module

import trio

from trio_turnstile import Turnstile

from ._steered import SteeredRun
from ._threads import in_thread, lacks_thread

_A_MOMENT = 0.3
"""Seconds after which a run is served: the first operations start sooner, and a run that is over
by then never imports what serves."""

_UNREACHED = "turnstile ctl cannot reach this run, as it has no control socket"


async def serve(turnstile: Turnstile, run: SteeredRun, note: Callable[[str], object]) -> None:
    """Serve the control socket of a run until cancelled, if that can be done.

    Args:
      turnstile: what is steered.
      run: what is ended.
      note: shows a line to the user.
    """
    await trio.sleep(_A_MOMENT)
    try:
        serve_control = await in_thread(_load)
        await serve_control(turnstile, as_seen=run.instead_of)
    except ImportError:
        return  # the extra "control" is not installed
    except OSError as error:
        note(f"{_UNREACHED}: {error}")
    except RuntimeError as error:
        if not lacks_thread(error):
            raise
        note(f"{_UNREACHED}: no thread could be started")


def _load() -> Callable[..., Awaitable[None]]:
    """Import what serves, which takes a while."""
    for name in ("asyncio", "msgspec"):  # else they were imported in the trio run
        import_module(name)
    from trio_turnstile.integrations.control import serve_control

    return serve_control
