"""The options of ``turnstile run`` that make jobs on a cluster do the work."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar, final

import attrs
from cyclopts import Group, Parameter
from cyclopts.validators import Number

from ._arguments import UsageError
from ._columns import Columns
from ._job_plan import (
    EngineName,
    JobPlan,
    Resource,
    read_arguments,
    read_cpus,
    read_memory,
    read_time,
)
from ._rates import Rate

T = TypeVar("T")

CLUSTER = Group("Jobs on a cluster", sort_key=2.5)

_PATTERNS = re.compile(r"[%:$\\]")
"""Characters that clusters replace in paths of outputs."""

_PROGRAMS: Mapping[EngineName, tuple[str, ...]] = {
    "slurm": ("sbatch", "squeue", "scancel"),
    "sge": ("qsub", "qstat", "qdel"),
    "local": ("ps",),
}
_FOR_ARRAYS: Mapping[EngineName, tuple[str, ...]] = {
    "slurm": ("scontrol",),
    "sge": ("qalter", "qhold", "qconf"),
}

_ELSEWHERE = (
    "start turnstile where jobs can be submitted, such as a login node; --engine local runs them "
    "on this machine"
)
_MACHINE = "it looks at this machine, but jobs run elsewhere: say what they need, as in --mem 8G"
_ENDING = (
    "the cluster ends jobs in its own way: to send them a signal before the time limit, write for "
    "example --submit-args=--signal=B:TERM@60 for Slurm"
)

_WAYS_OUT = {
    "--pipe": (
        "a job reads nothing from standard input: write the blocks to files, for example with "
        "split(1), and give these as inputs"
    ),
    "--pipe-part": (
        "a job reads nothing from standard input: write the blocks to files, for example with "
        "split(1), and give these as inputs"
    ),
    "--timeout": "it would count the time in the queue: use --time to limit how long a job runs",
    "--termseq": _ENDING,
    "--kill-after": _ENDING,
    "--load": _MACHINE,
    "--memfree": _MACHINE,
    "--nice": (
        "it is for processes of this machine: ask the cluster, as in --submit-args=--nice=100, "
        "or use nice(1) in --work"
    ),
    "--adapt": (
        "it compares how long operations take, which includes the time in the queue: give "
        "--limit, and change the limit with SIGUSR1 and SIGUSR2"
    ),
    "--ungroup": (
        "a job cannot write to this standard output: --line-buffer prints lines as they come"
    ),
    "{%}": (
        "two machines may use the same slot: ask the cluster for a GPU, as in "
        "--submit-args=--gres=gpu:1, or use a name made of {#}"
    ),
}
"""Options that make no sense for jobs, and what to do instead."""

_NOT_IN_ARRAYS = {
    "--prepare": (
        "it would run at the same time for all tasks of an array: put the command into --work, "
        "which the limit applies to"
    ),
    "--weight": (
        "the cluster counts each task of an array as one: say what they need, as in --cpus {2}"
    ),
}
"""Options that make no sense for tasks of arrays."""


def _to_rate(_: Any, tokens: Any) -> Rate:
    return Rate.parse(tokens[0].value)


@Parameter(name="*", group=CLUSTER)
@final
@attrs.frozen(kw_only=True)
class EngineOptions:
    """Whether jobs on a cluster do the work, and what they need.

    Attributes:
      engine: Submit --work as a job for each input, to Slurm, to Grid Engine (sge), or to this
        machine (local), and print its output here. The other commands run where turnstile
        runs. --limit is then how many jobs are in the queue or running.
      submit_args: Further arguments of sbatch or qsub, as in --submit-args='--partition=long'.
        They can contain placeholders, as can --cpus, --mem and --time.
      cpus: How many CPUs a job needs: 8, or {cpus} for the number in the column of that name.
        If the column is empty, the cluster decides.
      mem: How much memory a job needs in all: 500M or 8G.
      time: How long a job may run before the cluster ends it: 30m, 2h or 1-12:00:00.
      job_dir: Where jobs write their output, until it is printed, and how they ended. All
        nodes have to see this folder under the same path.
      calls: How often the commands of the cluster may be called to submit, poll and cancel
        jobs: 4/m. The default is as often as necessary.
      detach: At the first Ctrl-C, leave the jobs running and exit. The same command line then
        goes on with them, so this needs --ledger.
      arrays: Submit up to this many jobs with one call, as tasks of an array. Jobs that need
        different resources are in different arrays. --limit is then how many tasks run at a
        time, and the cluster is told when it changes. Up to twice as many tasks as an array
        has wait in the queue.
    """

    engine: EngineName | None = None
    submit_args: Annotated[str, Parameter(allow_leading_hyphen=True, show_default=False)] = ""
    cpus: str | None = None
    mem: str | None = None
    time: str | None = None
    job_dir: Path = Path("turnstile-jobs")
    calls: Annotated[Rate | None, Parameter(converter=_to_rate, n_tokens=1, accepts_keys=False)] = (
        None
    )
    detach: Annotated[bool, Parameter(negative=(), show_default=False)] = False
    arrays: Annotated[int | None, Parameter(validator=Number(gte=1))] = None

    def make_plan(self, columns: Columns, given: Mapping[str, object]) -> JobPlan | None:
        """Return the plan of the jobs, or ``None`` without ``--engine``.

        Args:
          columns: what is known about the columns of the inputs.
          given: other options by name, with a true value for those that are given.

        Raises:
          UsageError: if the options are wrong, or do not go together.
        """
        if self.engine is None:
            self._refuse_without_engine()
            return None
        self._refuse(self.engine, given)
        return JobPlan(
            engine=self.engine,
            directory=self.job_dir.absolute(),
            submit_args=_read("--submit-args", partial(read_arguments, self.submit_args, columns)),
            cpus=_resource("--cpus", self.cpus, columns, read_cpus),
            memory=_resource("--mem", self.mem, columns, read_memory),
            seconds=_resource("--time", self.time, columns, read_time),
            calls=self.calls,
            detach=self.detach,
            arrays=self.arrays,
        )

    def _refuse_without_engine(self) -> None:
        for field in attrs.fields(EngineOptions):
            if getattr(self, field.name) != field.default:
                name = field.name.replace("_", "-")
                raise UsageError(
                    f"--{name} is only for jobs on a cluster: give --engine slurm, sge or local too"
                )

    def _refuse(self, engine: EngineName, given: Mapping[str, object]) -> None:
        for name, why in _WAYS_OUT.items():
            if given[name]:
                raise UsageError(f"--engine {engine} and {name} do not go together: {why}")
        if self.arrays is not None:
            self._refuse_with_arrays(engine, given)
        if self.detach and not given["--ledger"]:
            raise UsageError(
                "--detach leaves jobs for the next run, which finds them in a ledger: give "
                "--ledger FILE too"
            )

    def _refuse_with_arrays(self, engine: EngineName, given: Mapping[str, object]) -> None:
        if engine == "local":
            raise UsageError(
                "--engine local submits no arrays: leave out --arrays, or give --engine slurm or "
                "sge"
            )
        for name, why in _NOT_IN_ARRAYS.items():
            if given[name]:
                raise UsageError(f"--arrays and {name} do not go together: {why}")


def check_site(plan: JobPlan) -> None:
    """Check that jobs can be submitted from here, and make their folder.

    Raises:
      UsageError: if they cannot.
    """
    for program in _PROGRAMS[plan.engine] + (_FOR_ARRAYS[plan.engine] if plan.arrays else ()):
        if shutil.which(program) is None:
            way_out = _ELSEWHERE if plan.on_cluster else "install it, for example with procps"
            raise UsageError(
                f"--engine {plan.engine} calls {program}, which is not in PATH: {way_out}"
            )
    odd = _PATTERNS.search(str(plan.directory))
    if odd is not None and plan.on_cluster:
        raise UsageError(
            f"--job-dir is {str(plan.directory)!r}, but clusters give {odd[0]!r} in the path of an "
            "output a meaning of its own: give another folder"
        )
    try:
        plan.directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--job-dir must name a folder that can be written to, but {str(plan.directory)!r} "
            f"is not one: {error.strerror}"
        ) from None


def _resource(
    option: str, text: str | None, columns: Columns, read: Callable[[str], T]
) -> Resource[T] | None:
    if text is None:
        return None
    return _read(option, partial(Resource.parse, option, text, columns, read))


def _read(option: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
