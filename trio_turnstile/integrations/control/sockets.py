"""Finds the sockets of running programs, and binds new ones. Standard library only.

Each program that serves its control API binds ``<process ID>.sock`` in a folder that belongs to
the user. Clients look there for sockets that answer.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

__all__ = [
    "bind_socket",
    "live_sockets",
    "make_socket_folder",
    "remove_dead_sockets",
    "socket_folder",
]

LONGEST_PATH = 107
"""How many bytes the path of a Unix socket may have on Linux; it is 103 on some systems."""

BACKLOG = 64


def socket_folder() -> Path:
    """Return the folder of this user's control sockets, whether it exists or not.

    It is ``turnstile`` in ``$XDG_RUNTIME_DIR``, or else ``turnstile-<user ID>`` in the folder for
    temporary files.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if Path(runtime).is_absolute():
        return Path(runtime, "turnstile")
    import tempfile  # only here, because importing it would slow down short commands

    return Path(tempfile.gettempdir(), f"turnstile-{os.getuid()}")


def make_socket_folder() -> Path:
    """Return the folder of this user's control sockets, and make it if it does not exist.

    Raises:
      PermissionError: if it exists and belongs to somebody else, or is not a folder.
    """
    folder = socket_folder()
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    _check_owner(folder)
    folder.chmod(0o700)
    return folder


def remove_dead_sockets(folder: Path) -> None:
    """Remove sockets that killed programs have left in our folder."""
    for path in folder.glob("*.sock"):
        if path.is_socket() and not _is_live(path):
            path.unlink(missing_ok=True)


def live_sockets() -> list[Path]:
    """Return the sockets of this user's programs that something listens on, sorted.

    Raises:
      PermissionError: if the folder belongs to somebody else, who may have put anything there.
    """
    folder = socket_folder()
    try:
        _check_owner(folder)
    except FileNotFoundError:
        return []
    return sorted(path for path in folder.glob("*.sock") if _is_live(path))


def bind_socket(path: Path) -> socket.socket:
    """Bind a listening socket that only its owner may connect to.

    A socket that a killed program has left at the path is replaced.

    Raises:
      FileExistsError: if the path exists and is not a socket.
      OSError: if another program listens there, or the path is too long.
    """
    length = len(os.fsencode(path))
    if length > LONGEST_PATH:
        raise OSError(
            errno.ENAMETOOLONG,
            f"the path of a socket may have {LONGEST_PATH} bytes, but this one has {length}; "
            "choose a shorter one",
            str(path),
        )
    _check_free(path)
    # A socket that is bound but does not listen yet looks like one that was left behind. So it
    # gets its name only when it listens. By then it also has the right mode; we do not set a
    # umask, because it would apply to the files of other threads too.
    import secrets  # late, as above

    temporary = path.with_name(f".{secrets.token_hex(4)}")
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(str(temporary))
        temporary.chmod(0o600)
        bound.listen(BACKLOG)
        temporary.rename(path)
    except BaseException:
        bound.close()
        temporary.unlink(missing_ok=True)
        raise
    bound.setblocking(False)
    return bound


# ---- inside ----


def _check_owner(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(
            errno.EPERM,
            f"this has to be a folder of user {os.getuid()}: remove it, or set XDG_RUNTIME_DIR",
            str(folder),
        )


def _check_free(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, "this exists and is not a socket", str(path))
    if _is_live(path):
        raise OSError(errno.EADDRINUSE, "another program listens on this socket", str(path))


def _is_live(path: Path) -> bool:
    """Whether a program listens on a socket, even if it is too busy to answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True
