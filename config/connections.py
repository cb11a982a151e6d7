"""Database connections of worker processes: kept from task to task, as the web's are from request to request.

Celery's own fixup closes them before and after each task. A task that finds nothing to do then costs a fork in
PostgreSQL, a handshake, and every plan and catalogue entry read anew: ten times what it does otherwise.
"""

from typing import Any

from celery import Celery
from celery.fixups import django as celery_django
from django.db import connections

# The stubs of this module are of an older Celery.
_upstream: Any = celery_django


class _WorkerFixup(_upstream.DjangoWorkerFixup):  # type: ignore[misc]
    def close_database(self, **_: Any) -> None:
        """Around each task: close what is broken or older than `CONN_MAX_AGE`, as Django does around each request.

        A process just forked closes whatever it inherited, as before.
        """
        for connection in connections.all(initialized_only=True):
            connection.close_if_unusable_or_obsolete()


class _Fixup(_upstream.DjangoFixup):  # type: ignore[misc]
    @property
    def worker_fixup(self) -> _WorkerFixup:
        # Not at once: it reads the configuration, which is not there yet when the app is made.
        if self._worker_fixup is None:
            self._worker_fixup: _WorkerFixup | None = _WorkerFixup(self.app)
        return self._worker_fixup


def fixup(app: Celery) -> _Fixup:
    """Celery's support of Django, with kept connections; `Celery(fixups=…)` calls it."""
    made = _Fixup(app)
    made.install()
    return made
