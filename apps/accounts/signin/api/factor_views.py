"""For whoever is signed in: the authenticator app, recovery codes and passkeys."""

from typing import Any
from uuid import UUID

from allauth.headless.mfa.views import ManageRecoveryCodesView, ManageTOTPView, ManageWebAuthnView
from allauth.mfa.models import Authenticator
from django.db.models import QuerySet
from django.http import HttpRequest
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.signin import factor
from apps.accounts.signin.api import serializers as s
from apps.accounts.signin.api.bridge import SECRET, PersonView
from apps.accounts.signin.api.schema import steps
from apps.accounts.signin.facts import fact, factor_values, noted, recovery_values
from apps.accounts.signin.notices import mail_queue, notice
from apps.core.errors import Conflict, NotFound
from apps.core.qr import qr_svg


class FactorsView(PersonView):
    @extend_schema(
        operation_id="auth_factors_read",
        summary="Your second factors",
        responses=s.FactorsSerializer,
        examples=steps("factors"),
    )
    def get(self, request: Request) -> Response:
        self.read_query(request, s.NoneSerializer)
        rows = list(Authenticator.objects.filter(user_id=self.user_id))
        codes = [row for row in rows if row.type == Authenticator.Type.RECOVERY_CODES]
        body = {
            "totp": any(row.type == Authenticator.Type.TOTP for row in rows),
            "passkeys": sum(row.type == Authenticator.Type.WEBAUTHN for row in rows),
            "recovery_codes_left": sum(len(row.wrap().get_unused_codes()) for row in codes),
        }
        return Response(body)


class TotpView(PersonView):
    # Without an authenticator app.
    also = {"DELETE": frozenset({404})}

    @extend_schema(
        operation_id="auth_totp_begin",
        summary="Begin to add an authenticator app",
        request=None,
        responses=s.TotpSecretSerializer,
        examples=steps("totp_secret"),
    )
    def post(self, request: Request) -> Response:
        """Wants a step-up. Nothing is asked for before a code of it was confirmed."""
        self.read_empty(request)
        _totp_refuse(self.user_id)
        said = self.ask(ManageTOTPView, "GET", fine=(404,), step_up=True)
        secret, uri = said.meta["secret"], said.meta["totp_url"]
        return Response({"secret": secret, "uri": uri, "qr_svg": qr_svg(uri)}, headers=SECRET)

    @extend_schema(
        operation_id="auth_totp_remove",
        summary="Remove the authenticator app",
        responses={204: None},
    )
    def delete(self, request: Request) -> Response:
        """Wants a step-up. With the last factor the recovery codes go too."""
        if not _totp_of(self.user_id).exists():
            raise NotFound
        self.ask(ManageTOTPView, "DELETE")
        return Response(status=204)


class TotpConfirmView(PersonView):
    @extend_schema(
        operation_id="auth_totp_confirm",
        summary="Add the authenticator app",
        request=s.CodeSerializer,
        responses=s.RecoveryCodesSerializer,
        examples=steps("code", "recovery_codes"),
    )
    def post(self, request: Request) -> Response:
        """Wants a step-up and a code of the app. `recovery_codes` is empty when there were some before."""
        values = self.read(request, s.CodeSerializer)
        _totp_refuse(self.user_id)
        codes: list[str] = []

        def after(inside: HttpRequest) -> None:
            row = _totp_of(self.user_id).get()
            # The code that confirms is used up like any other.
            factor.totp_spend(row, values["code"])
            codes.extend(_codes_show(self.user_id))
            fact("person.factor_added", self.user_id, after=factor_values(row), factor="totp")
            mail_queue("factor_added", to=inside.user.email, context={**notice(inside), "factor": "totp"})  # type: ignore[union-attr]

        self.ask(ManageTOTPView, data=values, after=after)
        return Response({"recovery_codes": codes}, headers=SECRET)


def _totp_of(user_id: UUID) -> QuerySet[Authenticator]:
    found: QuerySet[Authenticator] = Authenticator.objects.filter(
        user_id=user_id, type=Authenticator.Type.TOTP
    )
    return found


def _totp_refuse(user_id: UUID) -> None:
    if _totp_of(user_id).exists():
        raise Conflict("totp_exists", "There is an authenticator app already: remove it first.")


class RecoveryCodesView(PersonView):
    @extend_schema(
        operation_id="auth_recovery_codes_make",
        summary="Make new recovery codes",
        request=None,
        responses=s.RecoveryCodesSerializer,
        examples=steps("recovery_codes"),
    )
    def post(self, request: Request) -> Response:
        """Wants a step-up. The ones before are worthless then."""
        self.read_empty(request)
        if not factor.has_factor(self.user_id):
            raise Conflict("no_second_factor", "Recovery codes stand in for a second factor: add one first.")

        before = recovery_values(self.user_id)

        def after(inside: HttpRequest) -> None:
            fact(
                "person.recovery_codes_made",
                self.user_id,
                before=before,
                after=recovery_values(self.user_id),
            )
            mail_queue("recovery_codes_made", to=inside.user.email, context=notice(inside))  # type: ignore[union-attr]

        said = self.ask(ManageRecoveryCodesView, data={}, after=after)
        return Response({"recovery_codes": said.data["unused_codes"]}, headers=SECRET)


def _codes_show(user_id: UUID) -> list[str]:
    """Recovery codes that allauth has just made and nobody has seen; they are seen now."""
    row = Authenticator.objects.filter(user_id=user_id, type=Authenticator.Type.RECOVERY_CODES).first()
    if row is None or row.wrap().did_view:
        return []
    row.wrap().mark_as_viewed()
    # Made with the first factor, of which there is an event and a mail.
    noted("person.recovery_codes_made", user_id, before=None, after=recovery_values(user_id))
    return list(row.wrap().get_unused_codes())


class PasskeyOptionsView(PersonView):
    @extend_schema(
        operation_id="auth_passkeys_options",
        summary="Begin to add a passkey",
        request=s.PasskeyOptionsSerializer,
        responses=s.OptionsSerializer,
        examples=steps("passkey_options", "creation_options"),
    )
    def post(self, request: Request) -> Response:
        """Wants a step-up."""
        values = self.read(request, s.PasskeyOptionsSerializer)
        query = "passwordless=" if values["passwordless"] else ""
        said = self.ask(ManageWebAuthnView, "GET", query=query)
        return Response({"options": said.data["creation_options"]})


class PasskeysView(PersonView):
    @extend_schema(
        operation_id="auth_passkeys_list",
        summary="Your passkeys",
        responses=s.PasskeysSerializer,
        examples=steps("passkeys"),
    )
    def get(self, request: Request) -> Response:
        self.read_query(request, s.NoneSerializer)
        rows = Authenticator.objects.filter(user_id=self.user_id, type=Authenticator.Type.WEBAUTHN)
        return Response({"data": [_passkey(row) for row in rows.order_by("-pk")]})

    @extend_schema(
        operation_id="auth_passkeys_add",
        summary="Add a passkey",
        request=s.PasskeyAddSerializer,
        responses={201: s.PasskeyAddedSerializer},
        examples=steps("attestation", "passkey_added"),
    )
    def post(self, request: Request) -> Response:
        """Wants a step-up. It is a second factor from now on."""
        values = self.read(request, s.PasskeyAddSerializer)
        codes: list[str] = []

        def after(_: HttpRequest) -> None:
            codes.extend(_codes_show(self.user_id))

        said = self.ask_passkey(ManageWebAuthnView, data=values, after=after)
        row = Authenticator.objects.get(pk=said.data["id"])
        return Response({**_passkey(row), "recovery_codes": codes}, status=201, headers=SECRET)


class PasskeyView(PersonView):
    @extend_schema(
        operation_id="auth_passkeys_rename",
        summary="Rename a passkey",
        request=s.PasskeyRenameSerializer,
        responses=s.PasskeySerializer,
        examples=steps("passkey_rename", "passkey"),
    )
    def patch(self, request: Request, passkey_id: int) -> Response:
        """Wants a step-up."""
        values = self.read(request, s.PasskeyRenameSerializer)
        row = self._mine(passkey_id)
        before = factor_values(row)

        def after(_: HttpRequest) -> None:
            row.refresh_from_db()
            noted("person.passkey_renamed", self.user_id, before=before, after=factor_values(row))

        self.ask(ManageWebAuthnView, "PUT", data={"id": row.pk, **values}, after=after)
        return Response(_passkey(row))

    @extend_schema(operation_id="auth_passkeys_remove", summary="Remove a passkey", responses={204: None})
    def delete(self, request: Request, passkey_id: int) -> Response:
        """Wants a step-up. With the last factor the recovery codes go too."""
        row = self._mine(passkey_id)
        self.ask(ManageWebAuthnView, "DELETE", data={"authenticators": [row.pk]})
        return Response(status=204)

    def _mine(self, passkey_id: int) -> Authenticator:
        mine = Authenticator.objects.filter(user_id=self.user_id, type=Authenticator.Type.WEBAUTHN)
        row: Authenticator | None = mine.filter(pk=passkey_id).first()
        if row is None:
            raise NotFound
        return row


def _passkey(row: Authenticator) -> dict[str, Any]:
    made, used = row.created_at, row.last_used_at
    instant = s.PasskeySerializer().fields["created_at"].to_representation
    return {
        "id": row.pk,
        "name": row.wrap().name,
        # What the browser said of it (`credProps`), whatever that was.
        "passwordless": row.wrap().is_passwordless is True,
        "created_at": instant(made),
        "last_used_at": instant(used) if used else None,
    }
