"""Limits that find themselves: policies that propose how many calls may be in flight.

Read `_protocol` first, then `_knee`, which is what to use unless you know better. The
others are faithful to systems in wide use, so that you can compare.
"""

from ._aimd import AIMDLimit as AIMDLimit
from ._gradient2 import Gradient2Limit as Gradient2Limit
from ._knee.policy import KneeLimit as KneeLimit
from ._protocol import LimitPolicy as LimitPolicy
from ._protocol import Outcome as Outcome
from ._protocol import Sample as Sample
from ._vector import VectorLimit as VectorLimit
from ._vegas import VegasLimit as VegasLimit
from ._windowed import Windowed as Windowed
