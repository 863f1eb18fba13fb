"""``turnstile run``: shell commands for many inputs, under a limit that can be moved."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import Group, Parameter
from cyclopts.validators import Number

from trio_turnstile import Halt, Limiter, Phase, Throttle

from ._batch import Batch, Plan
from ._inputs import FileInputs, GivenInputs, Inputs
from ._joblog import JobLog
from ._options import Cmd, Seconds, UsageError, to_duration
from ._output import write_all
from ._template import Template
from ._units import Duration, parse_halt

_OPEN_FILES, _OPEN_FILES_EACH = 100, 8
"""How many open files a run needs at most, and how many more for each operation."""

_COMMANDS = Group("Commands", sort_key=1)
_INPUTS = Group("Inputs", sort_key=2)
_LIMIT = Group("Limit", sort_key=3)
_TROUBLE = Group("Trouble", sort_key=4)
_OUTPUT = Group("Output", sort_key=5)

_HALF_A_MINUTE, _FIVE_SECONDS = Duration(30), Duration(5)

_NONE_OR_MORE = Number(gte=0)
_ONE_OR_MORE = Number(gte=1)


def run(
    *inputs: Annotated[str, Parameter(group=_INPUTS)],
    work: Annotated[Cmd, Parameter(group=_COMMANDS)],
    prepare: Annotated[Cmd | None, Parameter(group=_COMMANDS)] = None,
    monitor: Annotated[Cmd | None, Parameter(group=_COMMANDS)] = None,
    cleanup: Annotated[Cmd | None, Parameter(group=_COMMANDS)] = None,
    arg_file: Annotated[
        Path | None,
        Parameter(name=["--arg-file", "-a"], allow_leading_hyphen=True, group=_INPUTS),
    ] = None,
    null: Annotated[bool, Parameter(name=["--null", "-0"], negative=(), group=_INPUTS)] = False,
    limit: Annotated[
        int, Parameter(name=["--limit", "-j"], validator=_ONE_OR_MORE, group=_LIMIT)
    ] = 4,
    max: Annotated[int | None, Parameter(validator=_ONE_OR_MORE, group=_LIMIT)] = None,
    min: Annotated[int, Parameter(validator=_NONE_OR_MORE, group=_LIMIT)] = 1,
    up: Annotated[int, Parameter(validator=_ONE_OR_MORE, group=_LIMIT)] = 1,
    down: Annotated[int, Parameter(validator=_ONE_OR_MORE, group=_LIMIT)] = 2,
    hold: Annotated[Seconds, Parameter(group=_LIMIT)] = _HALF_A_MINUTE,
    timeout: Annotated[
        Duration | None,
        Parameter(converter=to_duration, validator=Number(gt=0), group=_TROUBLE),
    ] = None,
    grace: Annotated[Seconds, Parameter(validator=Number(gt=0), group=_TROUBLE)] = _HALF_A_MINUTE,
    kill_after: Annotated[Seconds, Parameter(group=_TROUBLE)] = _FIVE_SECONDS,
    retries: Annotated[int, Parameter(validator=_NONE_OR_MORE, group=_TROUBLE)] = 0,
    halt: Annotated[str, Parameter(group=_TROUBLE)] = "never",
    joblog: Annotated[Path | None, Parameter(group=_OUTPUT)] = None,
    dry_run: Annotated[bool, Parameter(negative=(), group=_OUTPUT)] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative=(), group=_OUTPUT)] = False,
    rest: Annotated[Sequence[str] | None, Parameter(parse=False)] = None,
) -> int:
    """Run shell commands for many inputs, some at a time, never too many.

    For each input, /bin/sh runs the commands to prepare, work, monitor and clean up, as
    far as they are given. An exit status other than 0 fails the operation: its further
    commands are left out, but its clean-up runs in any case. Commands have nothing to
    read on standard input; what those of an operation write is printed when it has ended.

    In a command, {} stands for the input, {.} for the input without its extension, {/}
    for its base name, {//} for its directory, {/.} for its base name without the
    extension, and {#} for its number. They come quoted: write {}, not "{}". If --work
    has none of them, the input is put at its end. The environment has TURNSTILE_INPUT,
    TURNSTILE_SEQ, TURNSTILE_ATTEMPT and TURNSTILE_PHASE. An input that starts with a
    dash may look like an option: write gzip -k -- {}.

    While it runs, signals can be sent to it:

    - SIGUSR1 moves the limit one step up, SIGUSR2 one step down; as in pkill -USR2 turnstile.
    - The first Ctrl-C (SIGINT), SIGTERM or SIGHUP lets what runs finish, and begins
      nothing more. The second one ends what runs, by SIGTERM, and cleans up.

    The exit status is

    - 0 if every input was taken and completed;
    - else the number of failed operations, at most 101; inputs that cannot be read to
      their end count as one more;
    - if none failed, 128 and the number of the signal that ended the run before all was
      done: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP; or 141 if standard output
      took no more;
    - 2 also if nothing was run, because of a wrong option.

    For example:

        turnstile run --limit 8 --joblog gzip.log --work 'gzip -k -- {}' -- *.txt

    Args:
      inputs: What to run the commands for. Without any, and without --arg-file, they
        are read from standard input, one a line. Put them after -- if one of them may
        start with a dash, or if there may be none.
      work: The command that does the work.
      prepare: The command to get ready.
      monitor: The command that waits for work which was handed to somebody else; it
        still counts against the limit.
      cleanup: The command to tidy up. It runs once, after the last attempt, and does
        not count against the limit.
      arg_file: Read the inputs from this file, one a line; - is standard input.
      null: The inputs in the file end with NULs, as find -print0 writes them.
      limit: How many operations run at a time, at first.
      max: The most that SIGUSR1 may make of the limit. By default it is --limit: what
        was taken away can be given back.
      min: The least that SIGUSR2 may make of it; at 0 nothing more is begun.
      up: What a SIGUSR1 adds.
      down: What a SIGUSR2 takes away.
      hold: How long after a change signals are refused.
      timeout: How long prepare, work and monitor may each take.
      grace: How long a clean-up may take.
      kill_after: The time from a SIGTERM to a SIGKILL, where a command is ended.
      retries: How many times to try again what failed, from prepare on. What a failed
        attempt wrote is dropped if there is another one.
      halt: After how many failures to stop: soon,fail=3 begins nothing more, and
        now,fail=10% ends what runs as well.
      joblog: Append a line for each operation to this file, with the columns of GNU
        parallel: Seq, Host, Starttime, JobRuntime, Send, Receive, Exitval, Signal, Command.
      dry_run: Print the commands and run none.
      quiet: Do not tell how far the run has come.
      rest: What came after --.
    """
    texts: dict[Phase, str | None] = {
        "prepare": prepare,
        "work": work,
        "monitor": monitor,
        "cleanup": cleanup,
    }
    commands: Mapping[Phase, Template] = {
        phase: _template(phase, text) for phase, text in texts.items() if text is not None
    }
    given = None if rest is None and not inputs else (*inputs, *(rest or ()))
    source = _inputs(given, arg_file, null=null)
    if dry_run:
        return trio.run(_print_commands, commands, source)
    throttle = Throttle(up=up, down=down, min=min, hold=hold)
    log = None if joblog is None else _joblog(joblog)
    plan = Plan(
        inputs=source,
        commands=commands,
        limiter=_limiter(limit, limit if max is None else max, throttle),
        timeout=timeout,
        grace=grace,
        kill_after=kill_after,
        retries=retries,
        halt=_halt(halt),
        joblog=log,
        quiet=quiet,
    )
    with nullcontext() if log is None else closing(log):
        return trio.run(_run, plan)


async def _run(plan: Plan) -> int:
    return await Batch(plan).run()


def _template(phase: Phase, command: str) -> Template:
    try:
        # Only there: a clean-up such as rm -rf scratch must not be given the input.
        return Template.parse(command, append=phase == "work")
    except ValueError as error:
        raise UsageError(f"--{phase}: {error}") from None


def _inputs(given: Sequence[str] | None, path: Path | None, *, null: bool) -> Inputs:
    if given is not None and path is not None:
        raise UsageError("inputs come as arguments or from --arg-file, not from both")
    if given is not None:
        return GivenInputs(given)
    if path is None or str(path) == "-":
        if os.isatty(0):
            print("turnstile: reading inputs, one a line; Ctrl-D ends them", file=sys.stderr)
        return FileInputs(None, null=null)
    if not os.access(path, os.R_OK):
        raise UsageError(f"--arg-file: cannot read {str(path)!r}")
    return FileInputs(path, null=null)


def _limiter(limit: int, most: int, throttle: Throttle) -> Limiter:
    if not throttle.min <= limit <= most:
        raise UsageError(
            f"--limit must be from --min, {throttle.min}, to --max, {most}, not {limit}"
        )
    _allow_open_files(_OPEN_FILES + _OPEN_FILES_EACH * most)
    limiter = Limiter("run", most, throttle=throttle)
    limiter.total_tokens = limit  # before it runs, so that no hold comes of it
    return limiter


def _allow_open_files(number: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # what cannot start for want of one will say so
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _halt(rule: str) -> Halt | None:
    try:
        return parse_halt(rule)
    except ValueError as error:
        raise UsageError(f"--halt: {error}") from None


def _joblog(path: Path) -> JobLog:
    try:
        return JobLog(path)
    except OSError as error:
        raise UsageError(f"--joblog: {error}") from None


async def _print_commands(commands: Mapping[Phase, Template], inputs: Inputs) -> int:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inputs.read)
        status = await _print_each(commands, inputs)
        nursery.cancel_scope.cancel()
    return status


async def _print_each(commands: Mapping[Phase, Template], inputs: Inputs) -> int:
    try:
        async for text in inputs:
            lines = [template.fill(text, inputs.taken) for template in commands.values()]
            write_all(1, os.fsencode("\n".join(lines) + "\n"))
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except (OSError, ValueError) as error:
        print(f"turnstile: the inputs could not be read on: {error}", file=sys.stderr)
        return 1
    return 0
