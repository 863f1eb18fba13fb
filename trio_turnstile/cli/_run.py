"""``turnstile run``: shell commands for many inputs, under a limit that can change."""

from __future__ import annotations

import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any

import trio
from cyclopts import Group, Parameter, Token
from cyclopts.validators import Number

from trio_turnstile import Halt, Limiter, Phase, Throttle

from ._arguments import UsageError
from ._columns import Columns
from ._cores import usable_cores
from ._dry_run import print_commands
from ._input_options import INPUTS, InputOptions
from ._options import OUTPUT, Cmd, Seconds, to_duration
from ._output_options import OutputOptions
from ._pace_options import PaceOptions
from ._plan import Plan
from ._rates import parse_limit
from ._record_options import RecordOptions
from ._run_plan import run_plan
from ._shells import find_shell
from ._template import Template
from ._term_seq import TermSeq
from ._units import Duration, Goal, parse_halt

_OPEN_FILES, _OPEN_FILES_EACH = 100, 10
"""How many open files a run needs itself, and how many it needs for each operation."""

_FEW_FILES, _FEW_FILES_EACH = 25, 5
"""The same if the output of the operations is short."""

_COMMANDS = Group("Commands", sort_key=1)
_LIMIT = Group("Limit", sort_key=3)
_FAILURES = Group("Failures", sort_key=4)

_HALF_A_MINUTE, _FIVE_SECONDS = Duration(30), Duration(5)

_DEFAULT_OUTPUT, _DEFAULT_PACE, _DEFAULT_RECORDS = OutputOptions(), PaceOptions(), RecordOptions()
_DEFAULTS = InputOptions()

_NONE_OR_MORE = Number(gte=0)
_ONE_OR_MORE = Number(gte=1)


def _to_limit(_: Any, tokens: Sequence[Token]) -> int:
    return parse_limit(tokens[0].value, usable_cores())


def run(
    *inputs: Annotated[str, Parameter(group=INPUTS)],
    work: Annotated[Cmd, Parameter(group=_COMMANDS)],
    prepare: Annotated[Cmd | None, Parameter(group=_COMMANDS)] = None,
    monitor: Annotated[Cmd | None, Parameter(group=_COMMANDS)] = None,
    cleanup: Annotated[Cmd | None, Parameter(group=_COMMANDS)] = None,
    shell: Annotated[str, Parameter(group=_COMMANDS)] = "/bin/sh",
    source: InputOptions = _DEFAULTS,
    limit: Annotated[
        int | None,
        Parameter(
            name=["--limit", "-j"],
            converter=_to_limit,
            allow_leading_hyphen=True,
            group=_LIMIT,
        ),
    ] = None,
    max: Annotated[int | None, Parameter(validator=_ONE_OR_MORE, group=_LIMIT)] = None,
    min: Annotated[int, Parameter(validator=_NONE_OR_MORE, group=_LIMIT)] = 1,
    up: Annotated[int, Parameter(validator=_ONE_OR_MORE, group=_LIMIT)] = 1,
    down: Annotated[int, Parameter(validator=_ONE_OR_MORE, group=_LIMIT)] = 2,
    hold: Annotated[Seconds, Parameter(group=_LIMIT)] = _HALF_A_MINUTE,
    timeout: Annotated[
        Duration | None,
        Parameter(converter=to_duration, validator=Number(gt=0), group=_FAILURES),
    ] = None,
    grace: Annotated[Seconds, Parameter(validator=Number(gt=0), group=_FAILURES)] = _HALF_A_MINUTE,
    kill_after: Annotated[Seconds, Parameter(group=_FAILURES)] = _FIVE_SECONDS,
    termseq: Annotated[str | None, Parameter(group=_FAILURES)] = None,
    retries: Annotated[int, Parameter(validator=_NONE_OR_MORE, group=_FAILURES)] = 0,
    halt: Annotated[str, Parameter(group=_FAILURES)] = "never",
    dry_run: Annotated[bool, Parameter(negative=(), group=OUTPUT)] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative=(), group=OUTPUT)] = False,
    pace: PaceOptions = _DEFAULT_PACE,
    output: OutputOptions = _DEFAULT_OUTPUT,
    records: RecordOptions = _DEFAULT_RECORDS,
    rest: Annotated[Sequence[str] | None, Parameter(parse=False)] = None,
) -> int:
    r"""Run shell commands for many inputs, several at a time, under a limit.

    For each input, a shell runs the commands that you give to prepare, work, monitor and
    clean up, one after the other. If a command exits with a status other than 0, the
    operation has failed: its later commands are skipped, except for the clean-up, which
    always runs. The standard input of the commands is empty. The output of an operation is
    printed when the operation has ended; what processes in the background write after that
    is dropped.

    A command can contain placeholders: {} is the input, {.} the input without its
    extension, {/} its base name, {//} its directory, {/.} its base name without the
    extension, and {#} the number of the operation. If inputs have columns, {2} is the second,
    {-1} the last, {2/} a base name, {name} the column of that name, and {} all of them, each a
    word of its own. {%} is the slot of the operation, the lowest free number from 1 to the
    limit: one GPU or port for each.

    Placeholders are quoted for you: write {}, not "{}". If --work contains none of them, the
    input is added at its end. A placeholder is refused where some shells would evaluate it in
    spite of quotes, as in let x={}. Commands also find the input in the environment, as
    TURNSTILE_INPUT, and its columns as TURNSTILE_INPUT_1 and so on, beside TURNSTILE_SEQ,
    TURNSTILE_ATTEMPT and TURNSTILE_PHASE; and TURNSTILE_SLOT, if a command mentions it. A
    program may take an input that starts with a dash for an option, so write for example
    gzip -k -- {}.

    You can send signals to the command while it runs:

    - SIGUSR1 raises the limit by one step and SIGUSR2 lowers it: pkill -USR2 turnstile.
    - The first Ctrl-C (SIGINT), SIGTERM or SIGHUP starts a graceful shutdown: running
      operations may finish, no others start, and nothing that failed is tried again. The
      second one cancels the running operations, ends their commands with SIGTERM, and runs
      their clean-ups. If one of these was ignored at the start, it stays ignored.
    - Ctrl-\ (SIGQUIT) kills the commands and ends the run at once, without clean-ups.

    The exit status is

    - 0 if every input was read and its operation completed, or if as many completed as
      --halt asks for with success=;
    - otherwise the number of failed operations, at most 101. If the inputs cannot be read
      to their end, or the job log or the ledger cannot be written, that counts as one more
      failure;
    - if none failed: 128 plus the number of the signal that stopped the run early (130 for
      SIGINT, 143 for SIGTERM, 129 for SIGHUP), or 141 if standard output was closed;
    - also 2 if an option was wrong and nothing was run.

    For example:

        turnstile run --limit 8 --joblog gzip.log --work 'gzip -k -- {}' -- *.txt

        turnstile run --work 'train --rate {1} --seed {2}' ::: 0.1 0.01 ::: 1 2 3

    Args:
      inputs: The inputs to run the commands for. Without inputs and without --arg-file,
        they are read from standard input, one per line. Options come before the inputs.
        Put -- between them if an input may start with a dash, as names of files may, or if
        there may be no input. Or write ::: A B ::: C D for all combinations; :::+ links a
        source to the one before. :::: and ::::+ name files of inputs instead.
      work: The command that does the work.
      prepare: The command that runs before --work.
      monitor: The command that waits for work that --work has handed over, for example to
        a cluster. Meanwhile the operation counts against the limit.
      cleanup: The command that cleans up. It runs once, after the last attempt, and does
        not count against the limit.
      shell: The shell that runs the commands: sh, bash, dash, ksh or mksh, or its path.
      source: How the inputs are read.
      limit: How many operations may run at a time, at the start. The default is the number
        of cores that may be used, within --min and --max. 50% is half of the cores, +1 one
        more than there are, -1 one less, and 0 as many as possible, at most 1000.
      max: The maximum to which SIGUSR1 can raise the limit. The default is --limit, so
        that SIGUSR1 only takes back what SIGUSR2 has done.
      min: The minimum to which SIGUSR2 can lower the limit. At 0 no operation starts; a
        graceful shutdown then gives up those that have not begun.
      up: By how much one SIGUSR1 raises the limit.
      down: By how much one SIGUSR2 lowers the limit.
      hold: How long after a change of the limit further signals to change it are refused.
      timeout: How long each command may take, except for the clean-up.
      grace: How long a clean-up may take.
      kill_after: The time between SIGTERM and SIGKILL when a command has to be ended.
      termseq: The signals to end a command with, and the milliseconds between them, in
        place of --kill-after: INT,200,TERM,1000,KILL. The last must be KILL.
      retries: How many times to retry a failed operation, starting again with --prepare.
        The output of a failed attempt is dropped if another one follows.
      halt: After how many failures to stop. soon,fail=3: after three failures start no more
        operations, and let the running ones finish. now,fail=10%: cancel the running ones
        too, once a tenth of those that ended, and at least three, have failed.
        now,success=1: stop once one has completed. soon,done=100: stop once 100 have ended.
      dry_run: Print the commands instead of running them. Control characters of inputs
        are written by printf, so that a terminal can show them.
      quiet: Do not show the progress and the final counts.
      pace: When operations may start.
      output: How to print the outputs.
      records: What is kept of the run.
      rest: The inputs from -- or ::: on.
    """
    output.check()
    texts: dict[Phase, str | None] = {
        "prepare": prepare,
        "work": work,
        "monitor": monitor,
        "cleanup": cleanup,
    }
    opened, columns = source.open(inputs, rest)
    commands: Mapping[Phase, Template] = {
        phase: _parse_command(phase, text, columns)
        for phase, text in texts.items()
        if text is not None
    }
    if dry_run:
        return trio.run(print_commands, commands, opened)
    rule = _parse_halt(halt)
    throttle = Throttle(up=up, down=down, min=min, hold=hold)
    plan = Plan(
        inputs=opened,
        columns=columns,
        commands=commands,
        shell=_find_shell(shell),
        limiter=_make_limiter(limit, max, throttle),
        timeout=timeout,
        grace=grace,
        term_seq=_make_term_seq(termseq, kill_after),
        retries=retries,
        halt=rule if isinstance(rule, Halt) else None,
        goal=rule if isinstance(rule, Goal) else None,
        quiet=quiet,
        output=output,
        pace=pace,
        keeping=records.make_keeping(texts),
        resumed=records.read_joblog(),
        joblog=records.open_joblog(),
    )
    pace.lower_priority()
    return trio.run(run_plan, plan)


def _find_shell(name: str) -> str:
    try:
        return find_shell(name)
    except ValueError as error:
        raise UsageError(f"--shell: {error}") from None


def _parse_command(phase: Phase, command: str, columns: Columns) -> Template:
    try:
        # Only for the work: a clean-up such as rm -rf scratch must not get the input.
        return Template.parse(command, columns, append=phase == "work")
    except ValueError as error:
        raise UsageError(f"--{phase}: {error}") from None


def _make_limiter(limit: int | None, maximum: int | None, throttle: Throttle) -> Limiter:
    if limit is None:
        cores = usable_cores() if maximum is None else min(usable_cores(), maximum)
        limit = max(cores, throttle.min)
    maximum = limit if maximum is None else maximum
    if not throttle.min <= limit <= maximum:
        raise UsageError(
            f"--limit must be from --min, {throttle.min}, to --max, {maximum}, not {limit}"
        )
    _allow_open_files(limit, maximum)
    limiter = Limiter("run", maximum, throttle=throttle)
    limiter.total_tokens = limit  # not in a turnstile yet, so that no hold begins
    return limiter


def _allow_open_files(limit: int, maximum: int) -> None:
    number = _OPEN_FILES + _OPEN_FILES_EACH * maximum
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # then fewer run at a time
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _FEW_FILES + _FEW_FILES_EACH * limit
    if allowed != resource.RLIM_INFINITY and allowed < needed:
        print(
            f"turnstile: --limit {limit} takes at least {needed} open files, but only {allowed} "
            "are allowed (see ulimit -n), so that fewer will run at a time",
            file=sys.stderr,
        )


def _make_term_seq(text: str | None, kill_after: float) -> TermSeq:
    if text is None:
        return TermSeq(((signal.SIGTERM, kill_after),))
    if kill_after != _FIVE_SECONDS:
        raise UsageError("--termseq and --kill-after do not go together: leave out one of the two")
    try:
        return TermSeq.parse(text)
    except ValueError as error:
        raise UsageError(f"--termseq: {error}") from None


def _parse_halt(rule: str) -> Halt | Goal | None:
    try:
        return parse_halt(rule)
    except ValueError as error:
        raise UsageError(f"--halt: {error}") from None
