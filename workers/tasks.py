"""Everything Celery should know: importing this registers all tasks."""

from workers import chain, deposits, mail, money, plans, platform, withdrawals

__all__ = ["chain", "deposits", "mail", "money", "plans", "platform", "withdrawals"]
