"""A passkey in software: makes credentials and signs challenges as a phone would (WebAuthn level 2, ES256)."""

import hashlib
import json
import secrets
import struct
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from fido2.cose import ES256
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import AttestationObject, AttestedCredentialData, AuthenticatorData

_FLAGS = AuthenticatorData.FLAG.UP | AuthenticatorData.FLAG.UV


@dataclass
class Authenticator:
    """`origin` is the page that asks: a browser puts it in, no page can."""

    origin: str = "https://testserver"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    user_handle: str = ""
    count: int = 0

    def create(self, options: dict[str, Any]) -> dict[str, Any]:
        """`navigator.credentials.create(…).toJSON()`."""
        public = options["publicKey"]
        self.user_handle = public["user"]["id"]
        data = AuthenticatorData.create(
            hashlib.sha256(public["rp"]["id"].encode()).digest(),
            _FLAGS | AuthenticatorData.FLAG.AT,
            self.count,
            AttestedCredentialData.create(
                b"\0" * 16,
                self.credential_id,
                ES256.from_cryptography_key(self.key.public_key()),  # type: ignore[no-untyped-call]
            ),
        )
        attestation = AttestationObject.create("none", data, {})
        return self._credential(
            {
                "clientDataJSON": self._client_data("webauthn.create", public["challenge"]),
                "attestationObject": websafe_encode(bytes(attestation)),
                "transports": ["internal"],
            },
            {"credProps": {"rk": True}},
        )

    def get(self, options: dict[str, Any]) -> dict[str, Any]:
        """`navigator.credentials.get(…).toJSON()`."""
        public = options["publicKey"]
        self.count += 1
        data = AuthenticatorData(
            hashlib.sha256(public["rpId"].encode()).digest() + struct.pack(">BI", _FLAGS, self.count)
        )
        client_data = self._client_data("webauthn.get", public["challenge"])
        signed = bytes(data) + hashlib.sha256(websafe_decode(client_data)).digest()
        return self._credential(
            {
                "clientDataJSON": client_data,
                "authenticatorData": websafe_encode(bytes(data)),
                "signature": websafe_encode(self.key.sign(signed, ec.ECDSA(SHA256()))),
                "userHandle": self.user_handle,
            },
            {},
        )

    def _client_data(self, kind: str, challenge: str) -> str:
        document = {"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": False}
        return websafe_encode(json.dumps(document).encode())

    def _credential(self, response: dict[str, Any], extensions: dict[str, Any]) -> dict[str, Any]:
        name = websafe_encode(self.credential_id)
        return {
            "id": name,
            "rawId": name,
            "type": "public-key",
            "response": response,
            "clientExtensionResults": extensions,
            "authenticatorAttachment": "platform",
        }
