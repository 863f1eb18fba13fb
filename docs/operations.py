"""Writes the operations of the control API, from its OpenAPI document, for docs/control.rst.

``python docs/operations.py > docs/operations.rst``; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trio_turnstile.integrations.control._openapi import openapi
from trio_turnstile.integrations.control._operations import OPERATIONS

HEAD = ".. Written by docs/operations.py from the OpenAPI document. Do not edit.\n"


def main() -> None:
    document = openapi(OPERATIONS)
    print(HEAD)
    print(".. list-table::\n   :header-rows: 1\n   :widths: 46 54\n")
    print("   * - ask\n     - answer")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            print(f"   * - ``{method.upper()} {path}``")
            print(f"     - {'; '.join(said(operation))}")
    print("\nThe documents:\n")
    for name, schema in document["components"]["schemas"].items():
        print(f"``{name}``")
        print(f"   {schema.get('description', '').strip()}\n")
        for field, kind in schema.get("properties", {}).items():
            required = "" if field in schema.get("required", ()) else ", may be left out"
            about = f": {kind['description']}" if "description" in kind else ""
            print(f"   - ``{field}`` ({shown(kind)}{required}){about}")
        print()


def said(operation: dict[str, Any]) -> Iterator[str]:
    """Give what there is to be said of an operation."""
    summary = operation["summary"].rstrip(".")
    body = operation.get("requestBody")
    answer = shown(schema_of(operation["responses"]["200"]))
    yield summary + (f" → ``{answer}``" if answer else "")
    query = [each["name"] for each in operation["parameters"] if each["in"] == "query"]
    if query:
        yield "query: " + ", ".join(f"``{name}``" for name in query)
    if body is not None:
        yield f"body: ``{shown(schema_of(body))}``"


def schema_of(content: dict[str, Any]) -> dict[str, Any]:
    [found] = content["content"].values()
    return dict(found.get("schema", {}))


def shown(schema: dict[str, Any]) -> str:
    """Return a type in words."""
    match schema:
        case {"$ref": reference}:
            return str(reference).rpartition("/")[2]
        case {"anyOf": kinds}:
            return " or ".join(sorted(map(shown, kinds), key="null".__eq__))
        case {"enum": values}:
            return " or ".join(f'"{value}"' for value in values)
        case {"type": "array", "items": kind}:
            return f"list of {shown(kind)}"
        case {"type": "object", "additionalProperties": kind}:
            return f"object of {shown(kind)}"
        case _:
            return str(schema.get("type", ""))


if __name__ == "__main__":
    main()
