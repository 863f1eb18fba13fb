"""The dashboard page of a run, and its control socket, for ``turnstile ctl`` and ``top``."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, final

import attrs
import trio

from trio_turnstile import Turnstile

from ._steered import SteeredRun
from ._threads import in_thread, lacks_thread

if TYPE_CHECKING:
    from trio_turnstile.integrations.control import HistoryReader, Served

_A_MOMENT = 0.3
"""Seconds before a run is served: so its first operations start sooner, and a run that is over by
then never imports the server."""

_UNREACHED = "turnstile ctl cannot reach this run, as it has no control socket"


async def serve(
    turnstile: Turnstile,
    run: SteeredRun,
    history: HistoryReader | None,
    note: Callable[[str], object],
    port: int | None,
) -> None:
    """Serve the control socket of a run until cancelled, if that can be done.

    Args:
      turnstile: the turnstile to steer.
      run: the run that can be ended.
      history: reads what was recorded earlier, if the run is recorded.
      note: shows a line to the user.
      port: the port to serve the page at, or ``None``. If the port is not available, the user
        is told, and the socket is served without the page.
    """
    await trio.sleep(_A_MOMENT)
    load = _load if port is None else partial(_load_with_page, port, note)
    try:
        serve_control = await in_thread(load)
        await serve_control(turnstile, as_seen=run.instead_of, history=history)
    except ImportError as error:  # the extra "control" is not installed
        if port is not None:
            note(f"there is no page at port {port}: {error}")
    except OSError as error:
        if port is None:
            note(f"{_UNREACHED}: {error}")
            return
        note(f"there is no page at port {port}: {error}")
        await serve(turnstile, run, history, note, None)
    except RuntimeError as error:
        if not lacks_thread(error):
            raise
        note(f"{_UNREACHED}: no thread could be started")


def _load() -> Callable[..., Awaitable[None]]:
    """Import the server, which takes a while."""
    for name in ("asyncio", "msgspec"):  # otherwise they would be imported in the trio run
        import_module(name)
    from trio_turnstile.integrations.control import serve_control

    return serve_control


def _load_with_page(port: int, note: Callable[[str], object]) -> Callable[..., Awaitable[None]]:
    """Import the server, and make it serve the page as well."""
    serve_control = _load()
    from trio_turnstile.integrations.dashboard import address, make_page

    token = secrets.token_urlsafe()

    def announce(served_at: int) -> None:
        note(f"dashboard: {address(served_at, token)}")

    return partial(
        serve_control, port=port, token=token, page=make_page, task_status=_Announcement(announce)
    )


@final
@attrs.frozen
class _Announcement:
    """Reports the port of the page as soon as it is served; a `trio.TaskStatus`."""

    _tell: Callable[[int], object]

    def started(self, served: Served) -> None:
        assert served.port is not None
        self._tell(served.port)
