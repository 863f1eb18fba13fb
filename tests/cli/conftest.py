"""What tests of the command share: ways to run it, to watch it, and to make commands wait.

Commands wait at a `Gate`, and tests wait for what comes out of one or for a line on
standard error; nothing waits for time to pass.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import Any

import attrs
import pytest

import trio_turnstile
from trio_turnstile.cli import main

PATIENCE = 60.0
"""Seconds after which something that should happen is taken never to happen."""

FOLDER = gettempdir()
"""Where temporary files are, unless a test says otherwise."""


@attrs.frozen
class Result:
    """What a run left behind."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Lines:
    """What comes out of a pipe or a terminal, as it comes."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._text = ""
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        with suppress(OSError):  # what a terminal gives at its end
            while chunk := os.read(self._fd, 1 << 16):
                with self._news:
                    self._text += chunk.decode(errors="surrogateescape")
                    self._news.notify_all()
        os.close(self._fd)

    def wait_for(self, text: str, times: int = 1) -> None:
        with self._news:
            seen = self._news.wait_for(lambda: self._text.count(text) >= times, PATIENCE)
            assert seen, self._text

    @property
    def so_far(self) -> str:
        return self._text

    def all(self) -> str:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self._text


class Gate:
    """Where commands wait: each says who it is, and goes on when it is let through.

    In a command, `wait` stands for that.
    """

    def __init__(self, folder: Path) -> None:
        self._here, self._through = (self._fifo(folder / name) for name in ("here", "through"))
        self.wait = f"echo {{}} >{folder}/here; read _ <{folder}/through"

    @staticmethod
    def _fifo(path: Path) -> int:
        os.mkfifo(path)
        return os.open(path, os.O_RDWR)  # both ends, so that neither waits for the other

    def arrivals(self, number: int) -> list[str]:
        """Wait until so many more have come, and return who they are, sorted."""
        names = b""
        while names.count(b"\n") < number:
            assert select.select([self._here], [], [], PATIENCE)[0], names
            names += os.read(self._here, 1)
        return sorted(names.decode().split("\n")[:-1])

    def let(self, number: int) -> None:
        """Let so many go on."""
        os.write(self._through, b"\n" * number)

    def close(self) -> None:
        os.close(self._here)
        os.close(self._through)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    folder = tmp_path / "gate"
    folder.mkdir()
    gate = Gate(folder)
    yield gate
    gate.close()


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """The command takes over some signals for good, and starts with those of a terminal."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
    before = {signum: signal.getsignal(signum) for signum in signals}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


Operator = Callable[["Watch"], object]


@attrs.frozen
class Watch:
    """A run, as its operator sees it."""

    err: Lines
    """Its standard error; all of the terminal, if it has one."""
    pid: int
    keyboard: int = -1

    def signal(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def type(self, text: str) -> None:
        os.write(self.keyboard, text.encode())

    def wait_until(self, true: Callable[[], bool]) -> None:
        """Wait for what cannot be waited for but by looking again and again."""
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline, self.err.so_far
            time.sleep(0.005)


@contextmanager
def _descriptors(*replacements: int) -> Iterator[None]:
    """Put other open files in the place of 0, 1 and 2; Python's own streams follow."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for fd, saved in enumerate([os.dup(fd) for fd in (0, 1, 2)]):
            stack.callback(os.close, saved)
            stack.callback(os.dup2, saved, fd)
        for fd, replacement in enumerate(replacements):
            if replacement < 0:
                os.close(fd)
                continue
            os.dup2(replacement, fd)
            os.close(replacement)
        for fd, name in ((1, "stdout"), (2, "stderr")):
            stream = stack.enter_context(
                open(fd, "w", closefd=False, errors="backslashreplace", encoding="utf-8")
            )
            patch.setattr(sys, name, stream)
        yield


def call(
    *arguments: object,
    stdin: bytes | int = b"",
    stdout: int | None = None,
    terminal: bool = False,
    operator: Operator | None = None,
) -> Result:
    """Run the command in this process; ``operator`` runs beside it, in a thread.

    Args:
      stdin: what it reads; a descriptor is closed. With -1 standard input is closed.
      stdout: a descriptor for what it writes, which is closed; else that is returned.
      terminal: whether a terminal is in the place of all three.
    """
    with TemporaryFile(dir=FOLDER) as out:
        from_err, to_err = open_terminal() if terminal else os.pipe()
        if terminal:
            stdin, stdout = os.dup(to_err), os.dup(to_err)
        watch = Watch(Lines(from_err), os.getpid(), from_err)
        thread = _Beside(partial(operator or (lambda _: None), watch), watch)
        stdin = stdin if isinstance(stdin, int) else piped(stdin)
        stdout = os.dup(out.fileno()) if stdout is None else stdout
        with _descriptors(stdin, stdout, to_err), pytest.raises(SystemExit) as exit_info:
            thread.start()
            main(list(map(str, arguments)))
        thread.finish()
        out.seek(0)
        text = out.read().decode(errors="surrogateescape")
    assert isinstance(exit_info.value.code, int)
    return Result(exit_info.value.code, text, watch.err.all())


class _Beside(threading.Thread):
    """A thread whose failure ends the run, and is then raised."""

    def __init__(self, act: Callable[[], object], watch: Watch) -> None:
        super().__init__()
        self._act = act
        self._watch = watch
        self._failure: BaseException | None = None
        self._over = False

    def run(self) -> None:
        try:
            self._act()
        except BaseException as failure:
            self._failure = failure
            if self._over:
                return
            self._watch.signal(signal.SIGINT)
            self._watch.err.wait_for("SIGINT")
            self._watch.signal(signal.SIGINT)

    def finish(self) -> None:
        self._over = True
        self.join(2 * PATIENCE)
        if self._failure is not None:
            raise self._failure


def open_terminal() -> tuple[int, int]:
    """Return our end of a terminal and theirs, wide enough for a line."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    return ours, theirs


def piped(data: bytes) -> int:
    """Return the end of a pipe that ``data`` comes out of."""
    read_end, write_end = os.pipe()
    os.write(write_end, data)
    os.close(write_end)
    return read_end


class Spawned:
    """The command in a process of its own; a warning that nobody wanted is an error."""

    def __init__(
        self,
        *arguments: object,
        options: Sequence[str] = (),
        terminal: bool = False,
        **more: Any,
    ) -> None:
        from_err, to_err = open_terminal() if terminal else os.pipe()
        if terminal:
            more = {"stdin": to_err, "stdout": to_err, **more}
        package = Path(trio_turnstile.__file__).parent.parent
        more.setdefault("stdin", subprocess.DEVNULL)
        more.setdefault("stdout", subprocess.PIPE)
        self._process = subprocess.Popen(
            [sys.executable, *(options or ("-m", "trio_turnstile.cli")), *map(str, arguments)],
            stderr=more.pop("stderr", to_err),
            env={**os.environ, "PYTHONPATH": str(package), "PYTHONWARNINGS": "error"},
            **more,
        )
        os.close(to_err)
        self.watch = Watch(Lines(from_err), self._process.pid, from_err)

    def finish(self) -> Result:
        try:
            out, _ = self._process.communicate(timeout=PATIENCE)
        finally:
            self._process.kill()
        err = self.watch.err.all()
        assert "Traceback" not in err, err
        assert "Exception ignored" not in err, err
        return Result(self._process.returncode, (out or b"").decode(), err)


@pytest.fixture
def spawn() -> type[Spawned]:
    return Spawned


@pytest.fixture(name="call")
def _call() -> Callable[..., Result]:
    return call
