"""What the guide says about the control API is true."""

from __future__ import annotations

import re
import runpy
import textwrap
from pathlib import Path

import pytest

from trio_turnstile.integrations.control import Rule, _bridge, _guard, read_rules
from trio_turnstile.integrations.control._app import LONGEST_BODY
from trio_turnstile.integrations.control._board import WATCHED

DOCS = Path(__file__).parents[3] / "docs"
GUIDE = (DOCS / "control.rst").read_text()


def test_the_operations_are_those_of_the_openapi_document(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``python docs/operations.py > docs/operations.rst`` writes them."""
    runpy.run_path(str(DOCS / "operations.py"), run_name="__main__")
    assert capsys.readouterr().out == (DOCS / "operations.rst").read_text()


def test_the_rules_of_the_guide_can_be_read(tmp_path: Path) -> None:
    """The rules are read exactly as the guide has them."""
    [block] = re.findall(r"\.\. code-block:: toml\n\n((?:   .*\n|\n)+)", GUIDE)
    (tmp_path / "rules.toml").write_text(textwrap.dedent(block))
    cap, step = read_rules(tmp_path / "rules.toml")
    assert cap == Rule(
        when={"alertname": "DatabaseBusy"}, limiter="db", firing=5, for_seconds=14400
    )
    assert step.limiter_for({"alertname": "DiskFull", "job": "db"}) == "db"


def test_the_bounds_of_the_guide_are_the_real_ones() -> None:
    """The guide states the bounds on what a client may do."""
    assert (_guard.CONNECTIONS, _guard.REQUEST_SECONDS, _guard.BODY_SECONDS) == (100, 10, 10)
    assert (_guard.SEND_SECONDS, LONGEST_BODY, _bridge.TURNS, WATCHED) == (5, 2**20, 4, 200)
