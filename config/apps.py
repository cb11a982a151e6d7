from django.apps import AppConfig


class ConfigConfig(AppConfig):
    """Makes the Celery app the current one in every process: web and commands ring doorbells too."""

    name = "config"
    label = "config"

    def ready(self) -> None:
        from config import celery  # noqa: F401
