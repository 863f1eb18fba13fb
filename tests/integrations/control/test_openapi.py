"""The OpenAPI document describes everything that can be asked, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testkit.control import Program, program
from trio_turnstile.integrations.control._openapi import openapi
from trio_turnstile.integrations.control._operations import OPERATIONS

DOCUMENT = openapi(OPERATIONS)
OPERATIONS_OF_IT = [
    (method, path, described)
    for path, methods in DOCUMENT["paths"].items()
    for method, described in methods.items()
]


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from references(each)


async def test_it_is_served(tmp_path: Path) -> None:
    """The document is served as JSON."""
    async with program(tmp_path) as running:
        answer = await running.owner.ask("GET", "/openapi.json")
        assert answer.status == 200
        assert answer.body == json.loads(json.dumps(DOCUMENT))
        assert answer.body["openapi"].startswith("3.1")


def test_all_that_it_refers_to_is_in_it() -> None:
    """All references can be followed, even in documents that are parts of others."""
    schemas = DOCUMENT["components"]["schemas"]
    assert {"LimiterDoc", "OverrideDoc", "ProblemDoc", "SetOrder", "Alert"} <= schemas.keys()
    for reference in references(DOCUMENT):
        assert reference.removeprefix("#/components/schemas/") in schemas


def test_each_operation_has_a_name_and_a_summary() -> None:
    """The names are unique, because clients are generated from them."""
    names = [described["operationId"] for *_, described in OPERATIONS_OF_IT]
    assert len(set(names)) == len(names) == len(OPERATIONS) + 1
    assert all(described["summary"].endswith((".", "?")) for *_, described in OPERATIONS_OF_IT)


def test_what_stands_in_a_path_and_in_a_query_is_described() -> None:
    """Each parameter in a path or a query is described, with the allowed values."""
    history = DOCUMENT["paths"]["/api/v1/limiters/{name}/history"]["get"]
    parameters = {parameter["name"]: parameter for parameter in history["parameters"]}
    assert parameters["name"]["in"] == "path"
    assert parameters["points"]["in"] == "query"
    assert parameters["points"]["schema"]["maximum"] == 5000
    events = DOCUMENT["paths"]["/api/v1/events"]["get"]
    assert "text/event-stream" in events["responses"]["200"]["content"]
    assert {parameter["name"] for parameter in events["parameters"]} == {"limiters", "every"}


@pytest.mark.parametrize(
    ("method", "path"), [(method, path) for method, path, _ in OPERATIONS_OF_IT]
)
async def test_what_it_describes_is_there(tmp_path: Path, method: str, path: str) -> None:
    """Each described operation is answered, even if only with an error."""
    if path.endswith("/events"):
        return  # the answer would never end
    async with program(tmp_path) as running:
        await answers(running, method.upper(), path.format(name="work", id="load"))


async def answers(running: Program, method: str, path: str) -> None:
    answer = await running.owner.ask(method, path, None if method == "GET" else {})
    assert answer.status in (200, 404, 422), answer
    if answer.status == 404:
        assert answer.body["error"].startswith("no run")
