"""A server that sheds load and shuts down gracefully: python recipe_server.py PORT."""

import signal
import sys
from contextlib import suppress
from functools import partial

import trio

from trio_turnstile import Limiter, Saturated, Throttle


async def answer(line):
    await trio.sleep(0.01)  # stands for the work
    return line.upper()


async def serve(work, stream):
    """Answer one line with another, until the client hangs up."""
    buffer = b""
    with suppress(trio.BrokenResourceError):  # the client went away
        async for data in stream:
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                try:
                    async with work:
                        await stream.send_all(await answer(line) + b"\n")
                except Saturated:
                    await stream.send_all(b"busy\n")


async def main(port=0, grace=10.0, *, task_status=trio.TASK_STATUS_IGNORED):
    work = Limiter("work", 20, max_waiting=100, throttle=Throttle(min=0))
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as listening:
                listeners = await listening.start(
                    partial(trio.serve_tcp, handler_nursery=connections),
                    partial(serve, work),
                    port,
                )
                task_status.started(listeners)
                await anext(signals)
                listening.cancel_scope.cancel()  # accept no more connections
            work.total_tokens = 0  # begin nothing more
            with trio.move_on_after(grace) as scope:
                await work.wait_idle()  # finish the work that has begun
            connections.cancel_scope.cancel()
    return not scope.cancelled_caught


if __name__ == "__main__":
    print("all answered" if trio.run(main, int(sys.argv[1])) else "some were cut off")
