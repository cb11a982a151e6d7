from django.apps import AppConfig


class ChainConfig(AppConfig):
    name = "apps.chain"
    label = "chain"

    def ready(self) -> None:
        from apps.chain import invariants, kinds, metrics  # noqa: F401 — registration
