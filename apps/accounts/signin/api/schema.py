"""Of the OpenAPI document: the answer that wants another step, the flow's token, and an example of each body."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from apps.accounts.signin.api.serializers import IncompleteProblemSerializer
from apps.accounts.tokens.caller import TRANSPORT_HEADER
from apps.core.api.problems import CONTENT_TYPE

NEXT: dict[Any, Any] = {
    (401, CONTENT_TYPE): OpenApiResponse(
        IncompleteProblemSerializer, description="Another step is needed: `flows` says which."
    )
}
SESSION_TOKEN = OpenApiParameter(
    "X-Session-Token",
    str,
    OpenApiParameter.HEADER,
    required=False,
    description="The `session_token` of the answer before: which flow this goes on with.",
)

TRANSPORT = OpenApiParameter(
    TRANSPORT_HEADER,
    str,
    OpenApiParameter.HEADER,
    required=False,
    enum=["body", "cookie"],
    description="Where the refresh token goes: into the answer's body, or into a cookie that no script can read.",
)

_EMAIL, _PASSWORD, _CODE = "ann@example.org", "plough-Ganymede-46", "492817"
_CHALLENGE = "J3bZs0bS2eJ1kq0m3pHcN0dS2kYt0cH1n9xQ5o0mJwU"
_CREDENTIAL_ID = "hCqWwRkQ0m2Sx0mB1p3cZg"
_CODES = ["38172650", "09417723", "55120984"]
_PROOF = "p0OQv1sTn2mW9cZxJkR3yg:1vKZ3q:Zl9gN4sBq2uXw8dTm5cRj7hPy1eVk0oLa6iUf3xQnYs"
_ID_TOKEN = {"id_token": "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiIxIn0.c2ln", "proof": _PROOF}
_PASSKEY = {
    "id": 7, "name": "Phone", "passwordless": True,
    "created_at": "2026-03-01T09:00:00Z", "last_used_at": None,
}  # fmt: skip
_REQUEST_OPTIONS = {
    "publicKey": {
        "challenge": _CHALLENGE, "rpId": "example.org", "allowCredentials": [], "userVerification": "required",
    }
}  # fmt: skip
_TAKEN: dict[str, dict[str, Any]] = {
    "sign_up": {"email": _EMAIL, "password": _PASSWORD},
    "sign_in": {"email": _EMAIL, "password": _PASSWORD},
    "code": {"code": _CODE},
    "forgot": {"email": _EMAIL},
    "reset": {"code": "KWPD-TRXB", "password": "harbour-Thimble-93"},
    "google": _ID_TOKEN,
    "id_token": _ID_TOKEN,
    "password_change": {"current_password": _PASSWORD, "new_password": "harbour-Thimble-93"},
    "email_change": {"email": "ann@example.net"},
    "step_up": {"code": _CODE},
    "passkey_options": {"passwordless": True},
    "passkey_rename": {"name": "Phone"},
    "assertion": {
        "credential": {
            "id": _CREDENTIAL_ID, "rawId": _CREDENTIAL_ID, "type": "public-key", "clientExtensionResults": {},
            "response": {
                "clientDataJSON": "eyJ0eXBlIjoid2ViYXV0aG4uZ2V0In0", "authenticatorData": "SZYN5YgO",
                "signature": "MEUC", "userHandle": "MDE5YjM",
            },
        }
    },
    "attestation": {
        "name": "Phone",
        "credential": {
            "id": _CREDENTIAL_ID, "rawId": _CREDENTIAL_ID, "type": "public-key",
            "clientExtensionResults": {"credProps": {"rk": True}},
            "response": {"clientDataJSON": "eyJ0eXBlIjoid2ViYXV0aG4uY3JlYXRlIn0", "attestationObject": "o2NmbXRk"},
        },
    },
}  # fmt: skip
_GIVEN: dict[str, dict[str, Any]] = {
    "signed_in": {
        "user": {"id": "019b3c1e-7d55-7c41-9d2e-1f0c6a2b8e10", "email": _EMAIL},
        "access_token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "token_type": "Bearer", "expires_in": 900,
        "refresh_token": "trr_k3v…", "refresh_expires_in": 2592000, "csrf_token": None,
        "session_id": "019b3c1e-8a10-7f04-8c55-0c9e7b1d2a77",
    },
    "flows": {"flows": [{"id": "verify_email", "is_pending": True}]},
    "request_options": {"options": _REQUEST_OPTIONS},
    "request_options_with_token": {"options": _REQUEST_OPTIONS, "session_token": "x1yd0…"},
    "creation_options": {
        "options": {
            "publicKey": {
                "rp": {"id": "example.org", "name": "Tranche"},
                "user": {"id": "MDE5YjM", "name": _EMAIL, "displayName": _EMAIL},
                "challenge": _CHALLENGE, "pubKeyCredParams": [{"type": "public-key", "alg": -7}],
                "excludeCredentials": [],
            }
        }
    },
    "google_config": {
        "client_id": "1234.apps.googleusercontent.com", "issuer": "https://accounts.google.com",
        "nonce": "4n0yTq7WcXk2bHs9LrJf1vZdGmE6uPaR8oQi3tKwYxM", "proof": _PROOF,
    },
    "email": {"email": _EMAIL, "pending": "ann@example.net"},
    "one_time_code": {"code": "70183355", "expires_in": 120},
    "factors": {"totp": True, "passkeys": 1, "recovery_codes_left": 10},
    "totp_secret": {
        "secret": "JBSWY3DPEHPK3PXP", "uri": "otpauth://totp/ann%40example.org?secret=JBSWY3DPEHPK3PXP&issuer=Tranche",
        "qr_svg": "<svg …></svg>",
    },
    "recovery_codes": {"recovery_codes": _CODES},
    "passkeys": {"data": [_PASSKEY]},
    "passkey": _PASSKEY,
    "passkey_added": {**_PASSKEY, "recovery_codes": _CODES},
    "connections": {"data": [{"provider": "google", "email": _EMAIL}]},
}  # fmt: skip


def steps(*names: str) -> list[OpenApiExample]:
    """Examples by name, of what is sent and of what comes back."""
    return [
        OpenApiExample(name, value=_TAKEN[name], request_only=True)
        if name in _TAKEN
        else OpenApiExample(name, value=_GIVEN[name], response_only=True)
        for name in names
    ]
