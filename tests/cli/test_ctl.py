"""``turnstile ctl``: which process is asked, what is sent, and what is printed of the answer."""

from __future__ import annotations

import json
import os
import pwd
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

import pytest

import trio_turnstile.cli._ctl_orders as orders
import trio_turnstile.cli._processes as processes
from testkit.documents import decision, error, limiter, override, run, state, step

ME = pwd.getpwuid(os.getuid()).pw_name
SERVICE = {"version": "1", "run": {"pid": 1, "name": "fake", "started": 0.0}, "now": 60.0}


class Service(ThreadingMixIn, UnixStreamServer):
    """A server that always sends the same documents, and keeps the requests that it received."""

    daemon_threads = True

    def __init__(self, path: Path, answers: dict[str, Any]) -> None:
        self.answers = {"GET /": SERVICE, **answers}
        self.sent: list[tuple[str, Any]] = []
        super().__init__(str(path), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def _answer(self) -> None:
        length = int(self.headers["Content-Length"] or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        asked = f"{self.command} {self.path.removeprefix('/api/v1')}"
        self.server.sent.append((asked, body))
        answer = self.server.answers.get(asked, (404, {"error": f"there is no {asked}"}))
        status, document = answer if isinstance(answer, tuple) else (200, answer)
        self.send_response(status)
        self.end_headers()
        text = document if isinstance(document, str) else json.dumps(document)
        self.wfile.write(text.encode())

    do_GET = do_POST = do_PATCH = _answer

    def address_string(self) -> str:
        return "a socket"

    def log_message(self, *_: object) -> None:
        pass


Serve = Callable[..., Service]


@pytest.fixture(autouse=True)
def folder(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for control sockets, empty at first; ctl looks into it only once."""
    monkeypatch.setattr(processes, "_SOON", 0.0)
    folder = runtime / "turnstile"
    folder.mkdir()
    return folder


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    services: list[Service] = []

    def start(answers: dict[str, Any] | None = None, pid: int = 1) -> Service:
        services.append(Service(folder / f"{pid}.sock", answers or {}))
        return services[-1]

    yield start
    for service in services:
        service.close()


def answer(text: str = "8 to 20", *, applied: bool = True, name: str = "work") -> Any:
    told = decision(text, applied=applied)
    return {"limiter": limiter(name), "decision": told, "applied": applied, "dry_run": False}


# ---- which process is asked ----


def test_the_only_process_is_found(call: Any, serve: Serve) -> None:
    """It is found silently, even if other processes have left their sockets behind."""
    serve({"GET /limiters": []}, pid=7)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(Path(os.environ["XDG_RUNTIME_DIR"], "turnstile", "8.sock")))
    assert call("ctl", "list").out == "no limiters\n"


def test_one_of_several_has_to_be_chosen(call: Any, serve: Serve) -> None:
    """The message lists the processes, and says how to choose one."""
    serve(pid=7)
    serve(pid=12).answers["GET /limiters"] = []
    serve({"GET /": "garbage"}, pid=13)
    result = call("ctl", "list")
    assert result.status == 2
    assert "3 processes are running" in result.err
    assert "  --pid 7 fake, since" in result.err
    assert "  --pid 13 (it does not answer)" in result.err
    assert call("ctl", "list", "--pid", 12).status == 0


def test_a_socket_elsewhere_can_be_named(call: Any, tmp_path: Path) -> None:
    """The option takes its path."""
    service = Service(tmp_path / "mine", {"GET /limiters": []})
    assert call("ctl", "list", "--socket", tmp_path / "mine").status == 0
    service.close()


@pytest.mark.parametrize("options", [[], ["--pid", "7"], ["--socket", "gone"]])
def test_if_nobody_answers_the_status_is_3(call: Any, here: Path, options: list[str]) -> None:
    """This is so whether or not a process is named."""
    result = call("ctl", "list", *options)
    assert (result.status, result.out) == (3, "")
    assert "nobody answers" in result.err


def test_a_process_that_does_not_answer_is_given_up(
    call: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suspended process still accepts connections, but does not answer."""
    monkeypatch.setattr("trio_turnstile.cli._client.Client.__init__.__defaults__", (0.01,))
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(str(folder / "7.sock"))
        stopped.listen()
        result = call("ctl", "list")
    assert result.status == 3
    assert "is the process suspended?" in result.err


def test_a_process_that_has_just_been_started_is_waited_for(
    call: Any, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``turnstile run ... & turnstile ctl list`` finds it."""
    monkeypatch.setattr(processes, "_SOON", 60.0)
    looks = []

    def find_later() -> list[processes.Process]:
        looks.append(1)
        if len(looks) == 2:
            serve({"GET /limiters": []})
        return find()

    find = processes.find_processes
    monkeypatch.setattr(processes, "find_processes", find_later)
    assert call("ctl", "list").status == 0


@pytest.mark.parametrize("text", ["no JSON", "[]", '"text"'])
def test_another_server_than_ours_is_no_harm(call: Any, serve: Serve, text: str) -> None:
    """It counts as no answer."""
    serve({"GET /limiters": (500, text)})
    assert call("ctl", "list").status == 3


# ---- what is sent ----


@pytest.mark.parametrize(
    ("arguments", "asked", "body"),
    [
        (["up"], "POST /up", {}),
        (["up", "work"], "POST /limiters/work/up", {}),
        (["down", "a/b", "--note", "why"], "POST /limiters/a%2Fb/down", {"note": "why"}),
        (["set", "work", "20"], "PATCH /limiters/work", {"limit": 20}),
        (
            ["set", "work", "20", "--for", "10m", "--dry-run"],
            "PATCH /limiters/work",
            {"limit": 20, "seconds": 600.0, "dry_run": True},
        ),
        (["pause", "--for", "1h"], "POST /pause", {"seconds": 3600.0}),
        (["pause", "work"], "POST /limiters/work/pause", {}),
        (["resume", "work"], "POST /limiters/work/resume", {}),
        (["resume"], "POST /resume", {}),
        (["release", "work"], "POST /limiters/work/release", {}),
    ],
)
def test_a_change_is_sent_with_its_author(
    call: Any, serve: Serve, arguments: list[str], asked: str, body: dict[str, Any]
) -> None:
    """The author is the user; the note, the time and other options are sent as given."""
    service = serve({asked: answer()})
    assert call("ctl", *arguments).status == 0
    assert service.sent[-1] == (asked, {"by": ME, **body})


PLAIN = [
    ["up", "work"],
    ["down", "a/b", "--note", "why not", "--pid", "7"],
    ["set", "work", "20", "--json"],
    ["set", "--for", "10m", "work", "--dry-run", "0"],
    ["pause", "work", "--for", "250ms"],
    ["release", "work", "--note", "x"],
]


@pytest.mark.parametrize("arguments", PLAIN, ids=" ".join)
def test_a_plain_order_is_read_as_the_parser_reads_it(
    call: Any, serve: Serve, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """The request and the output are the same with and without the parser."""
    asked = [f"POST /limiters/work/{how}" for how in ("up", "pause", "release")]
    asked += ["PATCH /limiters/work", "POST /limiters/a%2Fb/down"]
    service = serve(dict.fromkeys(asked, answer()), pid=7)
    at_once = call("ctl", *arguments)
    assert orders.read_order(["ctl", *arguments]) is not None
    monkeypatch.setattr(orders, "read_order", lambda _: None)
    parsed = call("ctl", *arguments)
    assert (at_once.status, at_once.out) == (parsed.status, parsed.out)
    assert at_once.status == 0
    assert service.sent[-1] == service.sent[-2]


@pytest.mark.parametrize(
    "arguments",
    [
        ["set", "work", "-1"],
        ["set", "work", "many"],
        ["set", "work"],
        ["up", "a", "b"],
        ["up", "work", "--for", "1m"],
        ["pause", "work", "--for", "0"],
        ["pause", "work", "--for", "soon"],
        ["up", "work", "--pid", "x"],
        ["up", "work", "--note"],
        ["up", "work", "--nonsense"],
        ["up", "work", "--json", "--json", "--nonsense"],
    ],
    ids=" ".join,
)
def test_an_order_that_is_not_plain_is_left_to_the_parser(
    call: Any, serve: Serve, arguments: list[str]
) -> None:
    """The parser says what is wrong, and nothing is sent."""
    service = serve()
    result = call("ctl", *arguments)
    assert result.status == 2
    assert "turnstile ctl --help" in result.err
    assert not service.sent


def test_an_order_to_a_limiter_that_is_not_there(call: Any, serve: Serve) -> None:
    """The process lists its limiters; without a process, the exit status is 3."""
    assert call("ctl", "up", "wrk").status == 3
    serve({"POST /limiters/wrk/up": (404, {"error": "there is no wrk; there is: work"})})
    result = call("ctl", "up", "wrk")
    assert (result.status, result.out) == (2, "")
    assert "there is no wrk; there is: work" in result.err


def test_an_order_imports_next_to_nothing(serve: Serve) -> None:
    """The running program follows at once, without waiting for imports of the command."""
    service = serve({"PATCH /limiters/work": answer()})
    code = (
        "import sys, trio_turnstile.cli as cli\n"
        "try: cli.main(['ctl', 'set', 'work', '20'])\n"
        "finally: print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"attr", "cyclopts", "email", "http.client", "inspect", "rich", "ssl", "trio"}
    assert not heavy & set(done.stdout.split())
    assert service.sent[-1][1]["limit"] == 20


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "the connection was closed without an answer"),
        (b"hello\r\n\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "cut off after 2 of 9 bytes"),
    ],
)
def test_what_is_no_answer_is_told(call: Any, folder: Path, text: bytes, why: str) -> None:
    """It happens if a process is killed while it answers."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "7.sock"))
        listening.listen()

        def serve_once() -> None:
            for _ in range(2):  # the first one only looks whether somebody listens
                connected, _ = listening.accept()
                with connected:
                    if connected.recv(65_536):
                        connected.sendall(text)

        thread = threading.Thread(target=serve_once)
        thread.start()
        result = call("ctl", "list")
        thread.join()
    assert result.status == 3
    assert why in result.err


@pytest.mark.parametrize(
    ("arguments", "asked", "body"),
    [
        (["drain"], "POST /runs/work/drain", {}),
        (["drain", "other", "--for", "5"], "POST /runs/other/drain", {"seconds": 5.0}),
        (["cancel"], "POST /runs/work/cancel", {}),
    ],
)
def test_a_run_is_ended(
    call: Any, serve: Serve, arguments: list[str], asked: str, body: dict[str, Any]
) -> None:
    """A single run need not be named; ended runs do not count."""
    runs = [run("old", state="ended"), run("work")]
    service = serve({"GET /runs": runs, asked: {"state": "draining"}})
    result = call("ctl", *arguments)
    assert (result.status, result.out.split()[-1]) == (0, "draining")
    assert service.sent[-1] == (asked, body)


def test_of_several_runs_one_has_to_be_named(call: Any, serve: Serve) -> None:
    """No run is ended."""
    serve({"GET /runs": [run("a"), run("b")]})
    result = call("ctl", "drain")
    assert result.status == 2
    assert "there are 2 runs; name one of them: a, b" in result.err


def test_without_a_run_none_is_ended(call: Any, serve: Serve) -> None:
    """The exit status is that of a refusal."""
    serve({"GET /runs": [run("old", state="ended")]})
    assert call("ctl", "cancel").status == 1


# ---- what is printed ----


def test_the_answer_is_the_decision_with_its_reason(call: Any, serve: Serve) -> None:
    """It is a sentence that says by whom and why."""
    serve({"PATCH /limiters/work": answer("8 to 20: set past every rule (by ana): night")})
    assert call("ctl", "set", "work", 20).out == (
        "work: 8 to 20: set past every rule (by ana): night\n"
    )


def test_a_refusal_has_the_status_1(call: Any, serve: Serve) -> None:
    """The answer says why; with all limiters, one refusal is enough."""
    refused = answer("20: refused by the hold", applied=False, name="b")
    serve({"POST /up": [answer(name="a"), refused], "POST /limiters/b/up": refused})
    assert call("ctl", "up", "b").status == 1
    result = call("ctl", "up")
    assert (result.status, result.out) == (1, "a: 8 to 20\nb: 20: refused by the hold\n")


@pytest.mark.parametrize(("status", "ours"), [(404, 2), (422, 2), (403, 1), (410, 3), (503, 3)])
def test_an_error_of_the_process_is_told(call: Any, serve: Serve, status: int, ours: int) -> None:
    """Its sentence says what would be right; the exit status depends on the kind of error."""
    serve({"GET /limiters/wrk": (status, {"error": "there is no wrk; there is: work"})})
    result = call("ctl", "show", "wrk")
    assert (result.status, result.out) == (ours, "")
    assert "there is no wrk; there is: work" in result.err


def test_the_list_is_a_table(call: Any, serve: Serve) -> None:
    """It has a remark on what bounds a limit."""
    limiters = [
        limiter("work", 8, running=8, waiting=12, override=override(until=0.0)),
        limiter("prepare", 0, paused=True, paused_for=90.0),
        limiter("all", None, ceiling=None),
        limiter("adapted", 3, limited_by="policy"),
    ]
    serve({"GET /limiters": limiters})
    head, *rows = call("ctl", "list").lines
    assert head.split() == ["limiter", "limit", "running", "waiting", "max"]
    assert rows[0].startswith("work         8        8       12   32  set by ana until ")
    assert rows[0].endswith(": night")
    assert rows[1].split(maxsplit=5)[-1] == "paused for 1:30"
    assert rows[2].split() == ["all", "inf", "0", "0", "inf"]
    assert rows[3].split(maxsplit=5)[-1] == "by the policy"


def test_a_part_of_the_list_can_be_asked_for(call: Any, serve: Serve) -> None:
    """It has only the limiters whose names contain a text."""
    serve({"GET /limiters?like=wo": [limiter()]})
    assert len(call("ctl", "list", "wo").lines) == 2


def test_a_long_list_comes_in_pages(call: Any, serve: Serve) -> None:
    """The pages are printed as one list."""
    pages = [[limiter(f"{number:04}") for number in range(at, at + 100)] for at in (0, 100)]
    after: dict[str, list[Any]] = {f"GET /limiters?after={page[-1]['name']}": [] for page in pages}
    serve({**after, "GET /limiters": pages[0], "GET /limiters?after=0099": pages[1]})
    assert len(json.loads(call("ctl", "list", "--json").out)) == 200


def test_one_limiter_is_shown_with_all_that_is_known(call: Any, serve: Serve) -> None:
    """There is a line for each figure."""
    bounds = {"policy": 3, "cap": None}
    serve({"GET /limiters/work": limiter(override=override(), bounds=bounds)})
    lines = [line.split(maxsplit=1) for line in call("ctl", "show", "work").lines]
    assert ["limit", "20"] in lines
    assert ["paused", "no"] in lines
    assert ["bounds", "policy 3, cap inf"] in lines
    assert ["override", "8, set by ana: night"] in lines


def test_decisions_are_told_with_their_time(call: Any, serve: Serve) -> None:
    """A repeated refusal says how often it was made."""
    decisions = [decision("first"), decision("second", repeated=3)]
    serve({"GET /limiters/work/decisions": decisions, "GET /limiters/b/decisions": []})
    lines = call("ctl", "why", "work").lines
    assert [line.partition(" ")[2] for line in lines] == ["work: first", "work: second (4 times)"]
    assert call("ctl", "why", "b").out == "no decisions so far\n"


def test_runs_are_told_with_steps_and_errors(call: Any, serve: Serve) -> None:
    """They show the time, the progress, the counts of the steps and the errors."""
    counts = step("fetch", 12, completed=5, discarded=1, failed=2, in_flight=4, retried=7)
    going = run("crawl", counts, total=100, errors=[error("no", step="fetch")], errors_omitted=1)
    serve({"GET /runs": [going], "GET /runs/crawl": going})
    for arguments in ([], ["crawl"]):
        lines = call("ctl", "runs", *arguments).lines
        assert lines[0] == "crawl: running, 1:00, 8 of 100"
        assert lines[2].split() == ["fetch", "12", "6", "2", "4", "7"]
        assert lines[3:] == ["  fetch: no", "  and 1 more error"]


def test_json_is_what_the_process_has_answered(call: Any, serve: Serve) -> None:
    """The document is printed on one line."""
    serve({"GET /limiters": [limiter()], "POST /up": [answer()]})
    assert json.loads(call("ctl", "list", "--json").out) == [limiter()]
    assert json.loads(call("ctl", "up", "--json").out) == [answer()]


def test_events_are_printed_as_they_come(call: Any, serve: Serve) -> None:
    """Decisions, errors and runs are printed until the process says that it ends."""
    events = [
        ("state", state(limiters=[limiter()])),
        ("decision", decision("8 to 20")),
        ("error", error("exit status 1")),
        ("run", run("crawl", state="ended")),
        ("bye", {}),
    ]
    stream = "".join(f"event: {kind}\ndata: {json.dumps(data)}\n\n" for kind, data in events)
    serve({"GET /events": stream, "GET /events?limiters=a%2Cb": stream})
    result = call("ctl", "watch")
    assert result.status == 0
    assert [line.partition(" ")[2] for line in result.lines] == [
        "work: 8 to 20",
        "work: exit status 1",
        "crawl: ended",
        "the process has ended",
    ]
    first = json.loads(call("ctl", "watch", "a", "b", "--json").lines[0])
    assert (first["event"], first["text"]) == ("decision", "8 to 20")


def test_a_stream_that_breaks_off_has_the_status_3(call: Any, serve: Serve) -> None:
    """The process was killed, so it announced nothing."""
    serve({"GET /events": ": hello\n\n"})
    assert call("ctl", "watch").status == 3


def test_texts_of_others_do_nothing_to_the_terminal(call: Any, serve: Serve) -> None:
    """Control characters are escaped."""
    serve({"GET /limiters": [limiter("\x1b[2J")]})
    assert "\x1b" not in call("ctl", "list").out


# ---- how it starts ----


def test_it_starts_without_what_it_does_not_need() -> None:
    """It imports neither trio nor rich, whose import takes longer than an answer."""
    code = (
        "import sys; import trio_turnstile.cli._ctl as ctl; from trio_turnstile.cli._app import "
        "launch; assert launch(['ctl', 'list', '--socket', 'gone']) == 3; "
        "print({'trio', 'rich.console', 'starlette', 'msgspec', 'asyncio'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_help_is_for_each_command(call: Any) -> None:
    """The help of ctl lists all commands, and each command has its own help."""
    text = call("ctl", "--help").out
    for name in (
        *("list", "show", "up", "down", "set", "pause", "resume", "release"),
        *("drain", "cancel", "why", "runs", "watch"),
    ):
        assert f" {name} " in text
        assert "--json" in call("ctl", name, "--help").out
