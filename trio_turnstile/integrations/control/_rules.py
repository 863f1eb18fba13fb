"""`Rule`: what an alert from outside does to a limiter. A rule is checked when it is made."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from string import Formatter
from typing import Any, Literal, TypeAlias, final

import attrs

Firing: TypeAlias = Literal["down", "up", "pause"] | int
"""What to do when an alert begins: a step, a pause, or a cap in tokens."""

Resolved: TypeAlias = Literal["up", "down", "release", "resume", "nothing"]
"""What to do when it ends."""

_OPPOSITES: dict[str, tuple[Resolved, ...]] = {
    "down": ("up", "nothing"),
    "up": ("down", "nothing"),
    "pause": ("resume", "nothing"),
    "cap": ("release", "nothing"),
}
"""What may be done at the end, for each kind of beginning; the first is the default."""


def _labels_in(template: str) -> list[str]:
    """Return the labels in the name of a limiter; raise if its braces are wrong."""
    return [label for _, label, _, _ in Formatter().parse(template) if label is not None]


def _check_firing(rule: Rule, field: attrs.Attribute[Any], firing: object) -> None:
    cap = isinstance(firing, int) and not isinstance(firing, bool) and firing >= 0
    if not cap and firing not in ("down", "up", "pause"):
        raise ValueError(f'firing must be "down", "up", "pause" or a cap in tokens, not {firing!r}')


def _check_resolved(rule: Rule, field: attrs.Attribute[Any], resolved: object) -> None:
    allowed = _OPPOSITES[rule.kind]
    if resolved not in allowed:
        words = " or ".join(f'"{word}"' for word in allowed)
        raise ValueError(f"resolved must be {words} if firing is {rule.firing!r}, not {resolved!r}")


def _check_when(rule: Rule, field: attrs.Attribute[Any], when: object) -> None:
    if not isinstance(when, Mapping) or not when:
        raise ValueError(
            f'when must name labels and patterns for them, as in {{"alertname": "DiskFull"}}, '
            f"not {when!r}"
        )
    for label, pattern in when.items():
        if not isinstance(label, str) or not isinstance(pattern, str):
            raise TypeError(f"when must map texts to texts, not {label!r} to {pattern!r}")


def _check_limiter(rule: Rule, field: attrs.Attribute[Any], limiter: object) -> None:
    if not isinstance(limiter, str) or not limiter:
        raise ValueError(f"limiter must be the name of a limiter, not {limiter!r}")
    for label in _labels_in(limiter):
        if label not in rule.when:
            raise ValueError(
                f"limiter {limiter!r} uses the label {label!r}, which an alert may not have: "
                f'add "{label}": "*" to when'
            )


def _check_seconds(rule: Rule, field: attrs.Attribute[Any], seconds: object) -> None:
    if seconds is None:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise ValueError(f"for_seconds must be a number above 0, not {seconds!r}")
    if rule.kind not in ("cap", "pause"):
        raise ValueError(f"for_seconds is for a cap or a pause, but firing is {rule.firing!r}")


@final
@attrs.frozen(kw_only=True)
class Rule:
    """What an alert does to a limiter, when it begins and when it ends.

    ``Rule(when={"alertname": "DatabaseBusy"}, limiter="db", firing=5)`` caps the limiter ``db``
    at 5 tokens while such an alert fires.

    Raises:
      TypeError, ValueError: if it makes no sense. So a wrong rule is found when it is made, and
        not when an alert fires.
    """

    when: Mapping[str, str] = attrs.field(validator=_check_when, hash=False)
    """The labels that an alert must have, each with a pattern: ``*`` stands for any text."""
    limiter: str = attrs.field(validator=_check_limiter)
    """The name of the limiter. ``"{job}"`` stands for the label ``job`` of the alert."""
    firing: Firing = attrs.field(default="down", validator=_check_firing)
    """What to do when the alert begins: ``"down"``, ``"up"``, ``"pause"``, or a cap in tokens."""
    resolved: Resolved = attrs.field(
        default=attrs.Factory(lambda rule: rule._opposite, takes_self=True),
        validator=_check_resolved,
    )
    """What to do when it ends: the opposite by default; ``"nothing"`` for nothing."""
    for_seconds: float | None = attrs.field(default=None, validator=_check_seconds)
    """After how many seconds a cap or a pause ends, unless a message repeats the alert."""

    @property
    def kind(self) -> str:
        """``"down"``, ``"up"``, ``"pause"`` or ``"cap"``."""
        return self.firing if isinstance(self.firing, str) else "cap"

    @property
    def _opposite(self) -> Resolved:
        return _OPPOSITES.get(self.kind, ("nothing",))[0]

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Return whether the rule matches an alert with these labels."""
        return all(
            label in labels and fnmatchcase(labels[label], pattern)
            for label, pattern in self.when.items()
        )

    def limiter_for(self, labels: Mapping[str, str]) -> str:
        """Return the name of the limiter that an alert with these labels moves."""
        return "".join(
            text + ("" if label is None else labels[label])
            for text, label, _, _ in Formatter().parse(self.limiter)
        )


DEFAULT_RULES = (Rule(when={"limiter": "*"}, limiter="{limiter}"),)
"""An alert with a label ``limiter`` takes that limiter one step down, and up when it ends."""


def read_rules(path: str | os.PathLike[str]) -> tuple[Rule, ...]:
    """Read rules from a TOML file, with a table ``[[rule]]`` for each.

    Raises:
      ValueError: if the file, or a rule in it, makes no sense; the message has its number.
      OSError: if the file cannot be read.
    """
    try:
        found = tomllib.loads(Path(path).read_text())
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: {error}") from None
    tables = found.pop("rule", None)
    if not isinstance(tables, Sequence) or not tables or found:
        raise ValueError(f"{path}: the file must contain tables [[rule]], and nothing else")
    return tuple(_rule(path, number, table) for number, table in enumerate(tables, 1))


def _rule(path: str | os.PathLike[str], number: int, table: Any) -> Rule:
    try:
        return Rule(**table)
    except (TypeError, ValueError) as error:
        text = str(error).replace("Rule.__init__() got an", "there is an")
        raise ValueError(f"{path}: rule {number}: {text}") from None
