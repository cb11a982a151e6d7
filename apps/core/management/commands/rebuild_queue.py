"""`manage.py rebuild_queue`: ring for everything that is due, at once. The queue is in PostgreSQL, not in Redis."""

from typing import Any

from django.core.management.base import BaseCommand

from apps.core import doorbell, work


class Command(BaseCommand):
    help = "Ring the doorbell of every kind of work that has due rows (the tick does it every second anyway)."

    def handle(self, *_: Any, **__: Any) -> None:
        depths = work.depths()
        for name in work.due_names():
            doorbell.ring(name)
        for name, depth in depths.items():
            self.stdout.write(
                f"{name:<18} due {depth['due']:>7}  leased {depth['leased']:>6}  buried {depth['buried']:>5}"
                + ("  rung" if depth["due"] else "")
            )
