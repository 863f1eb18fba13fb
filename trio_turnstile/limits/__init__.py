"""Adaptive limit policies: pure objects that propose a limit."""

from ._protocol import LimitPolicy as LimitPolicy
from ._protocol import Outcome as Outcome
from ._protocol import Sample as Sample
