"""`any_of`: membership in a large set of ids as one array parameter instead of thousands of placeholders."""

from typing import Any

from django.db.models import Lookup, UUIDField

from apps.core import bulk


@UUIDField.register_lookup
class AnyOf(Lookup):
    """`filter(pk__any_of=ids)`: the same rows as `pk__in`, at a fraction of the cost for thousands of ids."""

    lookup_name = "any_of"
    prepare_rhs = False

    def get_db_prep_lookup(self, value: Any, connection: Any) -> Any:
        return "%s::uuid[]", [bulk.uuids(value)]

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        left, left_parameters = self.process_lhs(compiler, connection)
        right, right_parameters = self.process_rhs(compiler, connection)
        return f"{left} = ANY({right})", [*left_parameters, *right_parameters]
