"""Everything Celery should know: importing this registers all tasks."""

from workers import chain, money, plans, platform

__all__ = ["chain", "money", "plans", "platform"]
