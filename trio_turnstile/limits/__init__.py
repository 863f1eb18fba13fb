"""Adaptive limits: policies that propose how many calls may be in flight.

Read `_protocol` first, then `_knee`, which is what to use unless you know better. The
others are faithful to systems in wide use, so that you can compare.
"""

from ._aimd import AIMDLimit
from ._gradient2 import Gradient2Limit
from ._knee.policy import KneeLimit
from ._protocol import LimitPolicy, Outcome, Sample
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
