"""Everything Celery should know: importing this registers all tasks."""

from workers import (
    accounts,
    chain,
    deposits,
    mail,
    money,
    notifications,
    people,
    plans,
    platform,
    withdrawals,
)

__all__ = [
    "accounts", "chain", "deposits", "mail", "money", "notifications", "people", "plans", "platform", "withdrawals",
]  # fmt: skip
