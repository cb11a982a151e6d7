from django.apps import AppConfig


class WorkersConfig(AppConfig):
    name = "workers"
    label = "workers"

    def ready(self) -> None:
        from apps.core import doorbell
        from workers import tasks  # noqa: F401 — fills the table of queues
        from workers.ringer import ring

        doorbell.install(ring)
