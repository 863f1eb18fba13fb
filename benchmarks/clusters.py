"""Ours and other clients of Slurm, side by side: which of them report correctly how jobs ended?

``python -m benchmarks.clusters`` starts a Slurm, as root on Debian, with the script of the tests.
All clients submit the same jobs to it at the same time: some that end in several ways, and some
that run while the controller is stopped for 45 seconds, or ``OUTAGE``, and started again. A client
that is not installed is left out: ``pip install psij-python submitit``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import trio

from trio_turnstile.clusters import JobSpec, SlurmEngine, open_cluster

SLURM = Path(__file__).parents[1] / "tests" / "clusters" / "engines" / "slurm.sh"

STATUSES = (0, 3, 99, 143, 255)
SIGNALS = (signal.SIGKILL, signal.SIGTERM)
ENDS = [f"exit {n}" for n in STATUSES] + [f"kill -{n.value} $$" for n in SIGNALS]
OUTAGE = int(os.environ.get("OUTAGE", "45"))
PATIENCE = OUTAGE + 250
THROUGH_OUTAGE = [f"sleep {OUTAGE + 25 + n}; exit {n % 4}" for n in range(20)]

Told = list[str]
"""For each job ``exit N``, ``signal N``, ``completed``, ``failed`` or ``nothing``."""


def ours(scripts: Sequence[str], folder: str) -> Told:
    told = ["nothing"] * len(scripts)

    async def one(index: int) -> None:
        result = await (await cluster.submit(JobSpec(scripts[index]))).wait()
        told[index] = (
            f"exit {result.exit_status}" if result.signal is None else f"signal {result.signal}"
        )

    async def main() -> None:
        nonlocal cluster
        with trio.move_on_after(PATIENCE):
            async with (
                open_cluster(SlurmEngine(), directory=folder) as cluster,
                trio.open_nursery() as nursery,
            ):
                for index in range(len(scripts)):
                    nursery.start_soon(one, index)

    cluster: Any = None
    trio.run(main)
    return told


def psij(scripts: Sequence[str], _folder: str) -> Told:
    from psij import Job, JobExecutor, JobState
    from psij import JobSpec as PsijSpec

    executor = JobExecutor.get_instance("slurm")
    jobs = [Job(PsijSpec(executable="/bin/sh", arguments=["-c", each])) for each in scripts]
    for job in jobs:
        executor.submit(job)
    until = time.monotonic() + PATIENCE
    told = []
    for job in jobs:
        status = job.wait(timedelta(seconds=max(until - time.monotonic(), 0.1)))
        if status is None:
            told.append("nothing")
        elif status.exit_code is not None:
            told.append(f"exit {status.exit_code}")
        else:
            told.append("completed" if status.state is JobState.COMPLETED else "failed")
    return told


def submitit(scripts: Sequence[str], folder: str) -> Told:
    from submitit import AutoExecutor
    from submitit.helpers import CommandFunction

    executor = AutoExecutor(folder=folder, cluster="slurm")
    executor.update_parameters(timeout_min=10)
    jobs = [executor.submit(CommandFunction(["/bin/sh", "-c", each])) for each in scripts]
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and not all(job.done() for job in jobs):
        time.sleep(1)
    return [_of_submitit(job) for job in jobs]


def _of_submitit(job: Any) -> str:
    if not job.done():
        return "nothing"
    return "completed" if job.exception() is None else "failed"


CLIENTS: dict[str, Callable[[Sequence[str], str], Told]] = {
    "trio_turnstile": ours,
    "psij": psij,
    "submitit": submitit,
}


def installed(name: str) -> bool:
    check = subprocess.run(
        [sys.executable, "-c", f"import {name}"], check=False, stderr=subprocess.DEVNULL
    )
    return not check.returncode


def run_clients(scripts: Sequence[str], meanwhile: Callable[[], None]) -> dict[str, Told]:
    """Make each client submit the jobs and report how they ended."""
    processes = {
        name: subprocess.Popen(
            [sys.executable, "-m", __spec__.name, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in CLIENTS
        if installed(name)
    }
    for process in processes.values():
        assert process.stdin is not None
        process.stdin.write(json.dumps(list(scripts)))
        process.stdin.close()
    meanwhile()
    told = {}
    for name, process in processes.items():
        process.stdin = None
        out, err = process.communicate()
        if process.returncode:
            print(f"{name} has ended with: {err.strip().splitlines()[-1]}")
        lines = out.splitlines()
        told[name] = json.loads(lines[-1]) if lines else ["nothing"] * len(scripts)
    return told


def be_client(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(CLIENTS[name](json.load(sys.stdin), folder)), flush=True)
        os._exit(0)  # some clients have threads that go on


def stop_for_a_while(prefix: Path) -> None:
    """Stop the controller for a while, once all jobs are running."""
    clients = sum(map(installed, CLIENTS))
    running = ["squeue", "-h", "--me", "-t", "running"]
    while True:
        listed = subprocess.run(running, check=True, capture_output=True).stdout.splitlines()
        if len(listed) == clients * len(THROUGH_OUTAGE):
            break
        time.sleep(1)
    os.kill(int((prefix / "run" / "slurmctld.pid").read_text()), signal.SIGTERM)
    time.sleep(OUTAGE)
    subprocess.run(["/usr/sbin/slurmctld"], check=True)


def show(ends: dict[str, Told], outage: dict[str, Told]) -> None:
    print(
        f"{'client':16}{'statuses':>10}{'signals':>10}{'success?':>10}{'outage':>10}  what it says"
    )
    for name, told in ends.items():
        statuses = sum(f"exit {n}" == told[i] for i, n in enumerate(STATUSES))
        signals = sum(f"signal {n.value}" in told for n in SIGNALS)
        success = sum(_success(word) is (i == 0) for i, word in enumerate(told))
        rightly = sum(_success(word) is (n % 4 == 0) for n, word in enumerate(outage[name]))
        figures = [
            f"{statuses} of {len(STATUSES)}",
            f"{signals} of {len(SIGNALS)}",
            f"{success} of {len(ENDS)}",
            f"{rightly} of {len(THROUGH_OUTAGE)}",
        ]
        print(f"{name:16}" + "".join(f"{figure:>10}" for figure in figures), told, outage[name])


def _success(word: str) -> bool | None:
    return None if word == "nothing" else word in ("completed", "exit 0")


def main() -> None:
    """Start a Slurm, run both cases, and print the table."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    prefix = Path(tempfile.mkdtemp(prefix="slurm-"))
    os.environ["SLURM_CONF"] = str(prefix / "etc" / "slurm.conf")
    subprocess.run([SLURM, "up", prefix, port], check=True)
    try:
        ends = run_clients(ENDS, lambda: None)
        outage = run_clients(THROUGH_OUTAGE, lambda: stop_for_a_while(prefix))
    finally:
        subprocess.run([SLURM, "down", prefix, port], check=False)
    show(ends, outage)


if __name__ == "__main__":
    be_client(sys.argv[1]) if sys.argv[1:] else main()
