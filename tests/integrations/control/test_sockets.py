"""Where control sockets are, and how they are bound."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from trio_turnstile.integrations.control.sockets import (
    bind_socket,
    live_sockets,
    make_socket_folder,
    remove_dead_sockets,
    socket_folder,
)


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime folder for the test alone."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def left_behind(path: Path) -> Path:
    """Leave a socket behind, as a killed program does."""
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        bound.listen(1)
    return path


def test_the_folder_is_in_the_runtime_folder(runtime: Path) -> None:
    """The folder is made on demand, for the user alone."""
    assert socket_folder() == runtime / "turnstile"
    assert not socket_folder().exists()
    assert make_socket_folder() == socket_folder()
    assert stat.S_IMODE(socket_folder().stat().st_mode) == 0o700


@pytest.mark.parametrize("value", [None, "", "relative"])
def test_the_folder_without_a_runtime_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str | None
) -> None:
    """The folder is among the temporary files, with the number of the user in its name."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if value is None:
        monkeypatch.delenv("XDG_RUNTIME_DIR")
    else:
        monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    assert socket_folder() == tmp_path / f"turnstile-{os.getuid()}"


def test_a_folder_that_others_can_enter_is_closed_to_them() -> None:
    """A folder that others could enter is closed to them, because it is ours."""
    socket_folder().mkdir(mode=0o755)
    make_socket_folder()
    assert stat.S_IMODE(socket_folder().stat().st_mode) == 0o700


def test_a_folder_that_is_not_ours_is_not_used(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of somebody else, or a link to anywhere, is not used or looked into."""
    socket_folder().symlink_to(runtime)
    for use in (make_socket_folder, live_sockets):
        with pytest.raises(PermissionError, match="has to be a folder of user"):
            use()
    socket_folder().unlink()
    make_socket_folder()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(PermissionError):
        live_sockets()


def test_live_sockets_are_those_at_which_somebody_listens() -> None:
    """Sockets that were left behind do not count, and neither do other files."""
    assert live_sockets() == []
    folder = make_socket_folder()
    left_behind(folder / "1.sock")
    (folder / "2.sock").write_text("")
    (folder / "3.txt").write_text("")
    with bind_socket(folder / "4.sock"):
        assert live_sockets() == [folder / "4.sock"]
    assert live_sockets() == []


def test_dead_sockets_are_removed() -> None:
    """Dead sockets are removed, and nothing else."""
    folder = make_socket_folder()
    left_behind(folder / "1.sock")
    (folder / "2.sock").write_text("")
    left_behind(folder / "3.txt")
    with bind_socket(folder / "4.sock"):
        remove_dead_sockets(folder)
        assert sorted(path.name for path in folder.iterdir()) == ["2.sock", "3.txt", "4.sock"]


def test_somebody_who_is_too_busy_to_accept_is_alive() -> None:
    """A full queue of connections is not a sign of death, and nobody waits for it."""
    path = make_socket_folder() / "1.sock"
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen(0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(5)]
        try:
            for client in waiting:
                client.setblocking(False)
                try:
                    client.connect(str(path))
                except BlockingIOError:
                    break
            assert live_sockets() == [path]
            with pytest.raises(OSError, match="another program listens"):
                bind_socket(path)
        finally:
            for client in waiting:
                client.close()


def test_its_owner_alone_may_connect(runtime: Path) -> None:
    """Only the owner may connect, whatever the umask is."""
    before = os.umask(0)
    try:
        with bind_socket(runtime / "a.sock"):
            assert stat.S_IMODE((runtime / "a.sock").stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert [path.name for path in runtime.iterdir()] == ["a.sock"]


def test_what_was_left_behind_is_replaced(runtime: Path) -> None:
    """A socket that was left behind is replaced, so a killed program can be started again."""
    path = left_behind(runtime / "a.sock")
    with bind_socket(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_another_program_is_not_pushed_aside(runtime: Path) -> None:
    """A second program at the same path is refused, and the first goes on."""
    with bind_socket(runtime / "a.sock") as first:
        with pytest.raises(OSError, match="another program listens on this socket"):
            bind_socket(runtime / "a.sock")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(runtime / "a.sock"))
            first.accept()[0].close()


def test_a_file_is_not_overwritten(runtime: Path) -> None:
    """A file that is not a socket is left alone."""
    (runtime / "a.sock").write_text("precious")
    with pytest.raises(FileExistsError, match="not a socket"):
        bind_socket(runtime / "a.sock")
    assert (runtime / "a.sock").read_text() == "precious"


def test_a_path_that_is_too_long(runtime: Path) -> None:
    """A path that is too long gets a clearer error than the system's own."""
    with pytest.raises(OSError, match=r"may have 107 bytes, but this one has \d+; choose"):
        bind_socket(runtime / ("x" * 110))


def test_a_folder_that_is_not_there(runtime: Path) -> None:
    """A missing folder is an error that leaves nothing behind."""
    with pytest.raises(FileNotFoundError):
        bind_socket(runtime / "no" / "a.sock")
    assert list(runtime.iterdir()) == []


def test_looking_for_sockets_imports_nothing_else() -> None:
    """A command that talks to a program imports little, so that it starts quickly."""
    code = (
        "import sys; import trio_turnstile.integrations.control.sockets; "
        "print({'asyncio', 'trio', 'starlette', 'msgspec', 'uvicorn'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"
