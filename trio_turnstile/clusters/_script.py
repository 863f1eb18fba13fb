"""The wrapper around the user's script: it claims the job, and records how the script ended.

The name of a job is a token, and the names of its files begin with the token:

- ``TOKEN.claim``: the number of the job that has begun. It is made with ``noclobber``: if two jobs
  have the same token, only one goes on. The same job may begin again, if it is queued again.
- ``TOKEN.run``: the user's script.
- ``TOKEN.exit``: how it ended. It is written under a temporary name and then renamed, so nobody
  reads half of it.
- ``TOKEN.late``: a sign that it was ended at its time limit, if the cluster enforces none.
- ``TOKEN.turn``: the run of the job that began last. A job whose node is lost is queued again,
  and its first run may still go on, out of reach. Only the last run records how it ended.

The scripts of the tasks of an array are in one file, ``NAME.FIRST.tasks``, from which each task
takes its own.

A shell reports 143 both for a script that exits with 143 and for a script that SIGTERM ended.
``awk`` can distinguish these: its ``system`` returns 256 plus the number of the signal, or a
fraction in old versions.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar, final

import attrs

from ._engine import ArrayEngine, Command, Engine, Reply, Unreadable
from ._jobs import JobResult, JobSpec, JobState

T = TypeVar("T")

_HERE: Final = "here"
"""A file that is always in the directory: if it is missing, the directory cannot be read."""

_WRAPPER: Final = r"""#!/bin/sh
job={job_id}
base={base}
export base turn= reset=
(set -C; echo "$job" >"$base.claim") 2>/dev/null
if [ "$(cat "$base.claim")" != "$job" ]; then
    echo "another job has claimed $base, or it cannot be written" >&2
    exit 75
fi
began=$(date +%s)
turn=$(uname -n).$$.$began
echo "$turn" >"$base.turn"
is_last() {{
    [ "$(cat "$base.turn")" = "$turn" ]
}}
rm -f "$base.exit" "$base.late"
{script}
chmod +x "$base.run"
if env --default-signal=TERM,USR1,USR2 true 2>/dev/null; then
    # What warns the script must not end us before we know how the script has ended.
    trap '' TERM USR1 USR2
    reset='env --default-signal=TERM,USR1,USR2'
fi
{limit}
awk 'BEGIN {{
    status = system("exec $reset \"$base.run\"")
    print status >(ENVIRON["base"] "." ENVIRON["turn"])
}}' </dev/null
left=$base.$turn
status=$(cat "$left")
if [ -n "$status" ] && is_last; then
    echo "$status $began $(date +%s) $(uname -n)" >"$left"
    mv -f "$left" "$base.exit"
fi
rm -f "$left"
case ${{status:-1}} in
{reserved}    *.*) exit 1 ;;
esac
{clear}
if [ "${{status:-1}}" -gt 256 ]; then
    trap - TERM USR1 USR2
    ulimit -c 0
    kill -$((status % 256)) $$
    exit $((128 + status % 256))
fi
exit "${{status:-1}}"
"""

_LIMIT: Final = r"""(
    sleep {seconds}
    is_last && echo late >"$base.late"
    kill -TERM 0
    sleep 5
    kill -KILL 0
) &"""


_HERE_DOCUMENT: Final = """cat >"$base.run" <<'{mark}'
{script}
{mark}"""

_TAKE_OUT: Final = r"""scripts={path}
if ! awk -v mark={mark} -v begin={mark}{index} '
    found && index($0, mark) == 1 {{ exit }}
    found {{ print }}
    $0 == begin {{ found = 1 }}
    END {{ exit !found }}
' "$scripts" >"$base.run"; then
    echo "the script of $base cannot be read from $scripts" >&2
    exit 74
fi"""


def wrap(engine: Engine, directory: str, token: str, spec: JobSpec) -> str:
    """Return the script to submit, which wraps the script of the job."""
    here = _HERE_DOCUMENT.format(mark=f"end of {token}", script=_executable(spec))
    base = shlex.quote(f"{directory}/{token}")
    return _wrap(engine, base, engine.job_id, here, spec)


def wrap_tasks(engine: ArrayEngine, directory: str, name: str, path: str, spec: JobSpec) -> str:
    """Return the script to submit for an array, which wraps the scripts in a file of its tasks."""
    take_out = _TAKE_OUT.format(mark=_mark(name), index=engine.task_index, path=shlex.quote(path))
    base = shlex.quote(f"{directory}/{name}.") + engine.task_index
    return _wrap(engine, base, engine.task_id, take_out, spec)


def write_tasks(path: str, name: str, specs: Mapping[int, JobSpec]) -> Command:
    """Return the command that writes the scripts of tasks to a file."""
    parts = [f"{_mark(name)}{index}\n{_executable(spec)}\n" for index, spec in specs.items()]
    program = 'cat >"$1.tmp" && mv -f "$1.tmp" "$1"'
    return Command(["sh", "-c", program, "sh", path], "".join(parts))


def _mark(name: str) -> str:
    """Return the mark before each script; it is random, so it is not a line of a script."""
    return f"script-of-{name}."


def _executable(spec: JobSpec) -> str:
    return spec.script if spec.script.startswith("#!") else f"#!/bin/sh\n{spec.script}"


def _wrap(engine: Engine, base: str, job_id: str, script: str, spec: JobSpec) -> str:
    reserved = "|".join(map(str, sorted(engine.reserved)))
    limited = spec.seconds is not None and not engine.supervises
    return _WRAPPER.format(
        job_id=job_id,
        base=base,
        script=script,
        limit=_LIMIT.format(seconds=spec.seconds) if limited else "",
        reserved=f"    {reserved}) exit 1 ;;\n" if reserved else "",
        clear="" if engine.supervises else "kill -KILL 0",
    )


def make_directory(directory: str) -> Command:
    """Return the command that makes the directory for the files of jobs."""
    program = f'mkdir -p "$1" && echo {_HERE} >"$1/{_HERE}"'
    return Command(["sh", "-c", program, "sh", directory])


def read_files(directory: str, tokens: Sequence[str]) -> Command:
    """Return the command that reads the files of jobs, with one process for all."""
    names = [_HERE]
    for token in tokens:
        names += [f"{token}.claim", f"{token}.exit", f"{token}.late"]
    program = 'cd "$1" && shift && exec grep -s "" "$@" /dev/null'
    return Command(["sh", "-c", program, "sh", directory, *names])


@final
@attrs.frozen
class Left:
    """The contents of the files of a job."""

    claim: str = ""
    """The number of the job that began; empty if none is known to have begun."""
    result: JobResult | None = None
    """How it ended; ``None`` if that has not been written."""


def parse_files(reply: Reply) -> Mapping[str, Left]:
    """Return the contents of the files by token; tokens without files are left out.

    Raises:
      Unreadable: if the directory cannot be read.
    """
    found: dict[str, dict[str, str]] = {}
    for line in reply.out.splitlines():
        path, _, text = line.partition(":")
        token, _, kind = path.rpartition(".")
        found.setdefault(token, {})[kind] = text
    if _HERE not in found.pop("", {}):
        raise Unreadable(f"the directory of the jobs cannot be read: {reply.said}")
    return {token: _left(texts) for token, texts in found.items()}


def _left(texts: Mapping[str, str]) -> Left:
    result = _parse_exit(texts.get("exit", "").split())
    if "late" in texts:
        was = result or JobResult(state=JobState.TIMED_OUT)
        result = attrs.evolve(was, state=JobState.TIMED_OUT)
    return Left(texts.get("claim", ""), result)


def _parse_exit(words: Sequence[str]) -> JobResult | None:
    if len(words) != 4:
        return None
    exit_status, number = _ending(float(words[0]))
    return JobResult(
        state=JobState.COMPLETED if exit_status == 0 else JobState.FAILED,
        exit_status=exit_status,
        signal=number,
        started=float(words[1]),
        ended=float(words[2]),
        node=words[3],
    )


def _ending(status: float) -> tuple[int | None, int | None]:
    """Return the exit status or the signal from the value that ``system`` of ``awk`` returned."""
    part, whole = math.modf(status)
    if part:  # old versions return the status of wait, divided by 256
        return None, round(part * 256) & 127
    if whole >= 256:  # 256 plus the signal, or 512 plus the signal after a core dump
        return None, int(whole) & 127
    return int(whole), None


def in_batches(items: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    """Cut a list into parts for one command each."""
    return [items[start : start + size] for start in range(0, len(items), size)]
