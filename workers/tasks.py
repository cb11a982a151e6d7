"""Everything Celery should know: importing this registers all tasks."""

from workers import chain, plans, platform

__all__ = ["chain", "plans", "platform"]
