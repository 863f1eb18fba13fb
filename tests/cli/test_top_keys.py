"""What the keys of the terminal view do."""

from __future__ import annotations

import attrs
import pytest

from testkit.documents import limiter, override, run, state, step
from trio_turnstile.cli._top_board import Board
from trio_turnstile.cli._top_keys import Hand, Order, parse_keys
from trio_turnstile.cli._top_view import choices


@attrs.frozen
class Keyboard:
    """Keys are pressed in a view of two processes, with two limiters and with one."""

    first: Board
    second: Board

    def press(self, keys: str, hand: Hand | None = None) -> tuple[Hand, list[Order]]:
        hand, orders = hand or Hand(), []
        for key in parse_keys(keys):
            hand, order = hand.press(key, choices([self.first, self.second]))
            orders += [order] if order else []
        return hand, orders


@pytest.fixture
def keyboard() -> Keyboard:
    boards = [Board("1", "a"), Board("2", "b")]
    names = [["work", "a/b"], ["work"]]
    for board, limiters in zip(boards, names, strict=True):
        board.take("state", state(limiters=[limiter(name) for name in limiters]))
    return Keyboard(*boards)


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ("+", "/limiters/work/up"),
        ("=", "/limiters/work/up"),
        ("-", "/limiters/work/down"),
        ("p", "/limiters/work/pause"),
        ("r", "/limiters/work/resume"),
        ("\x1b[B+", "/limiters/a%2Fb/up"),
    ],
)
def test_a_key_changes_the_limiter_that_is_marked(keyboard: Keyboard, keys: str, path: str) -> None:
    """The first limiter is marked at first; the arrows mark another one."""
    assert keyboard.press(keys)[1] == [Order(keyboard.first, path)]


def test_the_key_that_resumes_also_takes_back_what_was_set(keyboard: Keyboard) -> None:
    """It ends a pause first."""
    paused = limiter("work", override=override(), paused=True)
    keyboard.first.take("state", state(limiters=[paused]))
    assert keyboard.press("r")[1] == [Order(keyboard.first, "/limiters/work/resume")]
    keyboard.first.take("state", state(limiters=[{**paused, "paused": False}]))
    assert keyboard.press("r")[1] == [Order(keyboard.first, "/limiters/work/release")]


def test_the_arrows_go_through_all_processes(keyboard: Keyboard) -> None:
    """They stop at the first and the last limiter."""
    _, orders = keyboard.press("jjj\x1b[B+kkkk\x1bOA-")
    assert orders == [
        Order(keyboard.second, "/limiters/work/up"),
        Order(keyboard.first, "/limiters/work/down"),
    ]


def test_a_number_sets_the_limit_on_enter(keyboard: Keyboard) -> None:
    """It can be corrected; until Enter it is only shown."""
    hand, orders = keyboard.press("123\x7f\x7f0")
    assert (hand.prompt, orders) == ("set work to 10: Enter sets it, Esc cancels", [])
    hand, orders = keyboard.press("\n", hand)
    assert (hand.prompt, orders) == ("", [Order(keyboard.first, "/limiters/work", 10)])


def test_a_number_is_dropped_by_another_key(keyboard: Keyboard) -> None:
    """Esc, for example, drops it."""
    assert keyboard.press("12\x1b") == (Hand(choices([keyboard.first])[0]), [])
    assert keyboard.press("\n\x7f")[1] == []


@pytest.mark.parametrize(("answer", "number"), [("y", 1), ("n", 0), ("d", 0)])
def test_a_run_is_drained_if_that_is_said_twice(
    keyboard: Keyboard, answer: str, number: int
) -> None:
    """This cannot be undone; the limiter's run is drained."""
    runs = [run("old", state="ended"), run("other", step(limiter="b")), run("mine", step())]
    keyboard.first.take("state", state(runs=runs))
    hand, orders = keyboard.press("d")
    assert hand.prompt == "drain mine, so that nothing more starts? y drains it"
    assert orders == []
    _, orders = keyboard.press(answer, hand)
    assert orders == [Order(keyboard.first, "/runs/mine/drain")] * number


def test_without_a_run_none_is_drained(keyboard: Keyboard) -> None:
    """There is no question either."""
    hand, orders = keyboard.press("dy")
    assert (hand.prompt, orders) == ("", [])


def test_a_mark_stays_at_its_limiter(keyboard: Keyboard) -> None:
    """Other limiters may come or go; if the marked one goes, the first one is marked."""
    hand, _ = keyboard.press("j")
    keyboard.first.take("state", state(gone=["work"]))
    _, orders = keyboard.press("+", hand)
    assert orders == [Order(keyboard.first, "/limiters/a%2Fb/up")]
    keyboard.first.take("state", state(gone=["a/b"]))
    _, orders = keyboard.press("+", hand)
    assert orders == [Order(keyboard.second, "/limiters/work/up")]


def test_q_leaves_whatever_there_is(keyboard: Keyboard) -> None:
    """It works even if nothing can be marked."""
    assert keyboard.press("1q")[0].over
    hand, _ = Hand().press("q", [])
    assert hand.over
    assert Hand().press("+", []) == (Hand(), None)


def test_keys_without_a_meaning_do_nothing(keyboard: Keyboard) -> None:
    """Page up sends several characters, none of which counts as a key."""
    assert parse_keys("\x1b[5~") == []
    assert keyboard.press("xyz\t") == (Hand(choices([keyboard.first])[0]), [])
