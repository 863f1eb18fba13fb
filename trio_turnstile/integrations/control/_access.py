"""Who may read and who may change: `Access`, which belongs to a listener, and what enforces it.

Trust follows from the listener that a request came in by, and never from what the request
says. So each listener has an application of its own, with an `Access` of its own.
"""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING, final

import attrs

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""The names by which a browser on the same machine may ask. A page from elsewhere that has its
own name point here, to get by the browser's rules, uses that name."""

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""What each answer tells a browser: to keep nothing, and to let nobody else near it."""


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


def hardened(app: ASGIApp, access: Access) -> ASGIApp:
    """Answer only those who use the right name, and protect each answer from other pages."""
    from ._replies import problem

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message["headers"]}
                added = [(n.encode(), v.encode()) for n, v in HEADERS.items()]
                added = [header for header in added if header[0] not in own]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        if scope["type"] != "http":
            return
        host = _header(scope, b"host")
        if access.knows(host):
            await app(scope, receive, send_hardened)
        else:
            refusal = problem(400, f"nobody of the name {host[:100]!r} is here")
            await refusal(scope, receive, send_hardened)

    return call


def protected(app: ASGIApp, access: Access) -> ASGIApp:
    """Let only those in who bring the token, and no page of another origin."""
    from ._replies import problem

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        refusal: ASGIApp
        if not _from_same_origin(scope):
            refusal = problem(403, "this was asked by a page from elsewhere")
        elif not access.admits(_header(scope, b"authorization")):
            refusal = problem(401, "this needs the token: Authorization: Bearer ...")
        elif access.read_only and scope["method"] not in ("GET", "HEAD"):
            refusal = problem(403, "nothing can be changed here: it is served read-only")
        else:
            refusal = app
        await refusal(scope, receive, send)

    return call


def _from_same_origin(scope: Scope) -> bool:
    """Whether it was asked by a page of ours, or by no page; a browser tells."""
    if _header(scope, b"sec-fetch-site") not in ("", "same-origin", "none"):
        return False
    origin = _header(scope, b"origin")
    return not origin or origin.partition("://")[2] == _header(scope, b"host")


def _header(scope: Scope, name: bytes) -> str:
    """Return the value of a header; of several, all of them, which then fit nothing."""
    values = [value for header, value in scope["headers"] if header == name]
    return b", ".join(values).decode("latin-1")
