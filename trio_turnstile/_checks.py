"""Checks of arguments: an error names the value, and the rule that it breaks."""

from __future__ import annotations

import math


def check_whole(name: str, value: object, least: int, *, infinite: bool = False) -> None:
    """Raise unless ``value`` is a whole number of at least ``least``, or allowed infinity."""
    if infinite and value == math.inf:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        rule = "an int or math.inf" if infinite else "an int"
        raise TypeError(f"{name} must be {rule}, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value!r}")


def check_seconds(name: str, value: object, *, positive: bool = False) -> None:
    """Raise unless ``value`` is a number of seconds, not negative (or over zero)."""
    check_number(name, value, positive=positive, unit=" seconds")


def check_number(name: str, value: object, *, positive: bool = False, unit: str = "") -> None:
    """Raise unless ``value`` is a number, not negative (or over zero)."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number{unit and ' of' + unit}, not {value!r}")
    if math.isnan(value) or value < 0 or (positive and value == 0):
        rule = "more than 0" if positive else "0 or more"
        raise ValueError(f"{name} must be {rule}{unit}, not {value!r}")
