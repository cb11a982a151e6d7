"""How staff get into the admin: the password, then a code; without a factor only the page on which to get one.

Between the steps nobody is signed in: the session holds who showed a password, for ten minutes, and nothing more.
"""

import time
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.views import LoginView
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import mark_safe
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters
from django.views.generic import FormView
from unfold.widgets import UnfoldAdminTextInputWidget

from apps.accounts import second_factor
from apps.accounts.audit import audit_record
from apps.accounts.audit.models import AuditRecord
from apps.accounts.models import User
from apps.core import clock
from apps.core.ids import uuid7_floor

# Session keys: who showed a password, and when they showed a factor (machine time, as the session's own age).
PENDING = "admin_pending"
SHOWN = "admin_second_factor_at"
OFFERED = "admin_factor_offered"
PENDING_SECONDS = 600
PURPOSE = "admin"
# Wrong codes per person within the time; kept in PostgreSQL, with the records that tell of them.
TRIES_MAX = 10
TRIES_WITHIN = timedelta(minutes=15)
REFUSED = "admin.second_factor.refused"


def factor_shown(request: HttpRequest) -> bool:
    """Whether this session showed a second factor, not longer ago than `ADMIN_SESSION_SECONDS`."""
    at = request.session.get(SHOWN)
    return isinstance(at, int) and 0 <= time.time() - at + 1 <= settings.ADMIN_SESSION_SECONDS


class PasswordView(LoginView):
    """Django's, save that the person is remembered instead of signed in."""

    template_name = "admin/login.html"

    def form_valid(self, form: Any) -> HttpResponse:
        user = cast("User", form.get_user())
        # Another session id: what somebody else may have planted is worth nothing.
        self.request.session.flush()
        self.request.session[PENDING] = {
            "user": str(user.pk),
            "hash": user.get_session_auth_hash(),
            "backend": user.backend,
            "at": int(time.time()),
            "next": self.get_success_url(),
        }
        has_one = second_factor.current().enrolled(user_ids={user.pk})
        return HttpResponseRedirect(reverse(f"admin:{'second_factor' if has_one else 'second_factor_enrol'}"))


class CodeForm(forms.Form):
    code = forms.CharField(
        max_length=32,
        label="Code",
        help_text="Of your authenticator app, or a recovery code.",
        widget=UnfoldAdminTextInputWidget(
            attrs={"autocomplete": "one-time-code", "autofocus": True, "autocapitalize": "off"}
        ),
    )


@method_decorator([sensitive_post_parameters(), csrf_protect, never_cache], name="dispatch")
class _StepView(FormView):  # type: ignore[type-arg]
    """A step after the password; without one in this session it leads back to it."""

    form_class = CodeForm
    template_name = "admin/second_factor.html"
    user: User

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        user = _pending(request)
        if user is None:
            request.session.pop(PENDING, None)
            return HttpResponseRedirect(reverse("admin:login"))
        self.user = user
        if self.has_factor is not bool(second_factor.current().enrolled(user_ids={user.pk})):
            other = "second_factor" if not self.has_factor else "second_factor_enrol"
            return HttpResponseRedirect(reverse(f"admin:{other}"))
        return super().dispatch(request, *args, **kwargs)

    has_factor = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(**kwargs, email=self.user.email, app_path=self.request.path)

    def refuse(self, form: CodeForm, said: str) -> HttpResponse:
        form.add_error("code", said)
        return self.render_to_response(self.get_context_data(form=form))

    def enter(self) -> str:
        """Sign the person in for good; returns where they wanted to go."""
        pending = self.request.session.pop(PENDING)
        self.request.session.pop(OFFERED, None)
        login(self.request, self.user, backend=pending["backend"])
        self.request.session[SHOWN] = int(time.time())
        _recorded(self.request, self.user, "admin.signed_in")
        return _next(self.request, pending["next"])


class CodeView(_StepView):
    """The second factor of somebody who has one."""

    extra_title = "Second factor"

    def form_valid(self, form: CodeForm) -> HttpResponse:
        code = form.cleaned_data["code"].strip().replace(" ", "")
        with transaction.atomic():
            # The person's row: tries are counted one after another, however many arrive at once.
            User.objects.select_for_update(no_key=True).get(pk=self.user.pk)
            if _tries(self.user.pk) >= TRIES_MAX:
                return self.refuse(form, "Too many wrong codes. Try again in a quarter of an hour.")
            right = second_factor.current().verify(user_id=self.user.pk, code=code, purpose=PURPOSE)
            if not right:
                _recorded(self.request, self.user, REFUSED)
            else:
                where = self.enter()
        return HttpResponseRedirect(where) if right else self.refuse(form, "That code is not right.")


class EnrolView(_StepView):
    """The only page for staff without a factor: they get one here, and then their recovery codes."""

    template_name = "admin/second_factor_enrol.html"
    has_factor = False

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        enrolment = _enrolment()
        session = self.request.session
        offer = enrolment.offer(user_id=self.user.pk, secret=session.get(OFFERED, ""))
        session[OFFERED] = offer.secret
        shown = {"secret": offer.secret, "otpauth": offer.url, "qr_svg": mark_safe(offer.qr_svg)}  # noqa: S308
        return super().get_context_data(**kwargs, **shown)

    def form_valid(self, form: CodeForm) -> HttpResponse:
        secret = self.request.session.get(OFFERED, "")
        with transaction.atomic():
            User.objects.select_for_update(no_key=True).get(pk=self.user.pk)
            codes = None
            if secret and _tries(self.user.pk) < TRIES_MAX:
                code = form.cleaned_data["code"].strip().replace(" ", "")
                codes = _enrolment().confirm(user_id=self.user.pk, secret=secret, code=code)
            if codes is None:
                _recorded(self.request, self.user, REFUSED)
            else:
                _recorded(self.request, self.user, "second_factor.enrolled")
                where = self.enter()
        if codes is None:
            return self.refuse(form, "That code is not right. Is the clock of your phone right?")
        context = {**(self.extra_context or {}), "title": "Recovery codes", "codes": codes, "next": where}
        return render(self.request, "admin/second_factor_codes.html", context)


def _enrolment() -> second_factor.Enrolment:
    enrolment = second_factor.enrolment()
    if enrolment is None:
        raise PermissionDenied("Nobody can set up a second factor here, and without one nobody gets in.")
    return enrolment


def _pending(request: HttpRequest) -> User | None:
    """Who showed their password in this session just now, and still may get in by it."""
    pending = request.session.get(PENDING)
    if not isinstance(pending, dict) or not 0 <= time.time() - pending["at"] + 1 <= PENDING_SECONDS:
        return None
    user = User.objects.filter(pk=UUID(pending["user"]), is_active=True, is_staff=True).first()
    return user if user is not None and user.get_session_auth_hash() == pending["hash"] else None


def _next(request: HttpRequest, wanted: str) -> str:
    own = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if own else reverse("admin:index")


def _tries(user_id: UUID) -> int:
    """Wrong codes of a person lately. Index: accounts_audit_actor."""
    since = uuid7_floor(clock.now() - TRIES_WITHIN)
    return AuditRecord.objects.filter(actor_id=user_id, id__gte=since, action=REFUSED).count()


def _recorded(request: HttpRequest, user: User, action: str) -> None:
    audit_record(
        actor=user,
        action=action,
        target_type="user",
        target_id=user.pk,
        before=None,
        after=None,
        request=request,
    )
