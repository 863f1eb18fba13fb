"""`Unpaid`: what was taken lately, and how much of it the rate has not paid off yet.

What was taken last is paid off first. Then what is unpaid of all that was taken after a moment is
the debt that there would be if nothing had been taken before. A late refund must not lower the
debt under that, else more could pass at once than the burst. Up to there it is sound: the debt is
then as it would be if less had been taken in the first place.
"""

from __future__ import annotations

from typing import final

_COARSE = 64
"""What is taken in smaller pieces than such a part of the burst is kept in one piece."""


@final
class Unpaid:
    """What is unpaid, by the mark at which it was taken.

    Args:
      burst: the most that may be taken at once.
    """

    __slots__ = ("_pieces", "_small")

    def __init__(self, burst: float) -> None:
        self._pieces = list[tuple[float, float]]()
        self._small = burst / _COARSE

    def clear(self) -> None:
        """Take all of it for paid."""
        self._pieces.clear()

    def take(self, amount: float, mark: float) -> None:
        """Note that so much was taken, up to this mark."""
        pieces = self._pieces
        if pieces and pieces[-1][1] + amount <= self._small:
            amount += pieces.pop()[1]
        pieces.append((mark, amount))

    def pay_off(self, paid: float) -> None:
        """Pay off so much of what was taken last."""
        pieces = self._pieces
        while pieces:
            mark, amount = pieces.pop()
            if amount > paid:
                pieces.append((mark, amount - paid))
                break
            paid -= amount

    def since(self, mark: float) -> float:
        """Return how much is unpaid of what was taken after a mark, or a little more."""
        return sum(amount for at, amount in self._pieces if at > mark)

    def give_back(self, amount: float, mark: float) -> None:
        """Note that so much less was taken, up to this mark."""
        later = [piece for piece in self._pieces if piece[0] > mark]
        del self._pieces[len(self._pieces) - len(later) :]
        self.pay_off(amount)
        self._pieces += later
