"""Placeholders: what they stand for, and that an input never becomes code."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from trio_turnstile.cli._columns import Columns, Input
from trio_turnstile.cli._template import Template, quote, quote_visibly

BASH = shutil.which("bash")
SHELLS = ["/bin/sh", *([f"{BASH} --posix", BASH] if BASH else [])]
SHELLS += [mksh] if (mksh := shutil.which("mksh")) else []

INPUTS = st.binary(max_size=40).map(lambda data: os.fsdecode(data.replace(b"\0", b"")))
"""Any input: bytes other than NUL, whether they are text or not."""

NASTY = [
    "; rm -rf ~",
    "$(rm -rf ~)",
    "`rm -rf ~`",
    "a\nb\n",
    "'",
    "'\"'\"'",
    "\\",
    '"',
    "-n",
    "",
    " ",
    "~",
    "*",
    "a=b",
    "if",
    "2",
    "#",
    "!!",
    "\udcff",
]

real_shells = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def one(text: str) -> Input:
    """An input of one column."""
    return Input(text, (text,))


def printed(command: str, shell: str = "/bin/sh", **more: object) -> str:
    """Return what a real shell prints for ``command``."""
    run = subprocess.run(
        [*shell.split(), "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
        **more,
    )
    return os.fsdecode(run.stdout)


@pytest.mark.parametrize(
    ("text", "plain", "stem", "base", "folder", "base_stem"),
    [
        ("a/b c.tar.gz", "a/b c.tar.gz", "a/b c.tar", "b c.tar.gz", "a", "b c.tar"),
        ("name", "name", "name", "name", ".", "name"),
        ("/name.x", "/name.x", "/name", "name.x", "/", "name"),
        ("a.b/c", "a.b/c", "a.b/c", "c", "a.b", "c"),
        ("a/b/", "a/b/", "a/b/", "", "a", ""),
        ("x.", "x.", "x", "x.", ".", "x"),
        ("a\n/b\n.c\n", "a\n/b\n.c\n", "a\n/b\n", "b\n.c\n", "a\n", "b\n"),
        ("", "", "", "", ".", ""),
    ],
)
def test_what_the_placeholders_stand_for(
    text: str, plain: str, stem: str, base: str, folder: str, base_stem: str
) -> None:
    """Placeholders stand for the same parts of the input as in GNU parallel."""
    filled = Template.parse("x {} {.} {/} {//} {/.} {#}").fill(one(text), 12)
    words = [plain, stem, base, folder, base_stem]
    assert filled == f"x {' '.join(map(quote, words))} 12"


@pytest.mark.parametrize("shell", SHELLS)
@given(text=INPUTS)
@example(text="\n".join(NASTY))
@real_shells
def test_a_shell_gives_back_exactly_the_input(shell: str, text: str) -> None:
    """An input of any bytes is one word for the shell, and unchanged."""
    assert printed(Template.parse("printf %s {}").fill(one(text), 1), shell) == text


@pytest.mark.parametrize("text", NASTY)
def test_an_input_put_at_the_end_is_one_word(text: str) -> None:
    """A command without a placeholder gets the input as its last argument."""
    command = Template.parse("printf '[%s]' x", append=True).fill(one(text), 1)
    assert printed(command) == f"[x][{text}]"


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("printf %s 'it is' \"$HOME\" {} # it's", "it is/homea b"),
        ('x="$(printf "%s" y)"; printf %s "$x"', "y"),
        ('x="$(printf %s z)"; printf %s {} "$x"', "a bz"),
        ("printf %s $(printf %s {})", "ab"),
        ("printf %s $((2 + {#})) {}", "9a b"),
        ('y=k.txt; printf %s "${y}" ${y%.*}{.} "$((1+1))"', "k.txtka b2"),
        ("printf %s \\{} \\# {} \\' {}", "{}#a b'a b"),
        ("printf %s a#{} \\\n{}", "a#a ba b"),
        ("printf %s '{#}' \"{#}\" # {#}", "77"),
        ("printf %s $\\{#}{}", "${#}a b"),
        ("# it's a comment\nprintf %s {}", "a b"),
        ("printf %s {}; (printf %s {}) | cat & wait", "a ba b"),
        ("if true;then printf %s {} 2>&1;fi", "a b"),
        ("cat <&- >& 2; printf %s {} <&0 >&1", "a b"),
        ('printf %s "$" "$x" {} "\\"" "a`"', ""),
    ],
)
def test_placeholders_may_stand_wherever_a_word_may(command: str, output: str) -> None:
    """Quotes, comments, escapes and expansions beside a placeholder do no harm."""
    filled = Template.parse(command).fill(one("a b"), 7)
    assert printed(filled, env={"HOME": "/home"}) == output


@pytest.mark.parametrize(
    ("command", "place"),
    [
        ("echo '{}'", "{} is in quotes"),
        ('echo "x {/}"', "{/} is in quotes"),
        ("echo # {}", "{} is in a comment"),
        ("echo \\\n# {}", "{} is in a comment"),
        ("true;#{//}", "{//} is in a comment"),
        ("echo ${x:-{}}", "only the shell can tell"),
        ("echo ${.}", "{.} is in an expansion"),
        ("echo ${}", "only the shell can tell"),
        ("echo $'{}'", "only the shell can tell"),
        ("echo $(({} + 1))", "{} is in an expansion"),
        ("echo $((1 + (2)))  {}", "only the shell can tell"),
        ("echo $[1] {}", "only the shell can tell"),
        ("echo `cat {}`", "only the shell can tell"),
        ("cat <<EOF\n{}\nEOF", "only the shell can tell"),
        ('echo "$(echo "{}")"', "only the shell can tell"),
        ('echo "$(case x in x) echo;; esac)" {}', "only the shell can tell"),
        ("cat <\\\n<EOF\n{}\nEOF", "only the shell can tell"),
        ('echo "$\\\n(echo "{}")"', "only the shell can tell"),
        ("echo $\\\n'{}'", "only the shell can tell"),
        ("echo $\\\n\\\n(({}))", "only the shell can tell"),
        ("echo $\\\n{x:-{}}", "only the shell can tell"),
        ("(\\\n( {} ))", "only the shell can tell"),
        ('echo $"{}"', "only the shell can tell"),
        ("echo >&{}", "only the shell can tell"),  # bash expands it twice
        ("echo >&2{}", "only the shell can tell"),
        ("echo 'open {}", "only the shell can tell"),
        ('echo "open {.}', "only the shell can tell"),
    ],
)
def test_a_placeholder_elsewhere_is_refused(command: str, place: str) -> None:
    """The error says why the place is unsafe, and what to write instead."""
    with pytest.raises(ValueError, match="TURNSTILE_INPUT") as error_info:
        Template.parse(command)
    assert place in str(error_info.value)


@pytest.mark.parametrize(
    "command",
    ["sleep 1 &", "a;", "a |", "a &&", "( ", "a # b", "cat <<E", "a \\", "a 'b", "a\n ", "`a`"],
)
def test_an_input_is_not_put_at_an_end_that_is_no_place_for_it(command: str) -> None:
    """The end is refused if the input would become a command of its own there, or a comment."""
    with pytest.raises(ValueError, match=r"write \{\} where it should go"):
        Template.parse(command, append=True)


@pytest.mark.parametrize("command", ["echo $TURNSTILE_INPUT", "echo {#}", "sleep 1 & echo {}"])
def test_a_command_that_asks_for_the_input_gets_no_other(command: str) -> None:
    """A command that uses a placeholder or variable does not get the input at its end."""
    assert Template.parse(command, append=True).fill(one(""), 1).endswith(("INPUT", "1", "''"))


def test_only_where_it_is_wanted_is_an_input_put_at_the_end() -> None:
    """Without ``append``, a command such as ``rm -rf scratch`` does not get the input."""
    assert Template.parse("rm -rf scratch").fill(one("precious"), 1) == "rm -rf scratch"


def test_newlines_at_the_end_of_a_command_do_not_part_it_from_its_input() -> None:
    """Trailing newlines, as of a command from a file, are dropped."""
    assert printed(Template.parse("printf %s\n\n", append=True).fill(one("a"), 1)) == "a"


@pytest.mark.parametrize("command", ["", "  ", "\n"])
def test_a_blank_command_is_refused(command: str) -> None:
    """A blank command is an error, since the input would become the command."""
    with pytest.raises(ValueError, match="must not be blank"):
        Template.parse(command, append=True)


@pytest.mark.parametrize(
    ("command", "place"),
    [
        ("[[ {} -gt 5 ]]", "operand of [[ ]]"),
        ("if [[ -n x && {} -gt 5 ]]; then :; fi", "operand of [[ ]]"),
        ("[\\\n[ {} -gt 5 ]]", "operand of [[ ]]"),
        ("[[ $TURNSTILE_INPUT -gt 5 ]]", "the variable TURNSTILE_INPUT"),
        ("x={}; echo $((x))", "the variable x"),
        ("x={}; ((x > 5))", "the variable x"),
        ('x={}; echo "$((x + 1))"', "the variable x"),
        ("y={}; z=$y; echo $((z))", "the variable z"),
        ("for f in {}; do echo $((f)); done", "the variable f"),
        ("set -- {}; echo $(($1))", "the variable 1"),
        ("echo $((TURNSTILE_INPUT))", "the variable TURNSTILE_INPUT"),
        ('echo "$[TURNSTILE_INPUT]"', "the variable TURNSTILE_INPUT"),
        ("a[{}]=1", "an index of an array"),
        ("a=([{}]=1)", "an index of an array"),
        ("let {}", "an argument of let"),
        ("time -p let {}", "an argument of let"),
        ("echo [[ ; let {}", "an argument of let"),
        ("f() { let {}; }; f", "an argument of let"),
        ("case x in x) let {};; esac", "an argument of let"),
        ("[[ -n x && ( -n y || {} -eq 1 ) ]]", "operand of [[ ]]"),
        ("x=1 'l'et x={}", "an argument of let"),
        ("while let {}; do :; done", "an argument of let"),
        ("(command let {})", "an argument of let"),
        ("declare -i x={}", "an integer for declare"),
        ("declare -i x; x={}", "the value of an integer"),
        ("export {}=1", "a name for export"),
        ("unset {}", "an argument of unset"),
        ("printf -v {} x", "as a name"),
        ("test -v {}", "an operand of test"),
        ("[ {} -gt 5 ]", "an operand of ["),
        ("test 5 -lt {}", "an operand of test"),
        ("exit {}", "an argument of exit"),
        ("echo ${!TURNSTILE_INPUT}", "the variable TURNSTILE_INPUT"),
        ("x={}; y=$x; echo ${!y}", "the variable y"),
        ("x={}; s=abc; echo ${s:x}", "the variable x"),
        ('x={}; s=abc; echo "${s:0:x}"', "the variable x"),
        ("x={}; a=(1); echo ${a[@]:x}", "the variable x"),
        ("x={}; a=(1); echo ${a[x]}", "the variable x"),
        ("x={}; echo ${x@P}", "the variable x"),
        ("x={}; cat <<< ${!x}", "the variable x"),
        ('x={}; echo "`echo ${!x}`"', "the variable x"),
        ("x={}; a[$x]=1", "the variable x"),
        ("x={}; a=([x]=1)", "the variable x"),
        ('x={}; read "$x"', "an argument of read"),
        ('x={}; echo "$(unset $x)"', "what an unread command evaluates"),
        ("x={}; echo `exit $x`", "what an unread command evaluates"),
        ('x={}; test -v "$x"', "an operand of test"),
        ("x={}; [[ -v $x ]]", "an operand of [[ ]]"),
        ("x={}; printf -v $x a", "as a name"),
        ("x={}; wait -n -p $x", "as a name"),
        ('x={}; typeset "$x"=1', "a name for typeset"),
        ("x={}; declare -i y=$x", "an integer for declare"),
        ("for x in 1 2; do let $y; y={}; done", "an argument of let"),
    ],
)
def test_an_input_is_refused_where_a_shell_would_evaluate_it(command: str, place: str) -> None:
    """In arithmetic and as a name, quotes do not help: the error says where, and what to do."""
    with pytest.raises(ValueError, match=r"n=\$\(printf %d \{\}\)") as error_info:
        Template.parse(command)
    assert place in str(error_info.value)


@pytest.mark.parametrize(
    "command",
    [
        "x={}; echo $x $((1+1))",
        "export x={}",
        "[ {} = 5 ]",
        "test -e {}",
        "cat {} >a[1]",
        "grep -E 'a{3}' {}",
        "read x <{}",
        "echo \\{1}",
        "n=$(printf %d {}); echo $((n))",
        "[[ -e x ]] && cat {}",
        "echo $((2 + {#})) {}",
        "for f in a b; do echo $((f)) {}; done",
        "exit {#}",
        "let x=1; echo {}",
        'x={}; echo ${x:0:3} ${x:-a} "${x%.gz}" ${#x} ${x^^} ${y:=$x}',
        'x={}; echo "please read $x"; ls [x]*',
        "x={}; read y; export x; unset x",
    ],
)
def test_what_evaluates_no_input_is_allowed(command: str) -> None:
    """Arithmetic that does not involve the input does no harm."""
    Template.parse(command)


def test_an_input_is_not_put_at_the_end_of_a_command_that_would_evaluate_it() -> None:
    """This also holds for an input that is added at the end."""
    with pytest.raises(ValueError, match="an argument of let"):
        Template.parse("let", append=True)


@pytest.mark.skipif(BASH is None, reason="there is no bash")
@pytest.mark.parametrize("command", ["n=$(printf %d {}); echo $((n + 1))", "[ {} = 5 ] || echo {}"])
def test_the_way_out_is_safe(command: str, trap: Path) -> None:
    """The command that the error suggests evaluates nothing in bash."""
    filled = Template.parse(command).fill(one("a[$(pwned 1)]"), 1)
    printed(filled, str(BASH), cwd=trap / "here", env={"PATH": str(trap / "bin")})
    assert not (trap / "trace").exists()


@pytest.mark.parametrize("placeholder", ["{..}", "{+/}", "{=s/a/b/=}"])
def test_other_placeholders_of_parallel_are_refused(placeholder: str) -> None:
    """They would silently be text; in quotes or with a backslash they are text."""
    with pytest.raises(ValueError, match="is a placeholder of GNU parallel"):
        Template.parse(f"echo {placeholder} {{}}")
    Template.parse(f"echo '{placeholder}' \\{placeholder} {{}}")


@pytest.mark.parametrize("text", ["a\x1b[1mb\x07", "\r", "\x9b1m", "a\nb\tc", "", "'\x1b'"])
def test_a_visible_quote_is_the_same_word(text: str) -> None:
    """Control characters are printed with printf, and the shell gives back the same text."""
    quoted = quote_visibly(text)
    assert printed(f"printf %s {quoted}") == text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", quoted)


SEVERAL = Columns(2)
TWO = Input("d/a.x d/b.y", ("d/a.x", "d/b c.y"))


@pytest.mark.parametrize(
    ("command", "filled"),
    [
        ("x {1} {2}", "x 'd/a.x' 'd/b c.y'"),
        ("x {2.}{1/}{1//}{2/.}", "x 'd/b c''a.x''d''b c'"),
        ("x {-1} {-2/}", "x 'd/b c.y' 'a.x'"),
        ("x {} {/} -- {#}{%}", "x 'd/a.x' 'd/b c.y' 'a.x' 'b c.y' -- 74"),
        ("x", "x 'd/a.x' 'd/b c.y'"),
        ("for f in {}; do x; done", "for f in 'd/a.x' 'd/b c.y'; do x; done"),
        ("x user@{1} 'a{3}' \\{1}", "x user@'d/a.x' 'a{3}' \\{1}"),
    ],
)
def test_what_the_placeholders_of_columns_stand_for(command: str, filled: str) -> None:
    """A number is a column, a negative number counts from the end, and {} is all, as words."""
    assert Template.parse(command, SEVERAL, append=True).fill(TWO, 7, 4) == filled


def test_a_column_has_a_name() -> None:
    """Any text can be a name; the longest match wins, and edits such as {name/} work."""
    columns = Columns(3, ("f", "f 2", ""))
    given = Input("", ("a/b.c", "d/e.f", "g"))
    filled = Template.parse("x {f} {f 2} {f/} {f 2.} {3} ${f}", columns).fill(given, 1)
    assert filled == "x 'a/b.c' 'd/e.f' 'b.c' 'd/e' 'g' ${f}"


def test_a_column_that_an_input_lacks_is_empty() -> None:
    """The empty column is still one word."""
    template = Template.parse("x {1} {2} {-2} {7/}", Columns(None))
    assert template.fill(one("a"), 1) == "x 'a' '' '' ''"


@pytest.mark.parametrize(
    ("command", "columns", "hint"),
    [
        ("x {3}", SEVERAL, "{3} is not a column: inputs have 2"),
        ("x {-3/}", SEVERAL, "{-3/} is not a column: inputs have 2"),
        ("x {0}", Columns(None), "{0} is not a column"),
        ("x {2}", Columns(), "further ones come from several sources (:::, -a), --colsep"),
        ("x {foo}", Columns(), "as only --header gives names"),
        ("x {foo.}", Columns(2, ("a", "b")), "{foo.} is not a column, as the names are a, b"),
        ("x {a}>{b}", Columns(1, ("a",)), "{b} is not a column"),
        ("x '{1}'", SEVERAL, "{1} is in quotes"),
        ('x "{a}"', Columns(2, ("a", "b")), "{a} is in quotes"),
        ("cat <<E\n{1}\nE", SEVERAL, "only the shell can tell"),
        ("x out/{}", SEVERAL, "'out/{}' would join several words"),
        ("x={}", SEVERAL, "would join several words"),
        ("x >{}", SEVERAL, "would join several words"),
        ("x {}{}", SEVERAL, "would join several words"),
        ("test {1} {2}", SEVERAL, "an operand of test next to another"),
        ("test {}", SEVERAL, "an operand of test next to another"),
        ('[ {1} "$TURNSTILE_INPUT_2" ]', SEVERAL, "an operand of [ next to another"),
        ("printf {} x", Columns(), "an option of printf"),
        ("printf -v x {1}", SEVERAL, "an option of printf"),
        ("declare -n x={}", Columns(), "declare"),
        ("echo $((TURNSTILE_INPUT_2))", SEVERAL, "the variable TURNSTILE_INPUT_2"),
    ],
)
def test_what_is_no_placeholder_for_these_columns_is_refused(
    command: str, columns: Columns, hint: str
) -> None:
    """The error says which columns exist, or what to write instead."""
    with pytest.raises(ValueError, match=re.escape(hint)):
        Template.parse(command, columns)


@pytest.mark.parametrize(
    "command",
    [
        "x {a,b} {a..c} ${x} ${1}",
        "awk '{print}' x",
        "awk {print} x",
        "git show HEAD@{u}",
        "exec {fd}>x",
        "{ x; }",
        "f() { x; }",
        "grep -E 'a{2}' x",
        "x \\{foo} '{foo}'",
        'x "${foo}"',
    ],
)
def test_braces_of_the_shell_are_text(command: str) -> None:
    """Braces that do not look like our placeholders go to the shell unchanged."""
    assert Template.parse(command).fill(one("a"), 1) == command


FRAGMENTS = [
    *("{}", "{.}", "{/}", "{//}", "{/.}", "{#}", "{%}", "{1}", "{2}", "{2/.}", "{-1}"),
    *("'", '"', "\\", "`", "$", "#", "(", ")", "{", "}", "[", "]", ";", "&", "|", "<", ">"),
    *(" ", "\n", "\t", "\r", "\xa0", "a", ":", "=", "!", "*", "~", "%", "-"),
    *(
        "$(",
        "${",
        "$((",
        "))",
        "<<",
        "$'",
        '$"',
        "${x",
        "x:-",
        "case x in ",
        "x) ",
        "esac",
        ">&",
        "&>",
        "<>",
    ),
    *("[ ", "test ", "printf ", "export ", " -v ", "--"),
    *("[[ ", " -gt ", " ]]", "let ", "x=", "$((x))", "a[", "unset ", "declare -i "),
    *("x={}; ", "y=abc; ", "${!x}", "${y:x}", "${y[x]}", "${x@P}", "a=([x]=1)", "read $x", "$x"),
    *("\\\n", " #", "''", '""', "'a'", '"a"', '"$(', ')"', "echo ", "E\n", "if ", "fi"),
]
HOSTILE = ["'", '"', "`", "$(", ")", "\\", "\n", ";", "|", "&", "#", "${x:-", "}", " ", "x", "{}"]
WORDS = ["-v", "-gt", "-n", "-va[$(pwned 1)]", "="]
"""What is no code itself, but makes some shells evaluate the word beside it."""

CODE = [
    "a[$(pwned 1)]",
    "pwned 1",
    "\npwned 1\n",
    ";pwned 1;",
    "$(pwned 1)",
    "`pwned 1`",
    "|pwned 1",
    "&pwned 1 ",
]


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A folder whose only command leaves a trace if an input calls it as code."""
    command = tmp_path / "bin" / "pwned"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\n[ "$1" != 1 ] || : >{tmp_path}/trace\n')
    command.chmod(0o755)
    (tmp_path / "here").mkdir()
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
@given(
    command=st.lists(st.sampled_from(FRAGMENTS), max_size=10).map("".join),
    texts=st.lists(st.sampled_from(HOSTILE + CODE + WORDS), max_size=6),
    code=st.sampled_from(CODE),
    several=st.booleans(),
    append=st.booleans(),
)
@real_shells
def test_no_input_is_ever_code(
    shell: str, command: str, texts: list[str], code: str, several: bool, append: bool, trap: Path
) -> None:
    """Any command is refused, or an input in it is only an argument."""
    text = "".join(texts)
    given = Input(text, (*texts, code, text)) if several else one(f"{text}{code}{text}")
    columns = Columns(None if several else 1)
    try:
        filled = Template.parse(f": {command}", columns, append=append).fill(given, 1)
    except ValueError:
        return
    (trap / "trace").unlink(missing_ok=True)
    printed(filled, shell, cwd=trap / "here", env={"PATH": str(trap / "bin")})
    assert not (trap / "trace").exists(), filled
