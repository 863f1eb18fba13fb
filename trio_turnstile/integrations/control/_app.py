"""The ASGI application of one listener: its routes, errors and protection."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import msgspec
import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, request_response
from starlette.types import ASGIApp

from ._access import Access
from ._bridge import Bridge, Busy, Gone
from ._desk import Asked, Desk, Unknown
from ._looks import Looks
from ._openapi import openapi
from ._operations import OPERATIONS, PREFIX, Operation
from ._protection import Hardened, Protected
from ._queries import EventsQuery
from ._replies import problem, reply
from ._stream import EventStream

LONGEST_BODY = 1024 * 1024
"""The most bytes of a body; a group of alerts may be long."""

Endpoint = Callable[[Request], Awaitable[Response]]


def make_app(
    desk: Desk,
    bridge: Bridge,
    access: Access,
    *,
    page: ASGIApp | None = None,
    metrics: ASGIApp | None = None,
) -> ASGIApp:
    """Return the application of a listener.

    Args:
      desk: carries out requests.
      bridge: calls the desk in the trio run.
      access: what clients of the listener need.
      page: served at ``/`` and below, to everybody, as it contains nothing about the program.
      metrics: served at ``/metrics``.
    """
    document = openapi(OPERATIONS)
    looks = Looks(desk, bridge)

    async def describe(request: Request) -> Response:
        return reply(document)

    async def healthy(request: Request) -> Response:
        asked = await _asked(request, access, None, None)
        await bridge.call(desk.carry_out, Desk.last_event, asked)
        return reply({"status": "ok"})

    async def listen(request: Request) -> Response:
        asked = await _asked(request, access, EventsQuery, None)
        number = await bridge.call(desk.carry_out, Desk.last_event, asked)
        seen = request.headers.get("last-event-id", "")
        if re.fullmatch("[0-9]{1,18}", seen):
            number = min(int(seen), number)
        return EventStream(looks, asked, number)

    api = _starlette(
        [
            *(_route(operation, desk, bridge, access) for operation in OPERATIONS),
            Route("/events", _answered(listen)),
        ]
    )
    routes: list[BaseRoute] = [
        Route("/healthz", _answered(healthy)),
        Mount(PREFIX, Protected(api, access)),
        Route("/openapi.json", Protected(request_response(describe), access)),
    ]
    if metrics is not None:
        routes.append(Route("/metrics", Protected(metrics, access), methods=["GET"]))
    if page is not None:
        routes.append(Mount("/", page))
    return Hardened(_starlette(routes), access)


def _starlette(routes: list[BaseRoute]) -> Starlette:
    return Starlette(routes=routes, exception_handlers={HTTPException: _not_routed})


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"][:200]
    if error.status_code == 405:
        return problem(405, f"{request.method} is not allowed for {path!r}")
    return problem(error.status_code, f"there is nothing at {path!r}; see /openapi.json")


def _route(operation: Operation, desk: Desk, bridge: Bridge, access: Access) -> Route:
    async def ask(request: Request) -> Response:
        asked = await _asked(request, access, operation.query, operation.order)
        return reply(await operation.over(bridge, desk.carry_out, operation.work, asked))

    path = operation.path.replace("}", ":path}")  # a name may have slashes
    return Route(path, _answered(ask), methods=[operation.method], name=operation.name)


async def _asked(
    request: Request,
    access: Access,
    query: type[msgspec.Struct] | None,
    order: type[msgspec.Struct] | None,
) -> Asked:
    return Asked(
        path=request.path_params,
        query=None
        if query is None
        else msgspec.convert(dict(request.query_params), query, strict=False),
        order=None
        if order is None
        else msgspec.json.decode(await _body(request) or b"{}", type=order),
        author=access.author,
        read_only=access.read_only,
    )


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LONGEST_BODY:
            raise _TooLong
    return body


class _TooLong(Exception):
    pass


def _answered(endpoint: Endpoint) -> Endpoint:
    """Turn the errors of an endpoint into answers that say what is wrong."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Exception as error:
            answer = _problem(error)
            if answer is None:
                raise
            return answer

    return answer


def _problem(error: Exception) -> Response | None:
    """Return the answer to an error; ``None`` if it is a fault of the server."""
    for kinds, status, text in _PROBLEMS:
        if isinstance(error, kinds):
            return problem(status, text or str(error))
    return None


_PROBLEMS: tuple[tuple[tuple[type[Exception], ...], int, str], ...] = (
    ((Unknown,), 404, ""),
    ((Gone, trio.ClosedResourceError), 410, "the turnstile has been closed"),
    ((_TooLong,), 413, f"a body may have {LONGEST_BODY} bytes"),
    ((msgspec.ValidationError,), 422, ""),
    ((msgspec.DecodeError, RecursionError, UnicodeDecodeError), 400, "this is not JSON"),
    ((ClientDisconnect,), 400, "the client has disconnected"),
    ((Busy,), 503, "the program is too busy to answer; try again"),
)
"""The answers to errors: a status, and a text, or an empty one for the text of the error."""
