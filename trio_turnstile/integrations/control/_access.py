"""`Access`: what clients of one listener need, and what they may do.

Trust depends on the listener that received a request, and never on what the request says. So
each listener has its own application, with its own `Access`.
"""

from __future__ import annotations

import hmac
import re
from typing import final

import attrs

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""The host names that a browser on the same machine may use. A page from elsewhere can make its own
name point here, to get around the browser's rules, but then the request has that name."""


@final
@attrs.frozen
class Access:
    """What clients of one listener need, and what they may do.

    Args:
      token: the secret that each request needs as ``Authorization: Bearer ...``, to read and to
        change; ``None`` if the listener itself lets nobody else in.
      hosts: the host names that requests may use; empty for any name.
      author: the author of changes, if an order does not name one.
      read_only: whether orders are refused.
    """

    token: str | None = attrs.field(repr=False)
    hosts: tuple[str, ...] = ()
    author: str = "http"
    read_only: bool = False

    def admits(self, authorization: str) -> bool:
        """Return whether an ``Authorization`` header has the token."""
        if self.token is None:
            return True
        given, expected = authorization.encode(), f"Bearer {self.token}".encode()
        return hmac.compare_digest(given, expected)

    def knows(self, host: str) -> bool:
        """Return whether requests may use a host name."""
        name = re.sub(r":\d+$", "", host).lower()
        return not self.hosts or name in self.hosts
