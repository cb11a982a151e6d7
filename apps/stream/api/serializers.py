from typing import Any

from rest_framework import serializers

from apps.core.api.fields import InstantField, QueryNumberField
from apps.core.api.serializers import StrictSerializer
from apps.core.api.views import PageQuerySerializer
from apps.events.feed import PersonEvent
from apps.events.topics import PERSON_TOPICS


class StreamQuerySerializer(StrictSerializer):
    last_event_id = QueryNumberField(min_value=0, required=False)


class EventsQuerySerializer(PageQuerySerializer):
    after = QueryNumberField(min_value=0, default=0)


class EventObjectSerializer(serializers.Serializer[Any]):
    type = serializers.CharField()
    id = serializers.UUIDField()


class EventSerializer(serializers.Serializer[PersonEvent]):
    id = serializers.UUIDField()
    sequence = serializers.IntegerField(help_text="1, 2, 3 … per person, without gaps; the stream's `id`.")
    topic = serializers.ChoiceField(
        choices=list(PERSON_TOPICS),
        help_text="What happened, in past tense; the stream's `event`. New ones may be added.",
    )
    occurred_at = InstantField()
    object = EventObjectSerializer(allow_null=True, help_text="What it happened to.")
    payload = serializers.DictField(child=serializers.JSONField(allow_null=True))

    def to_representation(self, instance: PersonEvent) -> dict[str, Any]:
        return instance.document()
