"""What users need to test code that uses trio_turnstile, and to try policies out.

Probes and helpers for tests of pipelines and phases; and `simulate`, which runs a
limit policy against a service that exists only in numbers.
"""

from trio_turnstile._attempts import no_backoff as no_backoff
from trio_turnstile._facade import publish

from ._conservation import assert_conserved as assert_conserved
from ._engine import Books as Books
from ._engine import TracePoint as TracePoint
from ._probes import ProbeSink as ProbeSink
from ._probes import ProbeSource as ProbeSource
from ._probes import run_one as run_one
from ._scenarios import BATCH_SERVER as BATCH_SERVER
from ._scenarios import BIMODAL as BIMODAL
from ._scenarios import COLD_START as COLD_START
from ._scenarios import COLLAPSE as COLLAPSE
from ._scenarios import ERROR_BURSTS as ERROR_BURSTS
from ._scenarios import GATE as GATE
from ._scenarios import HALVED as HALVED
from ._scenarios import HEAVY_TAIL as HEAVY_TAIL
from ._scenarios import OPEN as OPEN
from ._scenarios import QUOTA as QUOTA
from ._scenarios import SCENARIOS as SCENARIOS
from ._scenarios import SINE as SINE
from ._scenarios import SLOWER as SLOWER
from ._scenarios import STALL as STALL
from ._scenarios import STEADY as STEADY
from ._scenarios import TWO_CLIENTS as TWO_CLIENTS
from ._scenarios import Bimodal as Bimodal
from ._scenarios import Client as Client
from ._scenarios import Erlang as Erlang
from ._scenarios import Jitter as Jitter
from ._scenarios import LogNormal as LogNormal
from ._scenarios import Pareto as Pareto
from ._scenarios import Scenario as Scenario
from ._scenarios import Server as Server
from ._scenarios import Sine as Sine
from ._scenarios import Steps as Steps
from ._scores import Result as Result
from ._scores import jain as jain
from ._scores import overall as overall
from ._simulate import simulate as simulate

publish(globals())
del publish
