"""The law of the books: what was received has met one fate, or is in flight."""

from __future__ import annotations

from typing import Protocol


class Account(Protocol):
    """Anything that counts what became of its items: a `Report`, a `Manager`."""

    @property
    def received(self) -> int:
        """How many were taken from the source."""
        ...

    @property
    def completed(self) -> int:
        """How many are through."""
        ...

    @property
    def failed(self) -> int:
        """How many are not, because of an error."""
        ...

    @property
    def cancelled(self) -> int:
        """How many were cut off."""
        ...

    @property
    def working(self) -> int:
        """How many are under way."""
        ...


def assert_conserved(account: Account) -> None:
    """Assert that no item was lost or counted twice.

    ``received == completed + failed + cancelled + working`` holds at every instant
    of a run and after every end of it.

    Raises:
      AssertionError: if it does not; the message has the figures.
    """
    fates = account.completed + account.failed + account.cancelled
    if account.received != fates + account.working:
        raise AssertionError(
            f"the books do not balance: received {account.received}, but completed "
            f"{account.completed} + failed {account.failed} + cancelled {account.cancelled} "
            f"+ working {account.working} = {fates + account.working}"
        )
