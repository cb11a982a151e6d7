"""Whose address a request counts for: no header makes anybody somebody else."""

import pytest
from django.test import RequestFactory, override_settings

from apps.core.api.client_address import UNKNOWN, address_group, client_address


def seen(*, hops: int, peer: str = "10.0.0.1", forwarded: str | None = None) -> str:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    request = RequestFactory().get("/", REMOTE_ADDR=peer, headers=headers)
    with override_settings(TRUSTED_PROXY_HOPS=hops):
        return client_address(request)


@pytest.mark.parametrize("forwarded", [None, "", "1.1.1.1", "1.1.1.1, 2.2.2.2", "garbage"])
def test_without_proxies_only_the_connection_counts(forwarded: str | None) -> None:
    assert seen(hops=0, forwarded=forwarded) == "10.0.0.1"


@pytest.mark.parametrize(
    ("hops", "forwarded", "expected"),
    [
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "1.1.1.1, 203.0.113.9", "203.0.113.9"),
        (1, "1.1.1.1,2.2.2.2 ,  203.0.113.9 ", "203.0.113.9"),
        (2, "1.1.1.1, 203.0.113.9, 198.51.100.7", "203.0.113.9"),
        # In past the first proxy: what the second one saw is the caller.
        (2, "203.0.113.9", "203.0.113.9"),
        (1, None, "10.0.0.1"),
        (1, "", "10.0.0.1"),
    ],
)
def test_as_many_proxies_are_believed_as_there_are(hops: int, forwarded: str | None, expected: str) -> None:
    assert seen(hops=hops, forwarded=forwarded) == expected


@pytest.mark.parametrize(
    "said",
    ["unknown", "_hidden", "203.0.113.9:99999999", "1.2.3", "999.1.1.1", "203.0.113.9, ", "[::1", "a" * 5000],
)
def test_what_is_no_address_is_not_believed(said: str) -> None:
    assert seen(hops=1, forwarded=said) == "10.0.0.1"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("203.0.113.9:443", "203.0.113.9"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ('"[2001:db8::1]:443"', "2001:db8::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("[::ffff:203.0.113.9]:1", "203.0.113.9"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_one_caller_has_one_form(said: str, expected: str) -> None:
    assert seen(hops=1, forwarded=said) == expected
    assert seen(hops=0, peer=said) == expected


def test_a_socket_without_addresses_has_an_address_all_the_same() -> None:
    assert seen(hops=0, peer="") == UNKNOWN
    assert seen(hops=1, peer="", forwarded="nobody") == UNKNOWN


def test_a_household_is_counted_together() -> None:
    assert address_group("203.0.113.9") == "203.0.113.9"
    assert address_group("2001:db8:0:1::1") == address_group("2001:db8:0:1:ffff::2") == "2001:db8:0:1::/64"
    assert address_group("2001:db8:0:2::1") != address_group("2001:db8:0:1::1")
