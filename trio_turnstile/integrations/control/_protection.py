"""What enforces the `Access` of a listener, and what browsers are told."""

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
"""What each answer tells a browser: to keep nothing, and to let nobody else near it."""

_ENCODED = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


@final
@attrs.frozen
class Hardened:
    """Answers only those who use the right name, and protects each answer from other pages."""

    _app: ASGIApp
    _access: Access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as ASGI has it."""

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
                app = problem(400, f"nobody of the name {host[:100]!r} is here")
        await app(scope, receive, send_hardened)


@final
@attrs.frozen
class Protected:
    """Lets only those in who bring the token, and no page of another origin."""

    _app: ASGIApp
    _access: Access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as ASGI has it."""
        await (self._refusal(scope) or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        if not _from_same_origin(scope):
            return problem(403, "this was asked by a page from elsewhere")
        if not self._access.admits(_header(scope, b"authorization")):
            return problem(401, "this needs the token: Authorization: Bearer ...")
        if self._access.read_only and scope["method"] not in ("GET", "HEAD"):
            return problem(403, "nothing can be changed here: it is served read-only")
        return None


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
