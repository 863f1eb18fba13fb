"""What users need to test code that uses trio_turnstile."""

from ._conservation import assert_conserved as assert_conserved
