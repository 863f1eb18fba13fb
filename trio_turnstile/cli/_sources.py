"""Where inputs come from: words and files, combined as GNU parallel does."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias, final

import attrs

from ._arguments import MARKS, UsageError
from ._columns import Columns, Input, Rows, Separator
from ._combinations import Combinations, Linked
from ._inputs import LONGEST, FileInputs, GivenInputs, Inputs, OpenFile, read_chunk


@final
@attrs.frozen
class Source:
    """Words, or a file of inputs."""

    words: tuple[str, ...] | None = None
    """The inputs; ``None`` if they are in a file."""
    path: Path | None = None
    """The file; ``None`` for standard input."""
    is_linked: bool = False
    """Whether each input is paired with one of the source before."""

    @classmethod
    def of_file(cls, path: Path | None, *, is_linked: bool = False) -> Source:
        """Return the source of a file; a dash is standard input."""
        return cls(None, None if path is None or str(path) == "-" else path, is_linked)


Opened: TypeAlias = tuple[Inputs[str], tuple[str, ...]]
"""The texts of a source, and the names of its columns."""


def parse_marks(words: Sequence[str]) -> list[Source]:
    """Return the sources of words such as ``::: a b ::: c``, which begin with a mark."""
    sources: list[Source] = []
    for mark, *given in _split_at_marks(words):
        linked = mark.endswith("+")
        if linked and not sources:
            raise UsageError(f"{mark} links to the source before it, but there is none")
        if mark.startswith("::::"):
            if not given:
                raise UsageError(f"{mark} needs names of files after it")
            sources += [Source.of_file(Path(name), is_linked=linked) for name in given]
        else:
            sources.append(Source(tuple(given), is_linked=linked))
    return sources


def _split_at_marks(words: Sequence[str]) -> Iterator[list[str]]:
    part: list[str] = []
    for word in words:
        if word in MARKS and part:
            yield part
            part = []
        part.append(word)
    yield part


def open_sources(
    sources: Sequence[Source], *, end: bytes, separator: Separator | None, header: bool
) -> tuple[Inputs[Input], Columns]:
    """Open sources and combine them.

    Args:
      sources: one or more.
      end: the bytes that end an input in a file.
      separator: separates the columns of an input, if it has several.
      header: whether the first input of each source names its columns.
    """
    _check(sources)
    opened = [_open(source, end, separator, header=header) for source in sources]
    names = tuple(name for _, named in opened for name in named)
    if header:
        _check_names(names)
    rows = [Rows(texts, separator, len(named) if header else None) for texts, named in opened]
    count = len(names) if header else None if separator is not None else len(sources)
    groups: list[list[Inputs[Input]]] = []
    for source, each in zip(sources, rows, strict=True):
        if source.is_linked:
            groups[-1].append(each)
        else:
            groups.append([each])
    first, *others = [group[0] if len(group) == 1 else Linked(group) for group in groups]
    return (Combinations(first, others) if others else first), Columns(count, names)


def _check(sources: Sequence[Source]) -> None:
    files = [source.path for source in sources if source.words is None]
    if files.count(None) > 1:
        raise UsageError("only one of the sources can be standard input")
    for path in files:
        if path is not None:
            _check_readable(path)
        elif os.isatty(0):
            print("turnstile: reading inputs, one per line; Ctrl-D ends them", file=sys.stderr)


def _check_readable(path: Path) -> None:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISFIFO(mode):  # opening a FIFO would wait for its writer
            with path.open("rb"):
                pass
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"--arg-file: cannot read {str(path)!r}: {why}") from None


def _open(source: Source, end: bytes, separator: Separator | None, *, header: bool) -> Opened:
    if source.words is not None:
        if not header:
            return GivenInputs(source.words), ()
        if not source.words:
            raise UsageError("--header: a source needs a first input, which names its columns")
        return GivenInputs(source.words[1:]), _names(source.words[0], separator)
    if not header:
        return FileInputs(source.path, end=end), ()
    first, file = _read_header(source.path, end)
    return FileInputs(file, end=end), _names(first, separator)


def _names(header: str, separator: Separator | None) -> tuple[str, ...]:
    return (header,) if separator is None else separator.split(header)


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if name and names.count(name) > 1:
            raise UsageError(f"--header: {names.count(name)} columns are named {name!r}")


def _read_header(path: Path | None, end: bytes) -> tuple[str, OpenFile]:
    """Read the first input of a file, and as little more as possible."""
    name = "standard input" if path is None else repr(str(path))
    try:
        fd = 0 if path is None else os.open(path, os.O_RDONLY)
        data = b""
        while end not in data and len(data) <= LONGEST and (chunk := read_chunk(fd)):
            data += chunk
    except OSError as error:
        raise UsageError(f"--header: cannot read {name}: {error.strerror}") from None
    first, _, ahead = data.partition(end)
    if not first or len(first) > LONGEST:
        raise UsageError(f"--header: {name} does not begin with a line of names")
    return os.fsdecode(first), OpenFile(fd, ahead)
