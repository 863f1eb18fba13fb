"""``turnstile run --dry-run``: the commands are printed, ready for a shell."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping

import trio

from trio_turnstile import Phase

from ._columns import Input
from ._exit_status import status_of_signal
from ._inputs import Inputs, describe_input_error
from ._output import write_all
from ._template import Template, quote_visibly


async def print_commands(commands: Mapping[Phase, Template], inputs: Inputs[Input]) -> int:
    """Print the commands for each input, and return the exit status."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inputs.read)
        status = await _print_each(commands, inputs)
        nursery.cancel_scope.cancel()
    return status


async def _print_each(commands: Mapping[Phase, Template], inputs: Inputs[Input]) -> int:
    try:
        async for given in inputs:
            lines = [
                template.fill(given, inputs.taken, quoted=quote_visibly)
                for template in commands.values()
            ]
            try:
                write_all(1, os.fsencode("\n".join(lines) + "\n"))
            except OSError as error:
                return _lost(error)
    except (OSError, ValueError) as error:
        print(f"turnstile: {describe_input_error(error)}", file=sys.stderr)
        return 1
    return 0


def _lost(error: OSError) -> int:
    if not isinstance(error, BrokenPipeError):
        print(f"turnstile: cannot write to standard output: {error.strerror}", file=sys.stderr)
        return 1
    return status_of_signal(signal.SIGPIPE)
