"""What every page of the admin does besides its own work: it asks first, and it writes down what was done."""

from collections.abc import Iterable, Mapping
from typing import Any

from django import forms
from django.contrib.admin import ModelAdmin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import models, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from apps.accounts.audit import audit_record
from apps.accounts.audit.recording import MASKED, email_hint

# An action is recorded row by row; what it changed of more rows than this is not.
_ROWS_REMEMBERED = 500
Values = dict[str, Any]


class Guarded(ModelAdmin):  # type: ignore[type-arg]
    """Goes before every page's own class (`Site.register`).

    Whoever calls `log_addition`, `log_change` or `log_deletions`, as Django's forms and our actions do, feeds the audit
    log in the same transaction: with the form's fields before and after, or with what an action changed of the row.
    """

    def get_actions(self, request: HttpRequest) -> Any:
        """An action that names no permission is a change: whoever may only look is not offered it."""
        actions = super().get_actions(request)
        if self.has_change_permission(request):
            return actions
        return {
            name: one
            for name, one in actions.items()
            if one is not None and hasattr(one[0], "allowed_permissions")
        }

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """403 for an action that is not, or no longer, theirs; Django would say “no action selected”."""
        named = {one for one in request.POST.getlist("action") if one}
        if named and not named <= self.get_actions(request).keys():
            raise PermissionDenied
        return super().changelist_view(request, extra_context)

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Asks before it says whether there is such a row."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        return super().history_view(request, object_id, extra_context)

    def response_action(self, request: HttpRequest, queryset: QuerySet[models.Model], *args: Any) -> Any:
        chosen = request.POST.getlist(ACTION_CHECKBOX_NAME)[:_ROWS_REMEMBERED]
        names = [one for one in request.POST.getlist("action") if one]
        request.audit_action = names[0] if names else ""  # type: ignore[attr-defined]
        request.audit_rows = _rows(self.model, chosen)  # type: ignore[attr-defined]
        if names == ["delete_selected"]:
            # Django writes down what it will delete, then deletes: both or neither.
            with transaction.atomic():
                return super().response_action(request, queryset, *args)
        return super().response_action(request, queryset, *args)

    def construct_change_message(
        self, request: HttpRequest, form: Any, formsets: Iterable[Any], add: bool = False
    ) -> Any:
        request.audit_form = _form_changes(form, formsets or [], add=add)  # type: ignore[attr-defined]
        return super().construct_change_message(request, form, formsets, add)

    def log_addition(self, request: HttpRequest, obj: models.Model, message: Any) -> Any:
        with transaction.atomic():
            self._recorded(request, obj, "add", *_changes(request, obj), message)
            return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: models.Model, message: Any) -> Any:
        with transaction.atomic():
            verb = getattr(request, "audit_action", "") or "change"
            self._recorded(request, obj, verb, *_changes(request, obj), message)
            return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        with transaction.atomic():
            for row in queryset:
                self._recorded(request, row, "delete", _values(row), None, "")
            return super().log_deletions(request, queryset)

    def _recorded(
        self,
        request: HttpRequest,
        row: models.Model,
        verb: str,
        before: Values | None,
        after: Values | None,
        message: Any,
    ) -> None:
        if isinstance(message, str) and message and after is not None:
            after = {**after, "said": message}
        audit_record(
            actor=request.user if request.user.is_authenticated else None,
            action=f"admin.{row._meta.label_lower}.{verb}",
            target_type=row._meta.model_name or "",
            target_id=row.pk,
            before=before,
            after=after,
            request=request,
        )


def _rows(model: type[models.Model], chosen: list[str]) -> dict[str, Values]:
    if not chosen:
        return {}
    try:
        return {str(row.pk): _values(row) for row in model._base_manager.filter(pk__in=chosen)}
    except (ValidationError, ValueError):  # not even ids
        return {}


def _values(row: models.Model) -> Values:
    """A row's columns; of what is encrypted or hashed only that it is there."""
    return {field.attname: _value(field, getattr(row, field.attname)) for field in row._meta.concrete_fields}


def _value(field: Any, value: Any) -> Any:
    return MASKED if value is not None and isinstance(field, models.BinaryField) else value


def _changes(request: HttpRequest, row: models.Model) -> tuple[Values | None, Values | None]:
    """Before and after: of the form that was saved, else of the row that an action took from one to the other."""
    form: tuple[Values, Values] | None = getattr(request, "audit_form", None)
    if form is not None:
        return form
    before: Mapping[str, Values] = getattr(request, "audit_rows", {})
    known = before.get(str(row.pk))
    fresh = type(row)._base_manager.filter(pk=row.pk).first()
    if known is None or fresh is None:
        return None, {}
    now = _values(fresh)
    changed = [name for name in now if now[name] != known.get(name)]
    return {name: known[name] for name in changed}, {name: now[name] for name in changed}


def _form_changes(form: Any, formsets: Iterable[Any], *, add: bool) -> tuple[Values, Values]:
    before, after = _form_values(form, add=add)
    for formset in formsets:
        for one in getattr(formset, "forms", []):
            row = one.instance
            deleted = row in formset.deleted_objects if hasattr(formset, "deleted_objects") else False
            if not deleted and not one.has_changed():
                continue
            name = f"{row._meta.model_name}:{row.pk}"
            fresh = row in list(formset.new_objects)
            was, now = _form_values(one, add=fresh)
            before[name] = None if fresh else was
            after[name] = None if deleted else now
    return before, after


def _form_values(form: Any, *, add: bool) -> tuple[Values, Values]:
    """What the form's changed fields were and are."""
    before, after = {}, {}
    for name in form.changed_data:
        bound = form.fields.get(name)
        after[name] = _shown(form.cleaned_data.get(name), bound)
        if not add:
            before[name] = _shown(form.initial.get(name), bound)
    return before, after


def _shown(value: Any, bound: forms.Field | None = None) -> Any:
    """Names of secrets are masked where they are written; a field that hides what is typed is one, too."""
    if bound is not None and isinstance(bound.widget, forms.PasswordInput):
        return MASKED
    if isinstance(bound, forms.EmailField) and value:
        return email_hint(str(value))
    if isinstance(value, QuerySet | list | tuple):
        return [_shown(one) for one in value]
    return value.pk if isinstance(value, models.Model) else value
