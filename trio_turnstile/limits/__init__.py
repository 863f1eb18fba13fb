"""Adaptive limits: policies that propose how many calls may be in flight.

`KneeLimit` is the one to use unless you know better. The others follow systems in wide use
faithfully, so that you can compare. For a policy of your own, subclass `LimitPolicy`.
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
