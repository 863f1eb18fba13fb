"""`serve_control` and `open_control`: serve the control API of a turnstile, or mount it."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import attrs
import trio

from trio_turnstile import LiveRun, Turnstile

from ._access import LOOPBACK, Access
from ._bridge import Bridge
from ._rules import DEFAULT_RULES, Rule
from ._server import Listener, serve_in_thread
from .sockets import bind_socket, make_socket_folder, remove_dead_sockets

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from ._desk import Desk
    from ._past import HistoryReader

MakeApp = Callable[[], Any]
AsSeen = Callable[[LiveRun], LiveRun]


@final
@attrs.frozen
class Served:
    """Where the control API of a turnstile is served."""

    path: Path | None
    """The path of the Unix socket."""
    port: int | None
    """The port on the loopback device."""


@final
class Control:
    """The control API of a turnstile, which makes applications; `open_control` opens it."""

    def __init__(
        self,
        turnstile: Turnstile,
        rules: Sequence[Rule],
        as_seen: AsSeen | None,
        history: HistoryReader | None,
    ) -> None:
        from ._board import Board
        from ._charts import Charts
        from ._desk import Desk
        from ._feed import Feed
        from ._messages import Messages
        from ._past import Past

        board = Board(turnstile) if as_seen is None else Board(turnstile, as_seen)
        messages = Messages(turnstile, board, rules)
        charts = Charts(turnstile, None if history is None else Past(history))
        self._desk: Desk = Desk(turnstile, board, Feed(board), messages, charts)
        self._bridge = Bridge()

    def app(
        self, access: Access, *, page: ASGIApp | None = None, metrics: ASGIApp | None = None
    ) -> ASGIApp:
        """Return an ASGI application, for one listener.

        It may be mounted in an application that runs on asyncio, in any thread, or in the trio
        run of the turnstile.

        Args:
          access: what clients of that listener need.
          page: an ASGI application to serve at ``/`` and below, without a token.
          metrics: an ASGI application to serve at ``/metrics``.
        """
        from ._app import make_app

        return make_app(self._desk, self._bridge, access, page=page, metrics=metrics)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        try:
            with self._desk.turnstile.observe(self._desk.feed):
                yield
        finally:
            self._bridge.close()


@asynccontextmanager
async def open_control(
    turnstile: Turnstile,
    *,
    rules: Iterable[Rule] = DEFAULT_RULES,
    as_seen: AsSeen | None = None,
    history: HistoryReader | None = None,
) -> AsyncIterator[Control]:
    """Open the control API of a turnstile, to mount it in your own application.

    After the end of the block, or of the turnstile, the API answers all requests with 410.

    Args:
      turnstile: the turnstile to show and to steer.
      rules: what alerts do to its limiters. All rules that match an alert are applied.
      as_seen: returns an object to show, drain and cancel instead of a run, for a program that
        knows more about the run or ends it in another way; by default the run itself.
      history: reads the history of limiters that is no longer in memory, for example a
        `~trio_turnstile.integrations.statistics.RecordedHistory`. It is called in a thread.

    Raises:
      ImportError: if the extra ``control`` is not installed.
      trio.ClosedResourceError: if the turnstile has been closed.
    """
    check_installed()
    await trio.lowlevel.checkpoint()
    control = Control(turnstile, tuple(rules), as_seen, history)
    with control._listening():
        yield control


async def serve_control(
    turnstile: Turnstile,
    *,
    path: str | os.PathLike[str] | None = None,
    port: int | None = None,
    token: str | None = None,
    read_only: bool = False,
    rules: Iterable[Rule] = DEFAULT_RULES,
    page: MakeApp | None = None,
    metrics: MakeApp | None = None,
    as_seen: AsSeen | None = None,
    history: HistoryReader | None = None,
    task_status: trio.TaskStatus[Served] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the control API of a turnstile, until cancelled.

    Start it beside the work: ``served = await nursery.start(serve_control, turnstile)``. The API is
    served in its own thread, so that nothing that clients send can affect the work.

    Args:
      turnstile: the turnstile to show and to steer.
      path: the path of the Unix socket, where its owner needs no token. By default
        ``<process ID>.sock`` in the folder where ``turnstile ctl`` looks.
      port: a port on the loopback device, to serve the API there too; 0 picks a free port, and
        ``None`` means no port.
      token: the secret that each request at the port needs, to read and to change.
      read_only: whether clients can only read.
      rules: what alerts do to its limiters; see `open_control`.
      page: makes an ASGI application to serve at ``/`` and below, without a token. It is called
        in the thread.
      metrics: makes an ASGI application to serve at ``/metrics``, in the same way.
      as_seen: as for `open_control`.
      history: as for `open_control`.
      task_status: receives the `Served`.

    Raises:
      ImportError: if the extra ``control`` is not installed.
      ValueError: if there is a port and no token.
      OSError: if another program already listens there, or the path is too long.
      trio.ClosedResourceError: if the turnstile has been closed.

    Cancellation:
      Ends at once, whatever its clients do. Streams are told that it is over.
    """
    check_installed()
    if port is not None and not token:
        raise ValueError(
            "a port needs a token, because every user of the machine can reach it: "
            "token=secrets.token_urlsafe()"
        )
    opening = open_control(turnstile, rules=rules, as_seen=as_seen, history=history)
    async with opening as control:
        with ExitStack() as stack:
            own = _own_path() if path is None else Path(path)
            bound = bind_socket(own)
            stack.callback(_unlink, own, own.lstat().st_ino)
            stack.callback(bound.close)
            make = partial(_make_app, control, page, metrics)
            owner = Access(None, author=_user(), read_only=read_only)
            listeners = [Listener(bound, partial(make, owner))]
            if port is not None:
                listeners.append(_at_port(port, make, Access(token, LOOPBACK, "http", read_only)))
            ports = [each.socket.getsockname()[1] for each in listeners[1:]]
            task_status.started(Served(own, *(ports or [None])))
            await serve_in_thread(listeners, control._bridge.close)


def check_installed() -> None:
    """Raise unless the packages of the extra are installed; the thread imports them later."""
    for name in ("msgspec", "starlette", "uvicorn"):
        if find_spec(name) is None:
            raise ImportError(f"this needs {name}: pip install 'trio-turnstile[control]'")


# ---- inside ----


def _own_path() -> Path:
    folder = make_socket_folder()
    remove_dead_sockets(folder)
    return folder / f"{os.getpid()}.sock"


def _make_app(
    control: Control, page: MakeApp | None, metrics: MakeApp | None, access: Access
) -> Any:
    return control.app(
        access,
        page=None if page is None else page(),
        metrics=None if metrics is None else metrics(),
    )


def _at_port(port: int, make: Callable[[Access], Any], access: Access) -> Listener:
    bound = socket.create_server(("127.0.0.1", port))
    bound.setblocking(False)
    return Listener(bound, partial(make, access))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user ID without a name
        return str(os.getuid())


def _unlink(path: Path, inode: int) -> None:
    with suppress(FileNotFoundError):
        if path.lstat().st_ino == inode:
            path.unlink()
