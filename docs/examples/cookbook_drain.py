"""Run commands, and shut down gracefully: python cookbook_drain.py COMMANDS UNFINISHED."""

import json
import signal
import sys

import trio

from trio_turnstile import Consumer, JsonLinesReader, Log, Producer, Skip


async def run(command):
    # A session of its own, because Ctrl-C at a terminal reaches all processes of the session.
    await trio.run_process(command, start_new_session=True)


async def stop(running, signals, grace):
    """Drain at the first signal, for ``grace`` seconds at most; cancel at the second."""
    await anext(signals)
    running.drain(trio.current_time() + grace)
    await anext(signals)
    running.cancel()


async def main(commands_file, unfinished_file, grace=30.0):
    commands = Producer(JsonLinesReader(commands_file))
    pipeline = commands | Consumer(run, limiter=2, on_error=[Log(), Skip()])
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            async with pipeline.start() as running:
                nursery.start_soon(stop, running, signals, grace)
            nursery.cancel_scope.cancel()
    report = running.report()
    unfinished = "".join(f"{json.dumps(command)}\n" for command in report["run"].cut_off)
    await trio.Path(unfinished_file).write_text(unfinished)
    return report


if __name__ == "__main__":
    step = trio.run(main, *sys.argv[1:])["run"]
    print(f"{step.completed} done, {step.failed} failed, {step.cancelled} cut off")
