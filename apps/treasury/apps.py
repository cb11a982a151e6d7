from django.apps import AppConfig


class TreasuryConfig(AppConfig):
    name = "apps.treasury"
    label = "treasury"

    def ready(self) -> None:
        from apps.treasury import invariants, metrics  # noqa: F401 — importing registers them
