"""Adaptive limit policies: pure objects that propose a limit."""

from ._protocol import LimitPolicy as LimitPolicy
