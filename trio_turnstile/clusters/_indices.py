"""Indices of array tasks, as clusters write them: ``1-5,7``."""

from __future__ import annotations

from collections.abc import Iterable


def ranges_of(indices: Iterable[int]) -> list[tuple[int, int]]:
    """Return the ranges without gaps, each as its first and its last index."""
    found: list[tuple[int, int]] = []
    for index in sorted(indices):
        if found and index <= found[-1][1] + 1:
            found[-1] = (found[-1][0], index)
        else:
            found.append((index, index))
    return found


def written(indices: Iterable[int]) -> list[str]:
    """Return the ranges as clusters write them: ``["1-5", "7"]``."""
    return [f"{a}-{b}" if b > a else str(a) for a, b in ranges_of(indices)]


def read(text: str) -> Iterable[int]:
    """Return the indices in a text such as ``1-5:1,7``, where ``:1`` is a step."""
    for part in text.split(","):
        numbers, _, step = part.partition(":")
        first, _, last = numbers.partition("-")
        yield from range(int(first), int(last or first) + 1, int(step or 1))


def by_array(pairs: Iterable[tuple[str, str]]) -> dict[str, list[int]]:
    """Return the tasks of each array, from pairs of an array and a task."""
    found: dict[str, list[int]] = {}
    for array, index in pairs:
        found.setdefault(array, []).append(int(index))
    return found
