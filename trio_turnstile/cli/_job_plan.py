"""The options of a run's jobs, and the resources that the job of an input needs. Sans-I/O."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias, TypeVar, final

import attrs

from ._columns import Columns, Input
from ._durations import Duration
from ._rates import Rate, Size
from ._template import Template

T = TypeVar("T")

EngineName: TypeAlias = Literal["slurm", "sge", "local"]
"""The name of an engine."""

_CLOCK = re.compile(r"(?:(\d{1,3})-)?(\d{1,4}):([0-5]\d):([0-5]\d)", re.ASCII)


@final
@attrs.frozen
class Resource(Generic[T]):
    """How much of a resource, such as memory, jobs need; a column of the inputs can say it."""

    _option: str
    _template: Template
    _read: Callable[[str], T]

    @classmethod
    def parse(
        cls, option: str, text: str, columns: Columns, read: Callable[[str], T]
    ) -> Resource[T]:
        """Read the value of an option.

        Raises:
          ValueError: if the value is wrong for every input.
        """
        template = Template.of_text(text, columns)
        if not template.varies:
            read(text.strip())
        return cls(option, template, read)

    def of(self, given: Input, number: int) -> T | None:
        """Return how much the job of an input needs; ``None`` if the value is empty.

        Raises:
          ValueError: if the value is wrong for this input.
        """
        text = self._template.fill(given, number, quoted=str).strip()
        if not text:
            return None
        try:
            return self._read(text)
        except ValueError as error:
            raise ValueError(f"{self._option}: {error}") from None


@final
@attrs.frozen(kw_only=True)
class JobPlan:
    """What the user asks of the jobs of a run."""

    engine: EngineName
    """The engine that runs them."""
    directory: Path
    """The folder for their output, as an absolute path."""
    submit_args: tuple[Template, ...] = ()
    """Further arguments of the command that submits."""
    cpus: Resource[int] | None = None
    """How many CPUs each needs."""
    memory: Resource[int] | None = None
    """How many MiB each needs."""
    seconds: Resource[float] | None = None
    """How long each may run."""
    calls: Rate | None = None
    """How often the controller may be called."""
    detach: bool = False
    """Whether a stop signal leaves jobs running."""
    arrays: int | None = None
    """How many jobs are submitted at once, as tasks of an array; ``None`` for no arrays."""

    @property
    def on_cluster(self) -> bool:
        """Whether they run elsewhere, or at least wait in a queue."""
        return self.engine != "local"


def read_cpus(text: str) -> int:
    """Return a number of CPUs.

    Raises:
      ValueError: if the text is not such a number.
    """
    if not re.fullmatch(r"[1-9]\d{0,5}", text, re.ASCII):
        raise ValueError(f"a number of CPUs is 1 or more, as in 8, not {text!r}")
    return int(text)


def read_memory(text: str) -> int:
    """Return a size in MiB, rounded up. Clusters differ on the unit of a bare number.

    Raises:
      ValueError: if the text is not a size, or has no unit.
    """
    size = 0
    with suppress(ValueError):
        size = Size.parse(text).bytes if text[-1:].isalpha() else 0
    if not size:
        raise ValueError(f"memory is written with its unit, as in 500M or 8G, not {text!r}")
    return math.ceil(size / (1 << 20))


def read_time(text: str) -> float:
    """Return a time in seconds. Clusters differ on the unit of a bare number.

    Raises:
      ValueError: if the text is not a time, or has no unit.
    """
    time = 0.0
    with suppress(ValueError):
        time = float(Duration.parse(text)) if text[-1:].isalpha() else _seconds_of_clock(text)
    if not time:
        raise ValueError(
            f"a time is written with its unit, as in 30m or 2h, or as 1-12:00:00, not {text!r}"
        )
    return time


def _seconds_of_clock(text: str) -> float:
    clock = _CLOCK.fullmatch(text)
    if clock is None:
        return 0.0
    days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def read_arguments(text: str, columns: Columns) -> tuple[Template, ...]:
    """Split arguments as a shell does; each may have placeholders.

    Raises:
      ValueError: if a quote is not closed.
    """
    return tuple(Template.of_text(word, columns) for word in shlex.split(text))


def other_engine(facts: Mapping[str, Any]) -> str:
    """Return the message for a job that an earlier run has submitted with another engine."""
    engine = facts.get("engine")
    return (
        f"an earlier run submitted it with --engine {engine}, as job {facts.get('job', '?')}: "
        f"go on with --engine {engine}, or begin again with --fresh"
    )
