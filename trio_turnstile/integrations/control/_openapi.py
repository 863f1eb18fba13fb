"""The OpenAPI document of the API, from the table of operations and the documents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

import trio_turnstile

from ._documents import ProblemDoc, StateDoc
from ._operations import PREFIX, Operation
from ._queries import EventsQuery

REFERENCE = "#/components/schemas/{name}"


def openapi(operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the document, ready to be encoded as JSON."""
    operations = tuple(operations)
    types = {t for op in operations for t in (op.answer, op.order) if t is not None} | {StateDoc}
    ordered = sorted([*types, ProblemDoc], key=str)
    found, components = msgspec.json.schema_components(ordered, ref_template=REFERENCE)
    schemas = dict(zip(ordered, found, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = paths.setdefault(PREFIX + operation.path, {})
        path[operation.method.lower()] = _described(operation, schemas)
    paths[PREFIX + "/events"] = {"get": _STREAM}
    return {
        "openapi": "3.1.0",
        "info": {"title": "trio_turnstile", "version": trio_turnstile.__version__},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _described(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [*_in_path(operation.path), *_in_query(operation.query)],
        "responses": {
            "200": _content("the result", schemas[operation.answer]),
            "default": _content("what is wrong", schemas[ProblemDoc]),
        },
    }
    if operation.order is not None:
        described["requestBody"] = _content("the order", schemas[operation.order])
    return described


def _content(description: str, schema: Any) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _in_path(path: str) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ]


def _in_query(query: type[msgspec.Struct] | None) -> list[dict[str, Any]]:
    if query is None:
        return []
    _, components = msgspec.json.schema_components([query], ref_template=REFERENCE)
    [schema] = components.values()
    return [
        {"name": name, "in": "query", "required": False, "schema": parameter}
        for name, parameter in schema["properties"].items()
    ]


_STREAM = {
    "operationId": "events",
    "summary": "Changes, as server-sent events.",
    "description": "`state`: what has changed since the last state, as a StateDoc. `decision`: a "
    "DecisionDoc. `error`: a RunErrorDoc. `run`: a RunDoc, when a run begins and when it ends. "
    "`omitted`: how many events a client that was away has missed. `bye`: the end. With the header "
    "Last-Event-ID, a client asks for the events after a given one.",
    "parameters": _in_query(EventsQuery),
    "responses": {"200": {"description": "the stream", "content": {"text/event-stream": {}}}},
}
