"""What can go wrong with a journal. None of these leaves anything written."""

from uuid import UUID

from apps.core.errors import Conflict, Terminal


class JournalInvalid(Terminal):
    """The draft itself is wrong: it does not balance, names an unknown account, or says nothing."""


class ReferenceReused(Terminal):
    """The reference was used before for other content: two facts claim one name."""

    def __init__(self, reference: str) -> None:
        super().__init__(f"journal reference {reference!r} was used before with other content")
        self.reference = reference


class AlreadyReversed(Conflict):
    """A journal is reversed once; a reversal is not reversed."""

    def __init__(self, detail: str) -> None:
        super().__init__("already_reversed", detail)


class InsufficientFunds(Conflict):
    """Posting would have taken an account past zero on its wrong side.

    `account_id` is that account, `balance_units` what it had at that point, `amount_units` what was to be
    added, `reference` the first journal that did not fit.
    """

    def __init__(self, *, account_id: UUID, balance_units: int, amount_units: int, reference: str) -> None:
        super().__init__("insufficient_funds", "The account does not have enough funds for this.")
        self.account_id = account_id
        self.balance_units = balance_units
        self.amount_units = amount_units
        self.reference = reference

    def __str__(self) -> str:
        return (
            f"account {self.account_id} has {self.balance_units} units, cannot take {self.amount_units:+d} "
            f"(journal {self.reference})"
        )
