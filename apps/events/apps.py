from django.apps import AppConfig


def _partition_triggers(partition: str) -> list[str]:
    """PostgreSQL clones row triggers to a new partition, but not those of statements."""
    trigger = f"CREATE TRIGGER events_event_no_truncate BEFORE TRUNCATE ON {partition}"
    return [f"{trigger} FOR EACH STATEMENT EXECUTE FUNCTION core_refuse_change()"]


class EventsConfig(AppConfig):
    name = "apps.events"
    label = "events"

    def ready(self) -> None:
        from apps.core import partitions

        partitions.register("events_event", on_create=_partition_triggers)
