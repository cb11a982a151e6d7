import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core.crypto import DecryptionError, decrypt, encrypt, key_id_of

OLD, NEW = {"old": b"o" * 32}, {"new": b"n" * 32}


@given(st.binary(max_size=500), st.text(min_size=1, max_size=60))
def test_what_was_encrypted_decrypts_in_its_place(plaintext: bytes, place: str) -> None:
    assert decrypt(encrypt(plaintext, keys=OLD, place=place), keys=OLD, place=place) == plaintext


def test_the_same_plaintext_never_looks_the_same_and_shows_nothing_of_itself() -> None:
    first, second = (encrypt(b"very secret", keys=OLD, place="t.c.1") for _ in range(2))

    assert first != second
    assert b"secret" not in first


def test_a_ciphertext_moved_to_another_row_does_not_decrypt() -> None:
    stolen = encrypt(b"key", keys=OLD, place="chain_wallet.key.1")

    with pytest.raises(DecryptionError, match="wrong place"):
        decrypt(stolen, keys=OLD, place="chain_wallet.key.2")


@given(st.data())
def test_any_changed_byte_is_noticed(data: st.DataObject) -> None:
    made = bytearray(encrypt(b"amount", keys=OLD, place="p"))
    index = data.draw(st.integers(0, len(made) - 1))
    made[index] ^= data.draw(st.integers(1, 255))

    with pytest.raises(DecryptionError):
        decrypt(bytes(made), keys=OLD, place="p")


def test_rotation_reads_old_rows_and_writes_new_ones() -> None:
    old = encrypt(b"x", keys=OLD, place="p")
    ring = {**NEW, **OLD}

    assert decrypt(old, keys=ring, place="p") == b"x"
    assert (key_id_of(old), key_id_of(encrypt(b"x", keys=ring, place="p"))) == ("old", "new")


def test_a_process_without_the_key_says_so_and_nothing_else() -> None:
    made = encrypt(b"x", keys=OLD, place="p")

    with pytest.raises(DecryptionError, match="not available in this process"):
        decrypt(made, keys=NEW, place="p")
    with pytest.raises(DecryptionError, match="no encryption key"):
        encrypt(b"x", keys={}, place="p")


@pytest.mark.parametrize("junk", [b"", b"\x01", b"\x02abc", b"\x01\x40short"])
def test_junk_is_refused(junk: bytes) -> None:
    with pytest.raises(DecryptionError):
        decrypt(junk, keys=OLD, place="p")
