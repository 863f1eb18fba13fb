"""What users need to test code that uses trio_turnstile."""

from trio_turnstile._attempts import no_backoff as no_backoff
from trio_turnstile._facade import publish

from ._conservation import assert_conserved as assert_conserved
from ._probes import ProbeSink as ProbeSink
from ._probes import ProbeSource as ProbeSource
from ._probes import run_one as run_one

publish(globals())
del publish
