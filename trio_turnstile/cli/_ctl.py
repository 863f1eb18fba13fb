"""``turnstile ctl``: look at a running process, and steer it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from ._arguments import UsageError
from ._client import Client, all_limiters, limiter_path, run_path
from ._ctl_options import Asking, Change, For
from ._ctl_orders import move, set_limit
from ._ctl_text import (
    decision_line,
    event_line,
    limiter_details,
    limiter_lines,
    run_lines,
)
from ._exit_status import REFUSED, UNANSWERED, NotDone

ctl = App(
    name="ctl",
    help="""Look at a running process, and steer it.

    The process is a turnstile run of yours, or a program that serves a control socket. You
    need not name the process if only one is running. Commands that change a limit print the
    decision and its reason. Signals and adaptive policies do not change a limit that you have
    set, until you release it.

    The exit status is 0 if the command was carried out, 1 if the process refused it, for
    example during a hold or at the maximum, 2 if the command was wrong, and 3 if no process
    answered.

    For example:

        turnstile ctl set work 20 --for 8h --note night

        turnstile ctl why work
    """,
)

_ENDING = 1.0
"""How many seconds a process may take to remove its socket after it closes its streams."""

_ASKING, _CHANGE = Asking(), Change()


@ctl.command(name="list")
def list_(like: str = "", /, *, asking: Asking = _ASKING) -> int:
    """List the limiters: their limits, how many operations run, and how many wait.

    Args:
      like: List only those whose names contain this.
      asking: Which process is asked, and how its answer is printed.
    """
    limiters = all_limiters(asking.client(), like or None)
    asking.print(limiters, limiter_lines(limiters))
    return 0


@ctl.command
def show(limiter: str, /, *, asking: Asking = _ASKING) -> int:
    """Show everything about one limiter.

    Args:
      limiter: Its name.
      asking: Which process is asked, and how its answer is printed.
    """
    document = asking.client().get(limiter_path(limiter))
    asking.print(document, limiter_details(document))
    return 0


@ctl.command
def why(limiter: str, /, *, asking: Asking = _ASKING) -> int:
    """Show the decisions about a limiter, oldest first: what, when, by whom and why.

    Args:
      limiter: Its name.
      asking: Which process is asked, and how its answer is printed.
    """
    decisions = asking.client().get(limiter_path(limiter, "decisions"))
    lines = map(decision_line, decisions) if decisions else ["no decisions so far"]
    asking.print(decisions, lines)
    return 0


@ctl.command
def up(
    limiter: str | None = None,
    /,
    *,
    change: Change = _CHANGE,
    asking: Asking = _ASKING,
) -> int:
    """Raise a limit by one step, unless the hold or the maximum forbids it.

    Args:
      limiter: The name of the limiter; without it, all limiters.
      change: What goes with the change.
      asking: Which process is asked, and how its answer is printed.
    """
    return move("up", limiter, change.body(), asking.asked)


@ctl.command
def down(
    limiter: str | None = None,
    /,
    *,
    change: Change = _CHANGE,
    asking: Asking = _ASKING,
) -> int:
    """Lower a limit by one step, unless the hold or the minimum forbids it.

    Args:
      limiter: The name of the limiter; without it, all limiters.
      change: What goes with the change.
      asking: Which process is asked, and how its answer is printed.
    """
    return move("down", limiter, change.body(), asking.asked)


@ctl.command(name="set")
def set_(
    limiter: str,
    limit: Annotated[int, Parameter(validator=Number(gte=0))],
    /,
    *,
    for_: For = None,
    change: Change = _CHANGE,
    asking: Asking = _ASKING,
) -> int:
    """Set a limit regardless of all rules: no signal changes it until turnstile ctl release.

    Args:
      limiter: The name of the limiter.
      limit: How many operations may run at a time.
      for_: How long the limit stays set, as in 10m; without it, until turnstile ctl release.
      change: What goes with the change.
      asking: Which process is asked, and how its answer is printed.
    """
    body = change.body(limit=limit, seconds=for_)
    return set_limit(limiter, body, asking.asked)


@ctl.command
def pause(
    limiter: str | None = None,
    /,
    *,
    for_: For = None,
    change: Change = _CHANGE,
    asking: Asking = _ASKING,
) -> int:
    """Start no more operations; running operations go on.

    Args:
      limiter: The name of the limiter; without it, all limiters.
      for_: How long to pause, as in 10m; without it, until turnstile ctl resume.
      change: What goes with the change.
      asking: Which process is asked, and how its answer is printed.
    """
    return move("pause", limiter, change.body(seconds=for_), asking.asked)


@ctl.command
def resume(
    limiter: str | None = None,
    /,
    *,
    change: Change = _CHANGE,
    asking: Asking = _ASKING,
) -> int:
    """End a pause.

    Args:
      limiter: The name of the limiter; without it, all limiters.
      change: What goes with the change.
      asking: Which process is asked, and how its answer is printed.
    """
    return move("resume", limiter, change.body(), asking.asked)


@ctl.command
def release(limiter: str, /, *, change: Change = _CHANGE, asking: Asking = _ASKING) -> int:
    """End what turnstile ctl set began: signals and policies change the limit again.

    Args:
      limiter: The name of the limiter.
      change: What goes with the change.
      asking: Which process is asked, and how its answer is printed.
    """
    return move("release", limiter, change.body(), asking.asked)


@ctl.command
def runs(run: str | None = None, /, *, asking: Asking = _ASKING) -> int:
    """Show how far runs have come: their steps, counts and errors.

    Args:
      run: The name of the run; without it, all runs.
      asking: Which process is asked, and how its answer is printed.
    """
    client = asking.client()
    documents = client.get("/runs") if run is None else [client.get(run_path(run))]
    asking.print(documents, run_lines(documents, client.get("/")["now"]))
    return 0


@ctl.command
def drain(run: str | None = None, /, *, for_: For = None, asking: Asking = _ASKING) -> int:
    """Make a run start nothing more, and finish what it has in hand.

    Args:
      run: The name of the run; you need not give it if there is only one.
      for_: How long that may take, as in 10m; operations still in hand are then cancelled.
      asking: Which process is asked, and how its answer is printed.
    """
    return _end("drain", run, for_, asking)


@ctl.command
def cancel(run: str | None = None, /, *, asking: Asking = _ASKING) -> int:
    """End a run now: operations in hand are cancelled and cleaned up.

    Args:
      run: The name of the run; you need not give it if there is only one.
      asking: Which process is asked, and how its answer is printed.
    """
    return _end("cancel", run, None, asking)


@ctl.command
def watch(*limiters: str, asking: Asking = _ASKING) -> int:
    """Print decisions, errors and ends of runs as they come, until the process ends.

    Args:
      limiters: The names of the limiters to watch; without them, all limiters.
      asking: Which process is asked, and how its answer is printed.
    """
    client = asking.client()
    last = ""
    for kind, document in client.events(limiters=",".join(limiters) or None):
        last = kind
        line = event_line(kind, document, time.time())
        if line is not None:
            asking.print({"event": kind, **document}, [line])
    if last != "bye":
        _print_end(client, asking)
    return 0


# ---- inside ----


def _print_end(client: Client, asking: Asking) -> None:
    """Print the end of a process that closed its streams without announcing it.

    Raises:
      NotDone: if its socket is still there, as after a kill.
    """
    deadline = time.monotonic() + _ENDING
    while Path(client.path).exists():
        if time.monotonic() >= deadline:
            raise NotDone("the process disappeared without ending its events", UNANSWERED)
        time.sleep(0.01)
    asking.print({"event": "bye"}, [str(event_line("bye", {}, time.time()))])


def _end(how: str, run: str | None, seconds: float | None, asking: Asking) -> int:
    client = asking.client()
    name = _only_run(client) if run is None else run
    body = {} if seconds is None else {"seconds": seconds}
    document = client.post(run_path(name, how), body)
    asking.print(document, [f"{name}: {document['state']}"])
    return 0


def _only_run(client: Client) -> str:
    names = [str(run["id"]) for run in client.get("/runs") if run["state"] != "ended"]
    if len(names) == 1:
        return names[0]
    if not names:
        raise NotDone("there is no run", REFUSED)
    raise UsageError(f"there are {len(names)} runs; name one of them: {', '.join(names)}")
