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

    The process is a turnstile run of yours, or a program that serves a control socket. If only
    one is running, it need not be named. What changes is answered by the decision and its
    reason. An override sticks: what adapts a limit goes no further than it.

    The exit status is 0 if it was done, 1 if the process refused, as while a hold lasts or at
    the maximum, 2 if the command was wrong, and 3 if no process has answered.

    For example:

        turnstile ctl set work 20 --for 8h --note night

        turnstile ctl why work
    """,
)

_ENDING = 1.0
"""Seconds in which a process that has closed its streams removes its socket."""

_ASKING, _CHANGE = Asking(), Change()


@ctl.command(name="list")
def list_(like: str = "", /, *, asking: Asking = _ASKING) -> int:
    """List the limiters: their limits, how many run, and how many wait.

    Args:
      like: List only those whose names contain this.
      asking: Which process is asked, and how its answer is printed.
    """
    limiters = all_limiters(asking.client(), like or None)
    asking.print(limiters, limiter_lines(limiters))
    return 0


@ctl.command
def show(limiter: str, /, *, asking: Asking = _ASKING) -> int:
    """Show all that is known of one limiter.

    Args:
      limiter: Its name.
      asking: Which process is asked, and how its answer is printed.
    """
    document = asking.client().get(limiter_path(limiter))
    asking.print(document, limiter_details(document))
    return 0


@ctl.command
def why(limiter: str, /, *, asking: Asking = _ASKING) -> int:
    """Show the decisions on a limiter, oldest first: what, when, by whom and why.

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
    """Raise a limit by one step, unless the hold or the maximum refuses that.

    Args:
      limiter: The name of the limiter; without it, all of them.
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
    """Lower a limit by one step, unless the hold or the minimum refuses that.

    Args:
      limiter: The name of the limiter; without it, all of them.
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
    """Set a limit past every rule: it sticks, and no signal moves it until release ends it.

    Args:
      limiter: The name of the limiter.
      limit: How many may run at a time.
      for_: How long it holds, as 10m; without it until turnstile ctl release.
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
    """Let nothing more begin; what runs goes on.

    Args:
      limiter: The name of the limiter; without it, all of them.
      for_: How long, as 10m; without it until turnstile ctl resume.
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
      limiter: The name of the limiter; without it, all of them.
      change: What goes with the change.
      asking: Which process is asked, and how its answer is printed.
    """
    return move("resume", limiter, change.body(), asking.asked)


@ctl.command
def release(limiter: str, /, *, change: Change = _CHANGE, asking: Asking = _ASKING) -> int:
    """End what set has set: signals and policies move the limit again.

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
      run: The name of the run; without it, all of them.
      asking: Which process is asked, and how its answer is printed.
    """
    client = asking.client()
    documents = client.get("/runs") if run is None else [client.get(run_path(run))]
    asking.print(documents, run_lines(documents, client.get("/")["now"]))
    return 0


@ctl.command
def drain(run: str | None = None, /, *, for_: For = None, asking: Asking = _ASKING) -> int:
    """Let a run begin nothing more, and finish what it has in hand.

    Args:
      run: The name of the run; it need not be given if there is only one.
      for_: How long that may take, as 10m; then what is still in hand is cancelled.
      asking: Which process is asked, and how its answer is printed.
    """
    return _end("drain", run, for_, asking)


@ctl.command
def cancel(run: str | None = None, /, *, asking: Asking = _ASKING) -> int:
    """End a run now: what it has in hand is cancelled and cleaned up.

    Args:
      run: The name of the run; it need not be given if there is only one.
      asking: Which process is asked, and how its answer is printed.
    """
    return _end("cancel", run, None, asking)


@ctl.command
def watch(*limiters: str, asking: Asking = _ASKING) -> int:
    """Print decisions, errors and ends of runs as they come, until the process ends.

    Args:
      limiters: The names of the limiters to watch; without them, all of them.
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
    """Say that a process has ended that had no time to say so itself.

    Raises:
      NotDone: if it has left its socket, as one that was killed.
    """
    deadline = time.monotonic() + _ENDING
    while Path(client.path).exists():
        if time.monotonic() >= deadline:
            raise NotDone("the process has gone without a word", UNANSWERED)
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
    raise UsageError(f"there are {len(names)} runs, so name one: {', '.join(names)}")
