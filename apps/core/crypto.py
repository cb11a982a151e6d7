"""AES-256-GCM for columns: key id in the ciphertext, `table.column.pk` as associated data.

A ciphertext copied to another row or column does not decrypt. Layout: version (1 byte), length of the key id
(1 byte), key id, nonce (12 bytes), ciphertext with tag. Source: design.md, "Secrets"; NIST SP 800-38D.
"""

import os
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = 1
_NONCE_BYTES = 12


class DecryptionError(Exception):
    """The ciphertext, its place, or its key is not what it was. Says nothing about the content."""


def encrypt(plaintext: bytes, *, keys: Mapping[str, bytes], place: str) -> bytes:
    """Encrypt under the first key of `keys`, bound to `place` (`table.column.pk`)."""
    if not keys:
        raise DecryptionError("no encryption key in this process")
    key_id = next(iter(keys))
    nonce, head = os.urandom(_NONCE_BYTES), header(key_id)
    return head + nonce + AESGCM(keys[key_id]).encrypt(nonce, plaintext, head + place.encode())


def decrypt(ciphertext: bytes, *, keys: Mapping[str, bytes], place: str) -> bytes:
    """Decrypt what `encrypt` made for the same place; raises `DecryptionError`."""
    data = bytes(ciphertext)
    if len(data) < 2 or data[0] != _VERSION:
        raise DecryptionError("not a ciphertext of this system")
    end = 2 + data[1]
    key = keys.get(data[2:end].decode(errors="replace"))
    if key is None:
        raise DecryptionError("its key is not available in this process")
    nonce, body = data[end : end + _NONCE_BYTES], data[end + _NONCE_BYTES :]
    try:
        return AESGCM(key).decrypt(nonce, body, data[:end] + place.encode())
    # ValueError: too short to hold a nonce.
    except (InvalidTag, ValueError) as error:
        raise DecryptionError("wrong key, wrong place, or altered") from error


def header(key_id: str) -> bytes:
    """What every ciphertext under this key begins with, and no other does."""
    return bytes([_VERSION, len(key_id.encode())]) + key_id.encode()


def key_id_of(ciphertext: bytes) -> str:
    """Which key encrypted this: what rotation asks to find rows still under an old one."""
    data = bytes(ciphertext)
    return data[2 : 2 + data[1]].decode()
