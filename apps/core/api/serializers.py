"""The base of every serializer that reads a body or a query string."""

import copy
from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from apps.core.api.fields import AmountField

_UNKNOWN = serializers.ErrorDetail("This field is not known here.", code="unknown_field")


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses unknown fields, and turns amounts into base units once their asset is known.

    Errors of known and unknown fields are reported together, so that one answer says all that is wrong.
    """

    def get_fields(self) -> dict[str, Any]:
        """Copies of the declared fields, for this body alone to bind.

        DRF builds each anew from its arguments, which costs more than all the checking. A plain field changes only
        its own attributes when it is bound, so that its attributes can be shared; one with a child is built anew.
        """
        return {
            name: copy.deepcopy(field) if hasattr(field, "child") else copy.copy(field)
            for name, field in self._declared_fields.items()
        }

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
