"""The script round the user's script: it claims the job, and leaves word of how it ended.

The name of a job is a token, so the files of a job begin with it:

- ``TOKEN.claim``: the number of the job that has begun. It is made with ``noclobber``, so that of
  two jobs with one token only one goes on. The same job may begin again, if it is queued again.
- ``TOKEN.run``: the user's script.
- ``TOKEN.exit``: how it ended. It is written under a temporary name, then renamed, so that nobody
  reads a half of it.
- ``TOKEN.late``: that it was ended at its time limit, if the cluster has none.
- ``TOKEN.turn``: which run of the job is the last that began. A job whose node is lost is queued
  again, and its first run may still go on, where nobody reaches it. Only the last one leaves word.

The scripts of the tasks of an array are in one file, ``NAME.FIRST.tasks``, from which each task
takes its own.

A shell says 143 for a script that exits with 143 and for one that SIGTERM ended. ``awk`` tells
these apart: its ``system`` returns 256 and the number of the signal, or a fraction in old ones.
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
"""A file that is always in the directory: if it is not read, the directory cannot be read."""

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
    """Return the script to submit, round that of the job."""
    here = _HERE_DOCUMENT.format(mark=f"end of {token}", script=_executable(spec))
    base = shlex.quote(f"{directory}/{token}")
    return _wrap(engine, base, engine.job_id, here, spec)


def wrap_tasks(engine: ArrayEngine, directory: str, name: str, path: str, spec: JobSpec) -> str:
    """Return the script to submit for all tasks of an array, whose scripts are in a file."""
    take_out = _TAKE_OUT.format(mark=_mark(name), index=engine.task_index, path=shlex.quote(path))
    base = shlex.quote(f"{directory}/{name}.") + engine.task_index
    return _wrap(engine, base, engine.task_id, take_out, spec)


def write_tasks(path: str, name: str, specs: Mapping[int, JobSpec]) -> Command:
    """Return the command that writes the scripts of tasks to a file."""
    parts = [f"{_mark(name)}{index}\n{_executable(spec)}\n" for index, spec in specs.items()]
    program = 'cat >"$1.tmp" && mv -f "$1.tmp" "$1"'
    return Command(["sh", "-c", program, "sh", path], "".join(parts))


def _mark(name: str) -> str:
    """Return what stands before each script, and, being random, is no line of any."""
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
    """Return the command that reads what jobs have left, with one process for all."""
    names = [_HERE]
    for token in tokens:
        names += [f"{token}.claim", f"{token}.exit", f"{token}.late"]
    program = 'cd "$1" && shift && exec grep -s "" "$@" /dev/null'
    return Command(["sh", "-c", program, "sh", directory, *names])


@final
@attrs.frozen
class Left:
    """What a job has left in its files."""

    claim: str = ""
    """The number of the job that began; empty if none is known to have begun."""
    result: JobResult | None = None
    """How it ended; ``None`` if it has not written that."""


def parse_files(reply: Reply) -> Mapping[str, Left]:
    """Return what each token's files say; tokens without files are not in it.

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
    """Return the exit status or the signal of what ``system`` of an ``awk`` returns."""
    part, whole = math.modf(status)
    if part:  # old ones return the status of wait, divided by 256
        return None, round(part * 256) & 127
    if whole >= 256:  # 512 more or less tells of a core dump
        return None, int(whole) & 127
    return int(whole), None


def in_batches(items: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    """Cut a list into parts for one command each."""
    return [items[start : start + size] for start in range(0, len(items), size)]
