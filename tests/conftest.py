"""What all tests share."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# A machine that is busy with other things makes no test fail.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

# Nor does a shell that started the tests in the background, with these ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
