"""Enforces the `Access` of a listener, and sets headers for browsers."""

from __future__ import annotations

from typing import final

import attrs
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ._access import Access
from ._replies import problem

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
"""The headers of each answer: a browser must keep nothing, and give other pages no access."""

_ENCODED = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


@final
@attrs.frozen
class Hardened:
    """Answers only requests with the right host name, and protects answers from other pages."""

    _app: ASGIApp
    _access: Access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as an ASGI application."""

        async def send_hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message["headers"]}
                added = [header for header in _ENCODED if header[0] not in own]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        app = self._app
        if scope["type"] == "http":
            host = _header(scope, b"host")
            if not self._access.knows(host):
                app = problem(400, f"the host name {host[:100]!r} is not allowed here")
        await app(scope, receive, send_hardened)


@final
@attrs.frozen
class Protected:
    """Admits only requests with the token, and not from pages of another origin."""

    _app: ASGIApp
    _access: Access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as an ASGI application."""
        await (self._refusal(scope) or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        if not _from_same_origin(scope):
            return problem(403, "requests from pages of another origin are refused")
        if not self._access.admits(_header(scope, b"authorization")):
            return problem(401, "this needs the token: Authorization: Bearer ...")
        if self._access.read_only and scope["method"] not in ("GET", "HEAD"):
            return problem(403, "nothing can be changed here: the API is served read-only")
        return None


def _from_same_origin(scope: Scope) -> bool:
    """Whether the request is from our own page, or from no page; browsers say so."""
    if _header(scope, b"sec-fetch-site") not in ("", "same-origin", "none"):
        return False
    origin = _header(scope, b"origin")
    return not origin or origin.partition("://")[2] == _header(scope, b"host")


def _header(scope: Scope, name: bytes) -> str:
    """Return the value of a header; several values are joined, so that they match nothing."""
    values = [value for header, value in scope["headers"] if header == name]
    return b", ".join(values).decode("latin-1")
