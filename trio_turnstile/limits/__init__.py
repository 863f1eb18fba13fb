"""Adaptive limits: policies that propose how many calls may be in flight.

`KneeLimit` is the one to use unless you know better. The others follow systems in wide use
faithfully, so that you can compare. For a policy of your own, subclass `LimitPolicy`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ._protocol import LimitPolicy, Outcome, Sample

if TYPE_CHECKING:
    from ._aimd import AIMDLimit
    from ._gradient2 import Gradient2Limit
    from ._knee.policy import KneeLimit
    from ._vector import VectorLimit
    from ._vegas import VegasLimit
    from ._windowed import Windowed

__all__ = [
    "AIMDLimit",
    "Gradient2Limit",
    "KneeLimit",
    "LimitPolicy",
    "Outcome",
    "Sample",
    "VectorLimit",
    "VegasLimit",
    "Windowed",
]

if not TYPE_CHECKING:
    # A program uses one policy at most: the others need not be imported.
    _HOMES = {
        "AIMDLimit": "._aimd",
        "Gradient2Limit": "._gradient2",
        "KneeLimit": "._knee.policy",
        "VectorLimit": "._vector",
        "VegasLimit": "._vegas",
        "Windowed": "._windowed",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = getattr(import_module(_HOMES[name], __name__), name)
        return globals()[name]

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
