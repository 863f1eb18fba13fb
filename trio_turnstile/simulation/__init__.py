"""Simulated services, to try a limit policy on before it meets a real service.

`simulate` plays a `Scenario` on virtual time and compares the policy with an oracle that
knows the capacity. `SCENARIOS` has the scenarios of the documentation; make your own from
the parts here. Import all names from ``trio_turnstile.simulation``.
"""

from trio_turnstile._util import fixup_module_metadata

from ._engine import Books, TracePoint
from ._scenarios import (
    BATCH_SERVER,
    BIMODAL,
    COLD_START,
    COLLAPSE,
    ERROR_BURSTS,
    GATE,
    HALVED,
    HEAVY_TAIL,
    OPEN,
    PER_KEY,
    QUOTA,
    SCENARIOS,
    SINE,
    SLOWER,
    STALL,
    STEADY,
    TOKEN_BUDGET,
    TWO_CLIENTS,
    Bimodal,
    Client,
    Erlang,
    Jitter,
    LogNormal,
    Pareto,
    Scenario,
    Server,
    Sine,
    Steps,
    TokenBudget,
)
from ._scores import Result, jain, overall
from ._simulate import simulate

__all__ = [
    "BATCH_SERVER",
    "BIMODAL",
    "COLD_START",
    "COLLAPSE",
    "ERROR_BURSTS",
    "GATE",
    "HALVED",
    "HEAVY_TAIL",
    "OPEN",
    "PER_KEY",
    "QUOTA",
    "SCENARIOS",
    "SINE",
    "SLOWER",
    "STALL",
    "STEADY",
    "TOKEN_BUDGET",
    "TWO_CLIENTS",
    "Bimodal",
    "Books",
    "Client",
    "Erlang",
    "Jitter",
    "LogNormal",
    "Pareto",
    "Result",
    "Scenario",
    "Server",
    "Sine",
    "Steps",
    "TokenBudget",
    "TracePoint",
    "jain",
    "overall",
    "simulate",
]

fixup_module_metadata(globals())
del fixup_module_metadata
