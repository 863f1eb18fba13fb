"""Helpers for tests of the command: run it, watch it, and make its commands wait.

Commands wait at a `Gate`. Tests wait for an arrival at the gate or for a line on standard
error, and never for time to pass.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile, gettempdir
from typing import Any

import attrs
import pytest

import trio_turnstile
from trio_turnstile.cli import main
from trio_turnstile.cli._launcher import Launcher
from trio_turnstile.cli._output import Stream

PATIENCE = 60.0
"""Seconds after which a test no longer waits for an event, and fails."""

FOLDER = gettempdir()
"""The folder for temporary files, even in a test that sets another for the command."""


@attrs.frozen
class Result:
    """The exit status and the output of a run."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Lines:
    """Text from a pipe or a terminal, read by a thread as it comes."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._text = ""
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        with suppress(OSError):  # a terminal ends with an error
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
    """A gate for commands: each writes its input to the gate and waits to be let through.

    `wait` is the shell code for that.
    """

    def __init__(self, folder: Path) -> None:
        self._here, self._through = (self._fifo(folder / name) for name in ("here", "through"))
        self.wait = f"echo {{}} >{folder}/here; read _ <{folder}/through"

    @staticmethod
    def _fifo(path: Path) -> int:
        os.mkfifo(path)
        return os.open(path, os.O_RDWR)  # both ends, so that neither waits for the other

    def arrivals(self, number: int) -> list[str]:
        """Wait until ``number`` more commands have come, and return their inputs, sorted."""
        names = b""
        while names.count(b"\n") < number:
            assert select.select([self._here], [], [], PATIENCE)[0], names
            names += os.read(self._here, 1)
        return sorted(names.decode().split("\n")[:-1])

    def let(self, number: int) -> None:
        """Let ``number`` commands through."""
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
    """Start with the signal handlers of a terminal, and undo what the command changes."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGCHLD", "SIGTSTP", "SIGUSR1", "SIGUSR2")
    signals = [getattr(signal, name) for name in names]
    before = {signum: signal.getsignal(signum) for signum in signals}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for control sockets; its path is short, as that of a socket has to be."""
    with TemporaryDirectory(dir=FOLDER, prefix="run-") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def log_entries(here: Path) -> Callable[[], list[list[str]]]:
    """Return the fields of the entries of the job log ``log``."""
    return lambda: [line.split("\t", 8) for line in (here / "log").read_text().splitlines()[1:]]


@pytest.fixture
def read_pipe() -> tuple[Lines, int]:
    """A pipe whose text is read as it comes, and its write end, which `call` closes."""
    read_end, write_end = os.pipe()
    return Lines(read_end), write_end


@pytest.fixture
def streams() -> Iterator[list[Stream]]:
    """Two streams, for standard output and standard error."""
    pair = [Stream(), Stream()]
    yield pair
    for stream in pair:
        stream.close_pipe()
        stream.close()


@pytest.fixture
def launcher() -> Iterator[Launcher]:
    """What starts commands."""
    launcher = Launcher(lambda _: None)
    yield launcher
    launcher.close()


@contextmanager
def _soft_limit(limited: int, soft: int) -> Iterator[None]:
    old = resource.getrlimit(limited)
    resource.setrlimit(limited, (soft, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(limited, old)


@pytest.fixture
def soft_limit() -> Callable[[int, int], AbstractContextManager[None]]:
    """Return a context manager that sets a soft limit on a resource of this process."""
    return _soft_limit


Operator = Callable[["Watch"], object]


@attrs.frozen
class Watch:
    """A run, as its operator sees it."""

    err: Lines
    """The standard error of the run; all that its terminal shows, if it has one."""
    pid: int
    keyboard: int = -1

    def signal(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def type(self, text: str) -> None:
        os.write(self.keyboard, text.encode())

    def wait_until(self, true: Callable[[], bool]) -> None:
        """Look again and again until it is true; for events that nothing announces."""
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline, self.err.so_far
            time.sleep(0.005)


@contextmanager
def _replaced(*replacements: tuple[int, int]) -> Iterator[None]:
    """Put other open files in the place of descriptors, and close the originals; -1 is none."""
    saved = [(fd, os.dup(fd)) for fd, _ in replacements]
    try:
        for fd, replacement in replacements:
            if replacement < 0:
                os.close(fd)
            else:
                os.dup2(replacement, fd)
        for replacement in {replacement for _, replacement in replacements} - {-1}:
            os.close(replacement)
        yield
    finally:
        for fd, copy in saved:
            os.dup2(copy, fd)
            os.close(copy)


@pytest.fixture
def replaced() -> Callable[..., AbstractContextManager[None]]:
    """Return a context manager that puts other open files in the place of descriptors."""
    return _replaced


@contextmanager
def _standard_streams(*replacements: int) -> Iterator[None]:
    """Put other open files in the place of 0, 1 and 2; `sys.stdout` and `sys.stderr` follow."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        stack.enter_context(_replaced(*enumerate(replacements)))
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
    """Run the command in this process.

    Args:
      stdin: the data of standard input, or a descriptor, which is closed; -1 for none.
      stdout: a descriptor for standard output, which is closed; ``None`` to return it.
      terminal: whether all three standard streams are a terminal.
      operator: runs beside the command, in a thread.
    """
    with TemporaryFile(dir=FOLDER) as out:
        from_err, to_err = open_terminal() if terminal else os.pipe()
        if terminal:
            stdin, stdout = os.dup(to_err), os.dup(to_err)
        watch = Watch(Lines(from_err), os.getpid(), from_err)
        thread = _Beside(partial(operator or (lambda _: None), watch), watch)
        stdin = stdin if isinstance(stdin, int) else piped(stdin)
        stdout = os.dup(out.fileno()) if stdout is None else stdout
        with _standard_streams(stdin, stdout, to_err), pytest.raises(SystemExit) as exit_info:
            thread.start()
            main(list(map(str, arguments)))
        thread.finish()
        out.seek(0)
        text = out.read().decode(errors="surrogateescape")
    assert isinstance(exit_info.value.code, int)
    return Result(exit_info.value.code, text, watch.err.all())


class _Beside(threading.Thread):
    """A thread; if it fails it cancels the run, and `finish` raises its exception."""

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
    """Return our end of a terminal and the command's, wide enough for the progress line."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    return ours, theirs


def piped(data: bytes) -> int:
    """Return the read end of a pipe that holds ``data``."""
    read_end, write_end = os.pipe()
    os.write(write_end, data)
    os.close(write_end)
    return read_end


class Spawned:
    """The command in a process of its own, where warnings are errors."""

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

    def ends_by(self, signum: int) -> int:
        """Send a signal again and again until the process ends, and return its exit status."""
        deadline = time.monotonic() + PATIENCE
        while self._process.poll() is None:
            assert time.monotonic() < deadline
            self._process.send_signal(signum)
            time.sleep(0.05)
        return self.finish().status

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

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
def spawn() -> Iterator[Callable[..., Spawned]]:
    """Start the command in processes of its own, of which none is left behind by a test."""
    started: list[Spawned] = []

    def start(*arguments: object, **more: Any) -> Spawned:
        started.append(Spawned(*arguments, **more))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture(name="call")
def _call() -> Callable[..., Result]:
    return call
