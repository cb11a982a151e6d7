from django.apps import AppConfig


class DepositsConfig(AppConfig):
    name = "apps.deposits"
    label = "deposits"

    def ready(self) -> None:
        from apps.deposits import invariants, kinds, pool, sweep_invariants  # noqa: F401 — importing registers them
