"""The page as an ASGI application: our own files, and a package that draws charts.

The page holds the token of an operator while it is open. So the script that draws the charts is
served only if its hash shows that it is the one we have examined. The page works without it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

_LOG = logging.getLogger("trio_turnstile.dashboard")

_KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

CHARTS = {
    "uplot.iife.min.js": "2d27e8ad3d228164525ce213f9dc716f39b4e3aee0cc773fb3491c96cf4921a2",
    "uplot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}
"""The SHA-256 of the files of uPlot 1.6.31, as they are in its npm package and in youplot 1.0.0."""


def address(port: int, token: str) -> str:
    """Return the address of the page for a browser on this machine, with the token.

    The token comes after the ``#``; browsers do not send that part to servers. The page keeps the
    token until its tab is closed, and removes it from the address.
    """
    return f"http://127.0.0.1:{port}/#token={quote(token, safe='')}"


def make_page() -> ASGIApp:
    """Make the page, as ``page`` of `trio_turnstile.integrations.control.serve_control`."""
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    charts = _chart_files()
    found = {**_own_files(), **charts}
    if not charts:
        lines = found["index.html"].splitlines(keepends=True)
        found["index.html"] = b"".join(line for line in lines if b"uplot" not in line)

    async def answer(request: Request) -> Response:
        name = request.path_params.get("name") or "index.html"
        if name not in found:
            return Response("not found", 404, media_type="text/plain")
        return Response(found[name], media_type=_KINDS[name.rsplit(".", 1)[1]])

    return Starlette(routes=[Route("/", answer), Route("/{name}", answer)])


def _own_files() -> dict[str, bytes]:
    folder = files("trio_turnstile.integrations.dashboard").joinpath("static")
    return {each.name: each.read_bytes() for each in folder.iterdir()}


def _chart_files() -> Mapping[str, bytes]:
    """Return the files that draw charts; none if they are missing or were changed."""
    try:
        vendor: Traversable = files("youplot").joinpath("vendor")
        found = {name: vendor.joinpath(name).read_bytes() for name in CHARTS}
    except (ModuleNotFoundError, OSError):
        _LOG.warning("the page has no charts: youplot is not installed, see the extra dashboard")
        return {}
    for name, expected in CHARTS.items():
        if hashlib.sha256(found[name]).hexdigest() != expected:
            _LOG.warning("the page has no charts: %s is not the file that we examined", name)
            return {}
    return found
