"""`exchange`: a request over a connected socket, and its answer. Standard library only.

It replaces `http.client`, as importing that takes longer than a process takes to answer. It uses
HTTP/1.0, where an answer ends with the connection.
"""

from __future__ import annotations

import socket
from io import BufferedReader
from typing import NamedTuple


class BadAnswer(Exception):
    """The answer is not HTTP, or incomplete."""


class Answer(NamedTuple):
    """An answer whose head has been read."""

    status: int
    reason: str
    length: int | None
    """How many bytes the body has, if the head says so."""
    body: BufferedReader

    def read(self) -> bytes:
        """Return the body.

        Raises:
          BadAnswer: if it is cut off.
        """
        data = self.body.read() if self.length is None else self.body.read(self.length)
        if len(data) < (self.length or 0):
            raise BadAnswer(f"the answer was cut off after {len(data)} of {self.length} bytes")
        return data


def exchange(connected: socket.socket, method: str, path: str, body: bytes | None) -> Answer:
    """Send a request, and return the answer, whose body is yet to be read.

    Raises:
      BadAnswer: if the answer is not HTTP.
    """
    head = [f"{method} {path} HTTP/1.0", "Host: localhost"]
    if body is not None:
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    connected.sendall("\r\n".join([*head, "", ""]).encode("ascii") + (body or b""))
    return _read_head(connected.makefile("rb"))


def _read_head(stream: BufferedReader) -> Answer:
    version, _, status = _line(stream).partition(" ")
    number, _, reason = status.partition(" ")
    if not version.startswith("HTTP/1.") or not number.isdecimal():
        raise BadAnswer("the answer is not HTTP")
    length = None
    while line := _line(stream):
        name, _, value = line.partition(":")
        if name.lower() == "content-length" and value.strip().isdecimal():
            length = int(value)
    return Answer(int(number), reason, length, stream)


def _line(stream: BufferedReader) -> str:
    line = stream.readline(65_536)
    if not line.endswith(b"\n"):
        raise BadAnswer("the connection was closed without an answer")
    return line.decode("latin-1").strip()
