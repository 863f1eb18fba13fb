"""Replies: documents as JSON."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from ._documents import ProblemDoc

encode = msgspec.json.Encoder().encode


def reply(document: Any, status: int = 200) -> Response:
    """Return a document as an answer."""
    return Response(encode(document), status, media_type="application/json")


def problem(status: int, error: str) -> Response:
    """Return an answer that says what is wrong."""
    return reply(ProblemDoc(error), status)
