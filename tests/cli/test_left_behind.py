"""What a run leaves behind: processes in the background, orphans, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def test_a_process_in_the_background_can_write_after_the_run(spawn: Any, here: Path) -> None:
    """SIGPIPE does not end it at its first output, and it can write more than a pipe holds."""
    os.mkfifo(here / "go")
    work = "(read _ <go; head -c 200000 /dev/zero; echo x >&2; touch late) & : {}"
    run = spawn("run", "-q", "--work", work, "--", "a")
    assert run.finish().status == 0
    (here / "go").write_text("\n")
    run.watch.wait_until((here / "late").exists)


def test_many_processes_in_the_background_can_write_while_the_run_goes_on(
    spawn: Any, here: Path
) -> None:
    """Their pipes do not use up our file descriptors; those of failed attempts are read too."""
    work = "(read _ <go; head -c 200000 /dev/zero; touch late-{}) & test $TURNSTILE_ATTEMPT = 2"
    os.mkfifo(here / "go")
    run = spawn("run", "-q", "-j9", "--retries", "1", "--work", work, "--", *range(30))
    assert run.finish().status == 0
    go = os.open(here / "go", os.O_RDWR)
    os.write(go, b"\n" * 60)
    run.watch.wait_until(lambda: len([*here.glob("late-*")]) == 30)
    os.close(go)


def test_sigquit_ends_the_commands_too(spawn: Any, gate: Any, here: Path) -> None:
    """Ctrl-backslash also kills the commands, which the key does not reach, and the run dies."""
    (here / "alive").touch()
    run = spawn("run", "-j3", "--work", f"exec 7<alive; {gate.wait}", "--", *"abc")
    gate.arrivals(3)
    run.watch.signal(signal.SIGQUIT)
    assert run.finish().status == -signal.SIGQUIT
    fuser = f"for p in /proc/[0-9]*/fd/7; do readlink $p; done | grep -c {here}/alive"
    run.watch.wait_until(lambda: subprocess.getoutput(fuser) == "0")


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are of Linux")
def test_the_first_process_of_a_container_reaps_orphans(spawn: Any, here: Path, gate: Any) -> None:
    """Orphans of commands do not stay zombies."""
    unshare = ["unshare", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("namespaces are not permitted here")
    count = "grep -sh '^State:.Z' /proc/[0-9]*/status | wc -l"
    work = "(exec sleep 0.01) & (exec sleep 0.02) & exit 0 # {#}"
    look = f"while [ $({count}) != 0 ]; do sleep 0.01; done; touch none"
    code = f"import os, sys; os.execvp('unshare', {unshare} + [sys.executable, *sys.argv[1:]])"
    run = spawn(
        *("-m", "trio_turnstile.cli", "run", "-q", "-j1", "--timeout", "20"),
        *("--work", work, "--cleanup", f"sleep 0.1; {look}", "--", "a"),
        options=("-c", code),
    )
    assert run.finish().status == 0
    assert (here / "none").exists()
