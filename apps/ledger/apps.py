from django.apps import AppConfig


class LedgerConfig(AppConfig):
    name = "apps.ledger"
    label = "ledger"

    def ready(self) -> None:
        from apps.core import partitions
        from apps.ledger import invariants, personal, triggers  # noqa: F401 — importing registers them

        partitions.register("ledger_entry", on_create=triggers.partition_triggers)
