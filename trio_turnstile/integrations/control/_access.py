"""`Access`: what is asked of those who come in by one listener.

Trust follows from the listener that a request came in by, and never from what the request
says. So each listener has an application of its own, with an `Access` of its own.
"""

from __future__ import annotations

import hmac
import re
from typing import final

import attrs

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""The names by which a browser on the same machine may ask. A page from elsewhere that has its
own name point here, to get by the browser's rules, uses that name."""


@final
@attrs.frozen
class Access:
    """What is asked of those who come in by one listener.

    Args:
      token: the secret that each request has to bring as ``Authorization: Bearer ...``, to read
        and to change; ``None`` if the listener itself lets nobody else in.
      hosts: the names by which it may be asked; none for any.
      author: who is said to have made a change, if an order does not say.
      read_only: whether orders are refused.
    """

    token: str | None = attrs.field(repr=False)
    hosts: tuple[str, ...] = ()
    author: str = "http"
    read_only: bool = False

    def admits(self, authorization: str) -> bool:
        """Return whether such a header brings the token."""
        if self.token is None:
            return True
        given, expected = authorization.encode(), f"Bearer {self.token}".encode()
        return hmac.compare_digest(given, expected)

    def knows(self, host: str) -> bool:
        """Return whether it may be asked by that name."""
        name = re.sub(r":\d+$", "", host).lower()
        return not self.hosts or name in self.hosts
