"""What users need to test code that uses trio_turnstile, and to try policies out.

Probes and helpers for tests of pipelines and phases; and `simulate`, which runs a
limit policy against a service that exists only in numbers.
"""

from trio_turnstile._engine.attempts import no_backoff as no_backoff
from trio_turnstile._util import publish
from trio_turnstile.simulation._engine import Books as Books
from trio_turnstile.simulation._engine import TracePoint as TracePoint
from trio_turnstile.simulation._scenarios import BATCH_SERVER as BATCH_SERVER
from trio_turnstile.simulation._scenarios import BIMODAL as BIMODAL
from trio_turnstile.simulation._scenarios import COLD_START as COLD_START
from trio_turnstile.simulation._scenarios import COLLAPSE as COLLAPSE
from trio_turnstile.simulation._scenarios import ERROR_BURSTS as ERROR_BURSTS
from trio_turnstile.simulation._scenarios import GATE as GATE
from trio_turnstile.simulation._scenarios import HALVED as HALVED
from trio_turnstile.simulation._scenarios import HEAVY_TAIL as HEAVY_TAIL
from trio_turnstile.simulation._scenarios import OPEN as OPEN
from trio_turnstile.simulation._scenarios import QUOTA as QUOTA
from trio_turnstile.simulation._scenarios import SCENARIOS as SCENARIOS
from trio_turnstile.simulation._scenarios import SINE as SINE
from trio_turnstile.simulation._scenarios import SLOWER as SLOWER
from trio_turnstile.simulation._scenarios import STALL as STALL
from trio_turnstile.simulation._scenarios import STEADY as STEADY
from trio_turnstile.simulation._scenarios import TWO_CLIENTS as TWO_CLIENTS
from trio_turnstile.simulation._scenarios import Bimodal as Bimodal
from trio_turnstile.simulation._scenarios import Client as Client
from trio_turnstile.simulation._scenarios import Erlang as Erlang
from trio_turnstile.simulation._scenarios import Jitter as Jitter
from trio_turnstile.simulation._scenarios import LogNormal as LogNormal
from trio_turnstile.simulation._scenarios import Pareto as Pareto
from trio_turnstile.simulation._scenarios import Scenario as Scenario
from trio_turnstile.simulation._scenarios import Server as Server
from trio_turnstile.simulation._scenarios import Sine as Sine
from trio_turnstile.simulation._scenarios import Steps as Steps
from trio_turnstile.simulation._scores import Result as Result
from trio_turnstile.simulation._scores import jain as jain
from trio_turnstile.simulation._scores import overall as overall
from trio_turnstile.simulation._simulate import simulate as simulate

from ._conservation import assert_conserved as assert_conserved
from ._probes import ProbeSink as ProbeSink
from ._probes import ProbeSource as ProbeSource
from ._probes import run_one as run_one

publish(globals())
del publish
