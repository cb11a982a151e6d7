from django.apps import AppConfig


class StreamConfig(AppConfig):
    name = "apps.stream"
    label = "stream"

    def ready(self) -> None:
        from apps.stream import metrics  # noqa: F401 — importing registers it
