"""``turnstile ledger``: show the content of a ledger, as a table or as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeAlias

from cyclopts import Parameter

from trio_turnstile import LedgerEntry, LedgerError, read_ledger

from ._arguments import UsageError
from ._columns import Input
from ._durations import format_clock
from ._printable import printable

Flag: TypeAlias = Annotated[bool, Parameter(negative=())]


def ledger(
    file: Path,
    /,
    *,
    failed: Flag = False,
    left: Flag = False,
    json: Flag = False,
    run: str | None = None,
) -> int:
    """Show what a ledger knows about the operations of a run, even while the run goes on.

    There is a line for each operation, in the order in which they first began: its number, how
    it ended, when it began, how long it took, its input, and why it failed. An operation is open
    if it is running, or if it was interrupted.

    For example:

        turnstile ledger run.db --left --json | jq -r .input | turnstile run --work ...

    Args:
      file: The ledger, as given to turnstile run --ledger.
      failed: Show only the operations that failed.
      left: Show only the operations left for the next run: interrupted, cancelled, or not begun.
      json: Write a JSON object for each operation, one per line, instead of the table.
      run: The name of the run, if a program has given it one.
    """
    try:
        with read_ledger(file, run=run) as entries:
            chosen = (each for each in entries if _is_chosen(each, failed=failed, left=left))
            _print_json(chosen) if json else _print_table(chosen)
    except LedgerError as error:
        raise UsageError(str(error)) from None
    return 0


def _is_chosen(entry: LedgerEntry, *, failed: bool, left: bool) -> bool:
    if not (failed or left):
        return True
    return (failed and entry.outcome == "failed") or (left and _is_left(entry))


def _is_left(entry: LedgerEntry) -> bool:
    return entry.is_open or entry.outcome in ("cancelled", "left")


def _standing(entry: LedgerEntry) -> str:
    if entry.is_open:
        return f"open ({entry.phase})"
    return "not begun" if entry.outcome == "left" else str(entry.outcome)


def _print_json(entries: Iterable[LedgerEntry]) -> None:
    for entry in entries:
        print(json.dumps(_as_dict(entry)))


def _as_dict(entry: LedgerEntry) -> dict[str, object]:
    return {
        "number": entry.number,
        "input": Input.of_identity(entry.identity).text,
        "columns": Input.of_identity(entry.identity).columns,
        "outcome": "open" if entry.is_open else entry.outcome,
        "phase": entry.phase,
        "attempt": entry.attempt,
        "began": entry.began,
        "ended": entry.ended,
        "error": entry.error,
        "facts": dict(entry.facts),
    }


def _print_table(entries: Iterable[LedgerEntry]) -> None:
    counts: Counter[str] = Counter()
    for entry in entries:
        counts["open" if entry.is_open else _standing(entry)] += 1
        print(" ".join(_columns(entry)).rstrip())
    print(", ".join(f"{count} {standing}" for standing, count in counts.items()) or "nothing")


def _columns(entry: LedgerEntry) -> Iterator[str]:
    began = entry.outcome != "left"
    took = None if entry.ended is None or not began else entry.ended - entry.began
    yield f"{entry.number:>7}"
    yield f"{_standing(entry):<15}"
    yield f"{datetime.fromtimestamp(entry.began):%Y-%m-%d %H:%M:%S}" if began else " " * 19
    yield f"{'' if took is None else format_clock(took):>8}"
    yield printable(Input.of_identity(entry.identity).text)
    if entry.error is not None and not entry.is_open:
        yield f" ({printable(_reason(entry.error))})"


def _reason(error: str) -> str:
    """Return the message of an error of a command; other errors stay as they are."""
    prefix, suffix = "CommandFailed('", "')"
    is_plain = error.startswith(prefix) and error.endswith(suffix)
    return error[len(prefix) : -len(suffix)] if is_plain else error
