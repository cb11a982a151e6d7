from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


def _ensure_partitions(**_: Any) -> None:
    """After every migrate: the coming months have their partitions before the first row arrives."""
    from apps.core import partitions

    partitions.ensure()


class CoreConfig(AppConfig):
    name = "apps.core"
    label = "core"

    def ready(self) -> None:
        from apps.core import probe  # noqa: F401 — registers its kind of work

        post_migrate.connect(_ensure_partitions, sender=self, dispatch_uid="core.partitions")
