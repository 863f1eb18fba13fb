"""What users need to test code that uses trio_turnstile.

It has a source and a sink that move only when the test says so, a way to run single steps,
retries that do not wait, and the conservation of items as an assertion.
"""

from trio_turnstile._engine.attempts import no_backoff
from trio_turnstile._util import fixup_module_metadata

from ._conservation import assert_conserved
from ._probes import ProbeSink, ProbeSource, run_one

__all__ = ["ProbeSink", "ProbeSource", "assert_conserved", "no_backoff", "run_one"]

fixup_module_metadata(globals())
del fixup_module_metadata
