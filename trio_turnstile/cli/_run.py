"""``turnstile run``: shell commands for many inputs, under a limit that can change."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import trio
from cyclopts import Group, Parameter, Token
from cyclopts.validators import Number

from trio_turnstile import Halt, Phase

from ._arguments import UsageError
from ._columns import Columns
from ._control_options import ControlOptions
from ._dry_run import print_commands
from ._durations import Duration, Multiple, parse_timeout
from ._engine_options import EngineOptions, check_site
from ._input_options import INPUTS, InputOptions
from ._limit_options import LimitOptions
from ._options import OUTPUT, Cmd, Seconds
from ._output_options import OutputOptions
from ._pace_options import PaceOptions
from ._pipe_options import PipeOptions
from ._plan import Plan
from ._queue import Queue
from ._record_options import RecordOptions
from ._run_plan import run_plan
from ._shells import find_shell
from ._template import Template
from ._term_seq import TermSeq
from ._units import Goal, parse_halt

_COMMANDS = Group("Commands", sort_key=1)
_FAILURES = Group("Failures", sort_key=4)

_HALF_A_MINUTE, _FIVE_SECONDS = Duration(30), Duration(5)

_DEFAULT_OUTPUT, _DEFAULT_PACE, _DEFAULT_RECORDS = OutputOptions(), PaceOptions(), RecordOptions()
_DEFAULTS, _DEFAULT_LIMITS, _DEFAULT_BLOCKS = InputOptions(), LimitOptions(), PipeOptions()
_DEFAULT_CONTROL = ControlOptions()

_LONGEST_TITLE = 60

_DEFAULT_ENGINE = EngineOptions()

_NONE_OR_MORE = Number(gte=0)


def _to_timeout(_: Any, tokens: Sequence[Token]) -> Duration | Multiple:
    return parse_timeout(tokens[0].value)


def run(
    *inputs: Annotated[str, Parameter(group=INPUTS)],
    work: Annotated[Cmd, Parameter(group=_COMMANDS)],
    prepare: Annotated[Cmd | None, Parameter(group=_COMMANDS)] = None,
    monitor: Annotated[Cmd | None, Parameter(group=_COMMANDS)] = None,
    cleanup: Annotated[Cmd | None, Parameter(group=_COMMANDS)] = None,
    shell: Annotated[str, Parameter(group=_COMMANDS)] = "/bin/sh",
    source: InputOptions = _DEFAULTS,
    blocks: PipeOptions = _DEFAULT_BLOCKS,
    engine: EngineOptions = _DEFAULT_ENGINE,
    limits: LimitOptions = _DEFAULT_LIMITS,
    timeout: Annotated[
        Duration | Multiple | None,
        Parameter(
            converter=_to_timeout,
            validator=Number(gt=0),
            n_tokens=1,
            accepts_keys=False,
            group=_FAILURES,
        ),
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
    control: ControlOptions = _DEFAULT_CONTROL,
    rest: Annotated[Sequence[str] | None, Parameter(parse=False)] = None,
) -> int:
    r"""Run shell commands for many inputs, several at a time, under a limit.

    For each input, a shell runs the prepare, work, monitor and cleanup commands that you
    give, one after the other. If a command exits with a status other than 0, the operation
    fails: its later commands are skipped, except for the clean-up, which always runs. The
    standard input of the commands is empty unless you give --pipe or --pipe-part. The output
    of an operation is printed when the operation ends; anything that a background process
    writes after that is dropped.

    A command can contain placeholders: {} is the input, {.} the input without its
    extension, {/} its base name, {//} its directory, {/.} its base name without the
    extension, and {#} the number of the operation. If inputs have columns, {2} is the second
    column, {-1} the last, {2/} the base name of the second, and {name} the column of that
    name; {} is all columns, each as a separate word. {%} is the slot of the operation: the
    lowest free number from 1 to the limit. Use it to give each operation its own GPU or port.

    Placeholders are quoted for you: write {}, not "{}". If --work contains none of them, the
    input is added at its end. A placeholder is refused where some shells would evaluate it in
    spite of quotes, as in let x={}. Commands also find the input in the environment, as
    TURNSTILE_INPUT, and its columns as TURNSTILE_INPUT_1 and so on. TURNSTILE_SEQ,
    TURNSTILE_ATTEMPT and TURNSTILE_PHASE are set as well, and so is TURNSTILE_SLOT if a
    command mentions it. A program may mistake an input that starts with a dash for an option,
    so write for example gzip -k -- {}.

    You can send signals to the command while it runs:

    - SIGUSR1 raises the limit by one step and SIGUSR2 lowers it: pkill -USR2 turnstile. With
      turnstile ctl you can also set the limit, and see why it has its value; turnstile top
      shows the run.
    - The first Ctrl-C (SIGINT), SIGTERM or SIGHUP starts a graceful shutdown: running
      operations may finish, no others start, and failed operations are not retried. The
      second one cancels the running operations, ends their commands with SIGTERM, and runs
      their clean-ups. A signal that was ignored when turnstile started stays ignored.
    - Ctrl-\ (SIGQUIT) kills the commands and ends the run at once, without clean-ups.

    The exit status is

    - 0 if every input was read and its operation completed, or if as many completed as
      --halt asks for with success=;
    - otherwise the number of failed operations, at most 101. If the inputs cannot be read
      to the end, or the job log or the ledger cannot be written, that counts as one more
      failure;
    - if none failed: 128 plus the number of the signal that stopped the run early (130 for
      SIGINT, 143 for SIGTERM, 129 for SIGHUP), or 141 if standard output was closed;
    - 2 also if an option was wrong, so that nothing ran.

    For example:

        turnstile run --limit 8 --joblog gzip.log --work 'gzip -k -- {}' -- *.txt

        turnstile run --work 'train --rate {1} --seed {2}' ::: 0.1 0.01 ::: 1 2 3

    Args:
      inputs: The inputs to run the commands for. If you give neither inputs nor --arg-file,
        they are read from standard input, one per line. Options come before the inputs.
        Put -- between them if an input may start with a dash, as file names may, or if
        there may be no input. Or write ::: A B ::: C D for all combinations; :::+ links a
        source to the one before it. :::: and ::::+ take names of files with inputs instead.
      work: The command that does the work.
      prepare: The command that runs before --work.
      monitor: The command that waits for work that --work has handed over, for example to
        a cluster. Meanwhile the operation counts against the limit.
      cleanup: The command that cleans up. It runs once, after the last attempt, and does
        not count against the limit.
      shell: The shell that runs the commands: sh, bash, dash, ksh or mksh, or its path.
      source: How the inputs are read.
      blocks: How standard input or files are cut into blocks.
      engine: Whether jobs on a cluster do the work.
      limits: How many operations may run at a time.
      timeout: How long each command may take, except for the clean-up: 10m, or 300% for three
        times the median run time of the completed operations, which applies once three have
        completed.
      grace: How long a clean-up may take.
      kill_after: The time between SIGTERM and SIGKILL when a command has to be ended.
      termseq: The signals to end a command with, and the milliseconds between them, instead
        of --kill-after: INT,200,TERM,1000,KILL. The last one must be KILL.
      retries: How many times to retry a failed operation, starting again with --prepare.
        The output of a failed attempt is dropped if another attempt follows.
      halt: When to stop early. soon,fail=3: after three failures, start no more
        operations, and let the running ones finish. now,fail=10%: cancel the running ones
        too, once at least three, and a tenth of those that have ended, have failed.
        now,success=1: stop once one has completed. soon,done=100: stop once 100 have ended.
      dry_run: Print the commands instead of running them. Control characters in inputs are
        printed as calls of printf, so that a terminal can show them.
      quiet: Do not show the progress and the final counts.
      pace: When operations may start.
      output: How to print the outputs.
      records: Which records of the run are kept.
      control: How the run can be reached while it goes on.
      rest: The inputs from -- or ::: on.
    """
    output.check()
    texts: dict[Phase, str | None] = {
        "prepare": prepare,
        "work": work,
        "monitor": monitor,
        "cleanup": cleanup,
    }
    if blocks.pipe and records.ledger is not None:
        raise UsageError(
            "--ledger knows inputs by their text, and --pipe has none: use --joblog, or "
            "--pipe-part with a file"
        )
    opened, columns = blocks.open(source, inputs, rest, max(limits.start(None), 1))
    commands: Mapping[Phase, Template] = {
        phase: _parse_command(phase, text, columns)
        for phase, text in texts.items()
        if text is not None
    }
    jobs = engine.make_plan(
        columns,
        {
            "--pipe": blocks.pipe,
            "--pipe-part": blocks.pipe_part,
            "--timeout": timeout is not None,
            "--termseq": termseq is not None,
            "--kill-after": kill_after != _FIVE_SECONDS,
            "--load": pace.load is not None,
            "--memfree": pace.memfree is not None,
            "--nice": pace.nice is not None,
            "--adapt": limits.adapt is not None,
            "--ungroup": output.ungroup,
            "--ledger": records.ledger is not None,
            "--prepare": prepare is not None,
            "--weight": limits.weight is not None,
            "{%}": any(command.uses_slot for command in commands.values()),
        },
    )
    limiter = limits.make_limiter(jobs)
    opened = source.fit(opened, commands, limiter.total_tokens)
    if dry_run:
        return trio.run(print_commands, commands, opened)
    rule = _parse_halt(halt)
    if jobs is not None:
        check_site(jobs)
    plan = Plan(
        title=" ".join(work.split())[:_LONGEST_TITLE],
        inputs=opened,
        columns=columns,
        commands=commands,
        shell=_find_shell(shell),
        limiter=limiter,
        weight=limits.make_weight(columns, limiter),
        limiter_note=limits.describe(limiter, jobs),
        timeout=timeout,
        grace=grace,
        term_seq=_make_term_seq(termseq, kill_after),
        retries=retries,
        halt=rule if isinstance(rule, Halt) else None,
        goal=rule if isinstance(rule, Goal) else None,
        control=control,
        quiet=quiet,
        output=output,
        pace=pace,
        starts=pace.make_pace(columns),
        jobs=jobs,
        queue=None if jobs is None or jobs.arrays is None else Queue(jobs.arrays, limiter),
        keeping=records.make_keeping(texts, jobs),
        statistics=records.statistics,
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
        return Template.parse(command, columns, append=phase == "work" and columns.in_commands)
    except ValueError as error:
        raise UsageError(f"--{phase}: {error}") from None


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
