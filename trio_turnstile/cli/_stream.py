"""The events of a running process, read from its control socket with trio."""

from __future__ import annotations

from collections.abc import Callable

import h11
import trio

from ._client import PREFIX, Document, EventParser

_CHUNK = 65536


async def follow(path: str, take: Callable[[str, Document], object]) -> None:
    """Call ``take`` with the kind and the document of each event, until the connection ends.

    Raises:
      OSError: if nobody listens at the socket.
      trio.BrokenResourceError: if the connection is cut.
      h11.RemoteProtocolError: if the answer is not a stream of events.
    """
    connection = h11.Connection(our_role=h11.CLIENT)
    request = h11.Request(
        method="GET", target=f"{PREFIX}/events?every=1", headers=[("Host", "localhost")]
    )
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(connection.send(request) or b"")
        await stream.send_all(connection.send(h11.EndOfMessage()) or b"")
        await _read(connection, stream, take)


async def _read(
    connection: h11.Connection, stream: trio.SocketStream, take: Callable[[str, Document], object]
) -> None:
    parser, rest = EventParser(), b""
    while True:
        match event := connection.next_event():
            case h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(_CHUNK))
            case h11.Data():
                *lines, rest = (rest + event.data).split(b"\n")
                for line in lines:
                    if news := parser.take(line.decode()):
                        take(*news)
            case h11.Response() if event.status_code != 200:
                raise h11.RemoteProtocolError(f"the answer is {event.status_code}")
            case h11.EndOfMessage() | h11.ConnectionClosed():
                return
