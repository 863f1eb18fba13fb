"""The books of one step."""

from __future__ import annotations

from trio_turnstile._engine.counts import Counts, Fate


def test_the_books_balance_after_each_booking() -> None:
    """Every item received has ended in one way, or is in flight."""
    counts, following = Counts(), Counts()
    bookings = [
        counts.receive,
        counts.receive,
        lambda: counts.hand_over(following),
        lambda: counts.settle(Fate.COMPLETED),
        lambda: counts.cancel("an item"),
    ]
    for book in bookings:
        book()
        assert counts.received == counts.in_flight + sum(counts.fates.values())
    assert counts.cut_off == ["an item"]
    assert (counts.passed_on, following.received, following.in_flight) == (1, 1, 1)


def test_a_receipt_that_was_not_booked_shows() -> None:
    """Without a booked receipt, the end of the item leaves a negative number in flight."""
    counts = Counts()
    counts.settle(Fate.COMPLETED)
    assert counts.in_flight == -1
