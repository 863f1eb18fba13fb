"""`Client`: asks a running process over its control socket.

It needs only the standard library: importing more for one question would take longer than the
answer.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn, TypeAlias, final
from urllib.parse import quote, urlencode

from ._arguments import UsageError
from ._exchange import Answer, BadAnswer, exchange
from ._exit_status import REFUSED, UNANSWERED, NotDone

PREFIX = "/api/v1"

TIMEOUT = 10.0
"""Seconds to wait for an answer."""

_PAGE = 100
"""If there are more limiters, a page has at least this many."""

Document: TypeAlias = dict[str, Any]
"""A JSON object."""

_OF_THE_CALLER = (400, 404, 405, 413, 422)
_REFUSALS = (401, 403, 409)


@final
class Client:
    """Asks one running process.

    Args:
      path: the control socket of the process.
      timeout: seconds to wait for each answer.
    """

    def __init__(self, path: str, timeout: float = TIMEOUT) -> None:
        self.path = path
        self._timeout = timeout

    def get(self, path: str, **query: object) -> Any:
        """Return the document at a path.

        Raises:
          UsageError: if there is no such document, as for a limiter that does not exist.
          NotDone: if the process refuses, or does not answer.
        """
        return self._ask("GET", with_query(path, query), None)

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        """Ask for an action, and return the answer; raises the same errors as `get`."""
        return self._ask("POST", path, body)

    def patch(self, path: str, body: Mapping[str, object]) -> Any:
        """Ask to set a value, and return the answer; raises the same errors as `get`."""
        return self._ask("PATCH", path, body)

    def events(self, **query: object) -> Iterator[tuple[str, Document]]:
        """Yield the events of the process as they come, each with its kind.

        It ends with the connection. Raises the same errors as `get`.
        """
        with self._answer("GET", with_query("/events", query), None) as (answer, connection):
            if answer.status >= 400:
                self._complain(answer)
            connection.settimeout(None)
            parser = EventParser()
            for line in answer.body:
                if event := parser.take(line.decode()):
                    yield event

    def _ask(self, method: str, path: str, body: Mapping[str, object] | None) -> Any:
        with self._answer(method, path, body) as (answer, _):
            if answer.status >= 400:
                self._complain(answer)
            return json.loads(answer.read())

    @contextmanager
    def _answer(
        self, method: str, path: str, body: Mapping[str, object] | None
    ) -> Iterator[tuple[Answer, socket.socket]]:
        with socket.socket(socket.AF_UNIX) as connected:
            connected.settimeout(self._timeout)
            try:
                connected.connect(self.path)
                text = None if body is None else json.dumps(body).encode()
                answer = exchange(connected, method, PREFIX + path, text)
                with answer.body:
                    yield answer, connected
            except (OSError, BadAnswer, ValueError) as error:
                raise NotDone(self._no_answer(error), UNANSWERED) from None

    def _no_answer(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer from {self.path} in {self._timeout:g} s: is the process suspended?"
        why = error.strerror if isinstance(error, OSError) else None
        return f"nobody answers at {self.path}: {why or error}"

    def _complain(self, answer: Answer) -> NoReturn:
        text = answer.read().decode(errors="replace")
        try:
            text = str(json.loads(text)["error"])
        except (ValueError, KeyError, TypeError):  # from some other server
            text = f"{answer.status} {answer.reason}"
        if answer.status in _OF_THE_CALLER:
            raise UsageError(text)
        raise NotDone(text, REFUSED if answer.status in _REFUSALS else UNANSWERED)


def all_limiters(client: Client, like: str | None = None) -> list[Document]:
    """Return the documents of all limiters, or of those whose names contain a text."""
    found: list[Document] = []
    while page := client.get("/limiters", like=like, after=found[-1]["name"] if found else None):
        found += page
        if len(page) < _PAGE:
            break
    return found


def with_query(path: str, query: Mapping[str, object]) -> str:
    """Return a path with the parts of a query that are not ``None``."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def limiter_path(name: str, *rest: str) -> str:
    """Return the path of a limiter, whatever its name contains."""
    return "/".join(["/limiters", quote(name, safe=""), *rest])


def run_path(name: str, *rest: str) -> str:
    """Return the path of a run, whatever its name contains."""
    return "/".join(["/runs", quote(name, safe=""), *rest])


@final
class EventParser:
    """Parses the lines of a stream of server-sent events."""

    def __init__(self) -> None:
        self._kind, self._data = "message", list[str]()

    def take(self, line: str) -> tuple[str, Document] | None:
        """Take a line; return the kind and the document of the event that ends with it."""
        name, _, value = line.rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._kind = value
        elif name == "data":
            self._data.append(value)
        elif not name and not value and self._data:
            event = self._kind, json.loads("\n".join(self._data))
            self._kind, self._data = "message", []
            return event
        return None
