"""The base of every serializer that reads a body or a query string."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from apps.core.api.fields import AmountField

_UNKNOWN = serializers.ErrorDetail("This field is not known here.", code="unknown_field")


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses unknown fields, and turns amounts into base units once their asset is known.

    Errors of known and unknown fields are reported together, so that one answer says all that is wrong.
    """

    def to_internal_value(self, data: Any) -> Any:
        errors: dict[str, Any] = {}
        if isinstance(data, Mapping):
            known = {name for name, field in self.fields.items() if not field.read_only}
            errors = {str(name): [_UNKNOWN] for name in data if name not in known}
        try:
            attrs = super().to_internal_value(data)
        except serializers.ValidationError as error:
            if not errors or not isinstance(error.detail, Mapping):
                raise
            raise serializers.ValidationError({**error.detail, **errors}) from error
        for name, field in self.fields.items():
            text = attrs.get(field.source) if isinstance(field, AmountField) and not field.read_only else None
            if isinstance(text, str) and isinstance(field, AmountField):
                try:
                    attrs[field.source] = field.finish(text, attrs)
                except serializers.ValidationError as error:
                    errors[name] = error.detail
        if errors:
            raise serializers.ValidationError(errors)
        return attrs
