"""The commands of a Slurm of one node, as a program: it runs jobs as processes of this machine.

It keeps its state in the folder of the program. Jobs begin only when a command is called.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(sys.argv[0]).parent


def option(name: str) -> str:
    return next((word.partition("=")[2] for word in sys.argv if word.startswith(f"--{name}=")), "")


def task_key(number: str, index: int) -> str:
    return f"{number}_{index}" if index else number


def sbatch(jobs: dict[str, Any]) -> None:
    number = str(len(jobs) + 1)
    tasks, _, most = option("array").partition("%")
    first, _, last = (tasks or "0-0").partition("-")
    (HERE / f"{number}.sh").write_text(sys.stdin.read())
    jobs[number] = {
        "name": option("job-name"),
        "arguments": sys.argv[1:],
        "most": 0 if "--hold" in sys.argv else int(most or 10**6),
        "out": option("output"),
        "err": option("error"),
        "tasks": {str(index): "PENDING" for index in range(int(first), int(last or first) + 1)},
    }
    print(number)


def squeue(jobs: dict[str, Any]) -> None:
    for number, job in jobs.items():
        for index, state in job["tasks"].items():
            ended = HERE / f"{task_key(number, int(index))}.status"
            status = int(ended.read_text()) if ended.exists() else 0
            print(f"{task_key(number, int(index)):24}{job['name']:24}{state:24}", end="")
            print(f"{status << 8:<12}{'None':40}{'N/A':24}{'N/A':24}{'n1':64}")


def scontrol(jobs: dict[str, Any]) -> None:
    with (HERE / "scontrol.log").open("a") as log:
        print(*sys.argv[1:], file=log)
    if sys.argv[1] == "show":
        print("MaxArraySize            = 1001")
        return
    most = int(option_of("arraytaskthrottle") or 0) or 10**6
    numbers = option_of("jobid") or sys.argv[2]
    for number in numbers.split(","):
        if sys.argv[1] != "release":
            jobs[number]["most"] = 0 if sys.argv[1] == "hold" else most


def option_of(name: str) -> str:
    found = re.search(rf"\b{name}=(\S+)", " ".join(sys.argv))
    return found[1] if found else ""


def scancel(jobs: dict[str, Any]) -> None:
    for word in sys.argv[2:]:
        number, _, ranges = word.partition("_")
        for part in (ranges.strip("[]") or "0").split(","):
            first, _, last = part.partition("-")
            for index in range(int(first), int(last or first) + 1):
                end(jobs[number]["tasks"], number, index)


def end(tasks: dict[str, str], number: str, index: int) -> None:
    pid = HERE / f"{task_key(number, index)}.pid"
    if tasks[str(index)] in ("PENDING", "RUNNING"):
        tasks[str(index)] = "CANCELLED"
        with suppress(OSError):
            os.killpg(int(pid.read_text()), signal.SIGTERM)


def advance(jobs: dict[str, Any]) -> None:
    for number, job in jobs.items():
        tasks = job["tasks"]
        for index, state in tasks.items():
            ended = HERE / f"{task_key(number, int(index))}.status"
            if state == "RUNNING" and ended.exists():
                tasks[index] = "FAILED" if int(ended.read_text()) else "COMPLETED"
        room = job["most"] - list(tasks.values()).count("RUNNING")
        for index in [each for each, state in tasks.items() if state == "PENDING"][: max(room, 0)]:
            tasks[index] = "RUNNING"
            begin(number, int(index), job)


def begin(number: str, index: int, job: dict[str, Any]) -> None:
    key = HERE / task_key(number, index)
    program = 'sh "$1"; echo $? >"$2.tmp"; mv "$2.tmp" "$2"'
    environment = {
        "SLURM_JOB_ID": number,
        "SLURM_ARRAY_JOB_ID": number,
        "SLURM_ARRAY_TASK_ID": str(index),
    }
    paths = [Path(job[each].replace("%a", str(index))) for each in ("out", "err")]
    with paths[0].open("w") as out, paths[1].open("w") as err:
        process = subprocess.Popen(
            ["sh", "-c", program, "sh", HERE / f"{number}.sh", f"{key}.status"],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    Path(f"{key}.pid").write_text(str(process.pid))
    process.returncode = 0  # it will soon be the child of another process


def main() -> None:
    known = HERE / "jobs.json"
    with (HERE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        jobs = json.loads(known.read_text()) if known.exists() else {}
        advance(jobs)
        globals()[Path(sys.argv[0]).name](jobs)
        advance(jobs)
        (HERE / "new").write_text(json.dumps(jobs))
        (HERE / "new").rename(known)


if __name__ == "__main__":
    main()
