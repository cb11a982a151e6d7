from django.apps import AppConfig


class DepositsConfig(AppConfig):
    name = "apps.deposits"
    label = "deposits"

    def ready(self) -> None:
        # Importing registers them.
        from apps.deposits import (  # noqa: F401
            invariants,
            kinds,
            monitor_metrics,
            personal,
            pool,
            sweep_invariants,
            sweep_metrics,
        )
