"""The admin's site: password, then second factor, then pages."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from django.contrib.auth import REDIRECT_FIELD_NAME, get_user_model
from django.db import transaction
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from unfold.admin import ModelAdmin as PlainAdmin
from unfold.sites import UnfoldAdminSite

from apps.accounts.adminsite import signing_in
from apps.accounts.adminsite.guarded import Guarded

if TYPE_CHECKING:
    from apps.accounts.models import User

# Pages that packages bring and nobody here needs: groups are the table of roles in code; factors, sessions and locks
# are changed by the flows that keep them.
LEFT_OUT = {"auth", "axes", "account", "mfa", "socialaccount", "usersessions"}


class Site(UnfoldAdminSite):  # type: ignore[misc]
    """Every registered page is `Guarded`; whoever has not shown a second factor sees none of them."""

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        models = model_or_iterable if isinstance(model_or_iterable, Iterable) else [model_or_iterable]
        wanted = [model for model in models if model._meta.app_label not in LEFT_OUT]
        shown: Any = admin_class or PlainAdmin
        guarded = type(shown)(shown.__name__, (Guarded, shown), {"__module__": shown.__module__})
        super().register(wanted, guarded, **options)

    def has_permission(self, request: HttpRequest) -> bool:
        return bool(super().has_permission(request)) and signing_in.factor_shown(request)

    def extra_urls(self) -> list[URLPattern]:
        return [
            path("second-factor/", self.second_factor, name="second_factor"),
            path("second-factor/enrol/", self.second_factor_enrol, name="second_factor_enrol"),
        ]

    @method_decorator(never_cache)
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponseBase:
        """The password. Nobody is signed in by it: the next page asks for the second factor."""
        if request.method == "GET" and self.has_permission(request):
            return HttpResponseRedirect(reverse("admin:index", current_app=self.name))
        context = {
            **self.each_context(request),
            "title": "Log in",
            "subtitle": None,
            "app_path": request.get_full_path(),
            "username": request.user.get_username(),
            REDIRECT_FIELD_NAME: request.GET.get(REDIRECT_FIELD_NAME) or reverse("admin:index"),
            **(extra_context or {}),
        }
        request.current_app = self.name
        view = signing_in.PasswordView.as_view(
            extra_context=context, authentication_form=self.login_form, next_page=reverse("admin:index")
        )
        return view(request)

    def password_change(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponseBase:
        """One's own; like every change of a password it is told and written down."""
        with transaction.atomic():
            person = cast("User", request.user)
            if request.method == "POST":
                # Django's form writes the whole row back.
                person.refresh_from_db(from_queryset=get_user_model().objects.select_for_update(no_key=True))
            before = person.password
            answer: HttpResponseBase = super().password_change(request, extra_context)
            if person.password != before:
                # Imported here: the site is made before the models are there.
                from apps.accounts.signin.services import admin_password_changed

                admin_password_changed(user_id=person.pk, request=request)
            return answer

    def second_factor(self, request: HttpRequest) -> HttpResponseBase:
        return signing_in.CodeView.as_view(extra_context=self.each_context(request))(request)

    def second_factor_enrol(self, request: HttpRequest) -> HttpResponseBase:
        return signing_in.EnrolView.as_view(extra_context=self.each_context(request))(request)
