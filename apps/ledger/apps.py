from django.apps import AppConfig


class LedgerConfig(AppConfig):
    name = "apps.ledger"
    label = "ledger"

    def ready(self) -> None:
        from apps.core import partitions
        from apps.ledger import invariants, triggers  # noqa: F401 — importing registers the invariants

        partitions.register("ledger_entry", on_create=triggers.partition_triggers)
