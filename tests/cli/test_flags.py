"""The check of the arguments before they are parsed knows the same options as the parser."""

from __future__ import annotations

from trio_turnstile.cli._app import _make_app
from trio_turnstile.cli._arguments import _FLAG_LETTERS, _FLAGS


def test_the_options_without_a_value_are_known() -> None:
    """Whether an argument is a value depends on whether the option before it takes one."""
    arguments = _make_app("run")["run"].assemble_argument_collection()
    names = {name for each in arguments if each.hint is bool for name in each.names}
    assert {name for name in names if name.startswith("--")} == _FLAGS - {"--help", "--version"}
    letters = {name[1:] for name in names if not name.startswith("--")}
    assert letters == {*_FLAG_LETTERS} - {"h"}
