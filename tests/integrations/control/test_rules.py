"""Rules for messages from outside: which ones are valid, and how they are read from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trio_turnstile.integrations.control import DEFAULT_RULES, Rule, read_rules


@pytest.mark.parametrize(
    ("firing", "resolved"), [("down", "up"), ("up", "down"), ("pause", "resume"), (5, "release")]
)
def test_the_end_is_the_opposite_of_the_beginning(firing: Any, resolved: str) -> None:
    """By default a rule undoes at the end of an alert what it did at the start."""
    assert Rule(when={"a": "b"}, limiter="db", firing=firing).resolved == resolved


def test_which_alerts_it_is_for() -> None:
    """A rule is for alerts that have all of its labels, with texts that match."""
    rule = Rule(when={"alertname": "Disk*", "severity": "page"}, limiter="db")
    assert rule.fits({"alertname": "DiskFull", "severity": "page", "job": "x"})
    assert not rule.fits({"alertname": "DiskFull", "severity": "info"})
    assert not rule.fits({"alertname": "DiskFull"})
    assert not rule.fits({"alertname": "diskfull", "severity": "page"})


def test_a_limiter_may_be_named_by_labels() -> None:
    """A rule may name its limiter by labels, as the default rules do."""
    rule = Rule(when={"job": "*", "zone": "*"}, limiter="{job}-{zone}/db")
    assert rule.limiter_for({"job": "a", "zone": "b"}) == "a-b/db"
    [default] = DEFAULT_RULES
    assert default.fits({"limiter": "db"})
    assert default.limiter_for({"limiter": "db"}) == "db"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"when": {}}, "when must name labels"),
        ({"when": "DiskFull"}, "when must name labels"),
        ({"when": {"alertname": 3}}, "when must map texts to texts, not 'alertname' to 3"),
        ({"limiter": ""}, "limiter must be the name of a limiter, not ''"),
        ({"limiter": "{job}"}, "uses the label 'job', which an alert may not have"),
        ({"limiter": "{job"}, "expected '}' before end of string"),
        ({"firing": "faster"}, "firing must be .* not 'faster'"),
        ({"firing": -1}, "firing must be .* not -1"),
        ({"firing": True}, "firing must be .* not True"),
        ({"firing": 2.5}, "firing must be .* not 2.5"),
        ({"firing": 5, "resolved": "up"}, 'resolved must be "release" or "nothing"'),
        ({"firing": "down", "resolved": "release"}, 'resolved must be "up" or "nothing"'),
        ({"firing": 5, "for_seconds": 0}, "for_seconds must be a number above 0, not 0"),
        ({"firing": 5, "for_seconds": "1"}, "for_seconds must be a number above 0, not '1'"),
        ({"for_seconds": 5}, "for_seconds is for a cap or a pause, but firing is 'down'"),
    ],
)
def test_a_rule_that_makes_no_sense(wrong: dict[str, Any], words: str) -> None:
    """The rule is refused when it is made, not when the alert comes."""
    with pytest.raises((TypeError, ValueError), match=words):
        Rule(**{"when": {"alertname": "DiskFull"}, "limiter": "db", **wrong})


def test_rules_in_a_file(tmp_path: Path) -> None:
    """A file has one table for each rule."""
    (tmp_path / "rules.toml").write_text("""
        [[rule]]
        when = { alertname = "DatabaseBusy" }
        limiter = "db"
        firing = 5
        for_seconds = 3600

        [[rule]]
        when = { limiter = "*" }
        limiter = "{limiter}"
    """)
    assert read_rules(tmp_path / "rules.toml") == (
        Rule(when={"alertname": "DatabaseBusy"}, limiter="db", firing=5, for_seconds=3600),
        *DEFAULT_RULES,
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"the file must contain tables \[\[rule\]\], and nothing else"),
        ("rule = 3", r"the file must contain tables \[\[rule\]\]"),
        ("[[rule]]\nwhen = {a = 'b'}\nlimiter = 'db'\n[other]", "and nothing else"),
        ("[[rule]", "rules.toml: .*line 1"),
        ("[[rule]]\nwhen = {a = 'b'}\nlimiter = 'db'\n[[rule]]\nlimiter = 'db'", "rule 2: .*when"),
        ("[[rule]]\nwhen = {a = 'b'}\nlimiter = 'db'\nfring = 'up'", "rule 1: .*'fring'"),
        ("[[rule]]\nwhen = {a = 'b'}\nlimiter = 'db'\nfiring = 'x'", "rule 1: firing must be"),
        ("rule = [3]", "rule 1: "),
    ],
)
def test_a_file_that_makes_no_sense(tmp_path: Path, text: str, words: str) -> None:
    """The error names the file and the rule."""
    (tmp_path / "rules.toml").write_text(text)
    with pytest.raises(ValueError, match=words):
        read_rules(tmp_path / "rules.toml")
