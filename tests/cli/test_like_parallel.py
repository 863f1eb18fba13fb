"""The command beside GNU parallel: the same options give the same bytes."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

Call = Callable[..., Any]


def is_gnu_parallel() -> bool:
    """Tell whether ``parallel`` is there, and not the one of moreutils."""
    if shutil.which("parallel") is None:
        return False
    run = subprocess.run(["parallel", "--version"], capture_output=True, text=True, check=False)
    return run.stdout.startswith("GNU parallel")


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_gnu_parallel(), reason="GNU parallel is not installed"),
]

SHOW = "printf '[%s]'"
"""With a blank before the ``;`` after it, or GNU parallel repeats the ``;`` for each input."""


@pytest.fixture(autouse=True)
def _files(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))  # parallel keeps files there
    Path("ab").write_text("a\nb\n")
    Path("cde").write_text("c c\nd'd\ne\n")
    Path("csv").write_text("n,m o\n1 , 2\n3,,5,\n\n")
    Path("table").write_text("name,size\nx/a.gz, 10\nb.tar.gz,20\n")
    Path("empty").write_text("")


@pytest.mark.parametrize(
    ("command", "options", "sources"),
    [
        ("{}", "", "::: a|b c|'|$(x)|"),
        ("{1} {2}", "", "::: a b|c ::: d|e|f"),
        ("{}", "", "::: a b|c ::: d|e ::: f|g"),
        ("{}", "", "::: a b|c :::+ d|e|f"),
        ("{1} {2} {3}", "", "::: a|b ::: c|d :::+ e|f"),
        ("{1} {2} {3}", "", "::: a|b :::+ c|d ::: e|f"),
        ("{2} {1}", "", ":::: ab|cde"),
        ("{2} {1}", "", ":::: ab ::::+ cde"),
        ("{2} {1} {3}", "", "::: x|y :::: ab ::::+ cde"),
        ("{2} {1} {3}", "", ":::: ab ::: x|y :::+ z|w"),
        ("{2} {1}", "-a ab -a cde", ""),
        ("{2} {1}", "-a ab", "::: x|y"),
        ("{}", "-a empty", ""),
        ("{1} {1.} {1/} {1//} {1/.}", "", "::: a/b.c/d.tar.gz|/x|y/|z."),
        ("{-1} {-2} {-1/} {-2.}", "", "::: a/b.c ::: d/e.f"),
        ("{.} {/} {//} {/.}", "", "::: a/b.c|d ::: e/f.g"),
        ("{#} {}", "", "::: a|b ::: c|d"),
        ("x{1}:x{2}:x{3}:x{4}:x{-1}", "--colsep , -a csv", ""),
        ("{}", "--colsep , -a csv", ""),
        ("{1} {2}", "--colsep [,;]+ ", "::: a,;b|c;d"),
        ("{1} {2} {3}", "--colsep ,", "::: a,b|c,d ::: e,f"),
        ("{name} {size} {name.} {name/} {2}", "--colsep , --header -a table", ""),
        ("{f} {g} {f/.}", "--header", "::: f|d/a.x|b ::: g|c|d"),
        ("{}", "-N 2", "::: a|b c|d|e|f"),
        ("x{1}:x{2}:x{-1} {#}", "-N 2", "::: a|b c|d|e|f"),
        ("{2.} {1/}", "--max-args 3", "::: a/b.c|d/e.f|g"),
        ("{}", "-N 2 -a cde", ""),
        ("{}", "-d , -a csv", ""),
        ("{}", r"-d \t -a csv", ""),
        ("{}", r"-d \n -a ab", ""),
        ("{}", "-d ,5 -a csv", ""),
        ("{%}", "", "::: a|b|c"),
    ],
)
def test_the_same_options_give_the_same_bytes(
    command: str, options: str, sources: str, call: Call
) -> None:
    """Inputs, their order, columns and placeholders are those of GNU parallel."""
    words = words_of(sources)
    work = f"{SHOW} {command} ; echo"
    theirs = parallel("-j1", "-k", *options.replace("--header", "--header :").split(), work, *words)
    ours = call("run", "-q", "-j1", *options.split(), "--work", work, *words)
    assert ours.out == theirs.out
    assert ours.status == theirs.status == 0


@attrs.frozen
class Theirs:
    """The exit status and the output of GNU parallel."""

    status: int
    out: str


def parallel(*arguments: str, given: str = "") -> Theirs:
    """Run GNU parallel."""
    run = subprocess.run(
        ["parallel", "--will-cite", *arguments],
        input=given.encode(),
        capture_output=True,
        check=False,
    )
    return Theirs(run.returncode, run.stdout.decode(errors="surrogateescape"))


def words_of(sources: str) -> list[str]:
    """Return the marks and the inputs after them; a bar stands between two inputs."""
    parts = re.split(r"(?:^| )(:{3,4}\+?) ", sources)[1:]
    marks, inputs = parts[::2], parts[1::2]
    return [
        word
        for mark, given in zip(marks, inputs, strict=True)
        for word in (mark, *given.split("|"))
    ]


def test_a_shuffled_run_has_the_same_inputs(call: Call) -> None:
    """The order differs; numbers count the operations as they start."""
    inputs = list(map(str, range(50)))
    result = call("run", "-q", "-j1", "--shuf", "--work", "echo {#} {}", ":::", *inputs)
    numbers, values = zip(*(line.split() for line in result.lines), strict=True)
    assert list(numbers) == [str(number) for number in range(1, 51)]
    assert sorted(values, key=int) == inputs
    assert list(values) != inputs


LATE = "[ {#} -gt 1 ] || sleep 0.3; echo {}"
"""The first operation ends last."""

FAILS = "echo {}; echo {} >>ran; case {} in bad*) exit 3;; esac"


@pytest.mark.parametrize(
    ("options", "command", "sources"),
    [
        ("-j3 -k", LATE, "::: a|b c|d"),
        ("-j3", LATE, "::: a|b"),
        ("-j2 -k --lb", "echo {}; echo {}; echo {} >&2", "::: a|b"),
        ("-j1 --line-buffer", "printf %s {}", "::: a|b"),
        ("-j1 -u", "echo {}; printf %s {}", "::: a|b"),
        ("-j1 --tag", "printf '%s\\n' {1} '' {2}", "::: a ::: b c|d"),
        ("-j1 --tag", "printf %s {}", "::: a|b"),
        ("-j1 --tag", "true {}", "::: a|b"),
        ("-j2 -k --tag --lb", "echo {}; echo {}", "::: a|b"),
        ("-j1 --tagstring {#}-{/}", "echo {}", "::: a/b|c d"),
        ("-j1 -v", "echo {}", "::: a b|$c|d;e"),
        ("-j1 --dry-run", "echo {} | wc", "::: a b|$c|d;e"),
        ("-j1 --dry-run", "echo {2} {1}", "::: a b ::: $c|d;e"),
        ("-j50% -k", "echo {}", "::: a|b"),
        ("-j+1 -k", "echo {}", "::: a|b"),
        ("-j0 -k", "echo {}", "::: a|b"),
        ("-j1", "printf 'a\\0\\377'; true {}", "::: a"),
        ("-j1 --delay 0.1", "echo {}", "::: a|b"),
    ],
)
def test_the_output_is_the_same(options: str, command: str, sources: str, call: Call) -> None:
    """Order, tags, commands above the output, dry runs and limits are those of GNU parallel."""
    words = words_of(sources)
    theirs = parallel(*options.split(), command, *words)
    ours = call("run", "-q", *options.split(), "--work", command, *words)
    assert ours.out == theirs.out
    assert ours.status == theirs.status == 0


@pytest.mark.parametrize(
    ("options", "inputs"),
    [
        ("", "a|bad 1|b|bad 2|c"),
        ("--halt never", "bad 1|b|bad 2"),
        ("--halt soon,fail=2", "a|bad 1|bad 2|b|c"),
        ("--halt now,fail=2", "a|bad 1|bad 2|b|c"),
        ("--halt soon,success=1", "a|b"),
        ("--halt now,success=2", "bad|a|b|c"),
        ("--halt soon,success=3", "bad|a|b"),
        ("--halt soon,done=2", "bad|a|c"),
        ("--halt now,done=2", "a|bad|c"),
        ("--halt soon,fail=9", "a|bad|c"),
        ("--timeout 20", "a|bad|b"),
    ],
)
def test_the_same_failures_stop_the_run(options: str, inputs: str, call: Call) -> None:
    """The same operations run, and the exit status is the same."""
    words = words_of(f"::: {inputs}")
    theirs = parallel("-j1", *options.split(), FAILS, *words)
    ran = read_and_remove("ran")
    ours = call("run", "-q", "-j1", *options.split(), "--work", FAILS, *words)
    assert ours.out == theirs.out
    assert read_and_remove("ran") == ran
    assert ours.status == theirs.status


def read_and_remove(name: str) -> str:
    text = Path(name).read_text()
    Path(name).unlink()
    return text


def test_a_failing_operation_has_as_many_tries(call: Call) -> None:
    """GNU parallel counts all tries, and we count the tries after the first."""
    theirs = parallel("-j1", "--retries", "3", FAILS, *words_of("::: a|bad"))
    ran = read_and_remove("ran")
    ours = call("run", "-q", "-j1", "--retries", 2, "--work", FAILS, *words_of("::: a|bad"))
    assert read_and_remove("ran") == ran
    assert ran.count("bad") == 3
    assert ours.status == theirs.status == 1


@pytest.mark.parametrize(
    "command", [FAILS, "kill -9 $$; echo {}", "printf '1\\n2\\n'\n: {}", "printf '\\t'; : \t{}"]
)
def test_the_job_log_is_the_same(command: str, call: Call) -> None:
    """All columns are the same, except for the two with times, which have the same form."""
    words = words_of("::: a b|bad $1|;c")
    parallel("-j1", "--joblog", "theirs", command, *words)
    call("run", "-q", "-j1", "--joblog", "ours", "--work", command, *words)
    theirs, ours = (without_times(Path(name).read_text()) for name in ("theirs", "ours"))
    assert ours == theirs
    assert ours.count("TIMES") == 3


def without_times(log: str) -> str:
    return re.sub(r"\t\d+\.\d{3}\t +\d+\.\d{3}\t", "\tTIMES\t", log)


@pytest.mark.parametrize("option", ["--resume", "--resume-failed"])
def test_either_goes_on_from_the_log_of_the_other(option: str, call: Call) -> None:
    """Each skips what the other has done, although only we quote inputs that need no quotes."""
    words = words_of("::: a'b|bad|;c|d")
    parallel("-j1", "--joblog", "theirs", FAILS, *words[:3])
    call("run", "-q", "-j1", "--joblog", "ours", "--work", FAILS, *words[:3])
    ours = call("run", "-q", "-j1", option, "--joblog", "theirs", "--work", FAILS, *words)
    theirs = parallel("-j1", option, "--joblog", "ours", FAILS, *words)
    assert ours.out == theirs.out
    assert ours.lines == ["bad", ";c", "d"][option != "--resume-failed" :]


def test_the_files_of_results_have_the_same_text(call: Call) -> None:
    """The names of the folders differ: ours are only the inputs."""
    words = words_of("::: a b|c")
    command = "echo {}; echo {} >&2"
    parallel("-j1", "--results", "theirs", command, *words)
    call("run", "-q", "-j1", "--results", "ours", "--work", command, *words)
    for name in ("a b", "c"):
        for file in ("stdout", "stderr", "seq"):
            ours, theirs = Path("ours", name, file), Path("theirs", "1", name, file)
            assert ours.read_text().strip() == theirs.read_text().strip()


def test_the_json_of_results_is_the_same(call: Call) -> None:
    """All fields but the two times are the same, even with quotes and control characters."""
    command = (
        "printf '%s\\n' {1} '\"\\q\"'; printf 'a\\t\\r\\1\\0\\303\\251/'; echo e >&2; test {2} = 0"
    )
    words = words_of("::: a b|'\"\\n é ::: 0|3")
    theirs = parallel("-j1", "--results", "theirs.json", command, *words)
    ours = call("run", "-q", "-j1", "--results", "ours.json", "--work", command, *words)
    assert ours.status == theirs.status == 2
    pair = (Path(name).read_text() for name in ("theirs.json", "ours.json"))
    for their, our in zip(*(text.splitlines() for text in pair), strict=True):
        assert without_command(our) == without_command(their)


def without_command(line: str) -> str:
    """Return a line of JSON without the times and the command, in which only we quote numbers."""
    line = re.sub(r'"(Starttime|JobRuntime)": \d+\.\d{3}', r'"\1": TIME', line)
    return re.sub(r'"Command": ".*", "V"', '"Command": ..., "V"', line)


@pytest.mark.parametrize("options", ["-N 3", "--header : -N 2", "--header : -N 100", "-N 1"])
@pytest.mark.parametrize("size", [0, 1, 9, 50])
def test_records_are_counted_alike(options: str, size: int, call: Call) -> None:
    """--pipe with -N makes the same blocks, even below a header."""
    data = "".join(f"{number}\n" for number in range(size))
    work = "echo {#}; cat; echo ."
    theirs = parallel("-k", "-j2", "--pipe", *options.split(), work, given=data)
    ours = call(
        *("run", "-q", "-k", "-j2", "--pipe", *options.replace(" :", "").split()),
        *("--work", work),
        stdin=data.encode(),
    )
    assert ours.out == theirs.out
    assert ours.status == theirs.status == 0


@pytest.mark.parametrize(
    ("options", "data"),
    [
        ("--block -2", "".join(f"{number}\n" for number in range(100))),
        ("--block -7 --header :", "".join(f"{number}\n" for number in range(100))),
        ("--block 8 --header :", "h\n1\n2\n3\n4\n5\n"),
        ("--block 20", "".join(f"{number}\n" for number in range(100))),
        ("--block 4 --recend ;", "aa;bb;cc;ddddddddddddddddd;e"),
        ("--block 4 --recstart >", ">a>bb>ccccccc>d"),
        ("--block 3 --recend ; --recstart >", ">a;b;>c;d;>e;f"),
        ("--block 1M", "a\nb"),
        ("--block 4", ""),
    ],
)
def test_a_file_is_cut_into_the_same_blocks(options: str, data: str, call: Call) -> None:
    """--pipe-part cuts at the same ends of records."""
    Path("data").write_text(data)
    arguments = ["-k", "-j2", "--pipe-part", "-a", "data", *options.split()]
    work = "echo {#}; cat; echo ."
    theirs = parallel(*arguments, work)
    ours = call("run", "-q", *(word for word in arguments if word != ":"), "--work", work)
    assert ours.out == theirs.out
    assert ours.status == theirs.status == 0


@pytest.mark.parametrize(
    ("options", "command"),
    [
        ("-X", f"{SHOW} a{{}}b {{}} ; echo"),
        ("-X", f"{SHOW} {{.}}:{{/}} x{{/.}} {{#}} ; echo"),
        ("-X -N 2", f"{SHOW} a{{}}b {{1}} ; echo"),
        ("-N 2", f"{SHOW} a{{}}b {{1}} ; echo"),
        ("-m", f"{SHOW} {{}} ; echo"),
        ("-j2 -X", f"{SHOW} {{}} ; echo"),
        ("-j3 -m", f"{SHOW} {{}} ; echo"),
        ("-j2 --xargs", f"{SHOW} {{}} ; echo"),
        ("-X -s 40 --dry-run", "echo {}"),
        ("-m -s 41 --dry-run", "echo {} {/}"),
        ("-X -s 30 --dry-run", "echo x{}"),
        ("-X --tag", "echo {}"),
    ],
)
def test_as_many_inputs_are_taken_together(options: str, command: str, call: Call) -> None:
    """The same inputs fit into a command, and the last ones are shared out in the same way."""
    words = words_of("::: a b.c|d/e f|g h|i j|k l|m $n|o p")
    jobs = [] if "-j" in options else ["-j1"]
    arguments = ["-k", *jobs, *options.split()]
    theirs = parallel(*arguments, command, *words)
    ours = call("run", "-q", *arguments, "--work", command, *words)
    assert ours.out == theirs.out
    assert ours.status == theirs.status == 0
