"""Where a request comes from, when proxies stand before us: what they say is believed for as many as there are."""

import ipaddress
import re
from functools import lru_cache

from django.conf import settings
from django.http import HttpRequest

# When nothing is known, as behind a Unix socket. A valid address, so that whoever stores it needs no exception.
UNKNOWN = "0.0.0.0"  # noqa: S104
_WITH_PORT = re.compile(r"(?:\[(?P<bracketed>[^\]]*)\]|(?P<plain>[^:\]]*))(?::[0-9]{1,5})?", re.ASCII)
# One household or office has at least this much of IPv6: its single addresses are free to change.
_IPV6_PREFIX = 64


def client_address(request: HttpRequest) -> str:
    """The caller's address in canonical text form: IPv4, or IPv6 without zone; never a port.

    `TRUSTED_PROXY_HOPS` proxies each add the address that they were called from to the end of X-Forwarded-For, so that
    the entry so many places from the end is the caller's, and what stands before it is the caller's own word. Fewer
    entries mean that the caller came in behind the first proxies. Without hops, or when the entry is no address, it
    is the address of the connection.
    """
    peer = _parse(request.META.get("REMOTE_ADDR", ""))
    hops: int = settings.TRUSTED_PROXY_HOPS
    said = request.META.get("HTTP_X_FORWARDED_FOR", "")
    found = _parse(said.split(",")[-hops:][0]) if hops and said else None
    return str(found or peer or UNKNOWN)


@lru_cache(maxsize=4096)
def address_group(address: str) -> str:
    """What limits count together: an IPv4 address, or the /64 network of an IPv6 address."""
    found = ipaddress.ip_address(address)
    if found.version == 4:
        return str(found)
    return str(ipaddress.ip_network((found, _IPV6_PREFIX), strict=False))


@lru_cache(maxsize=4096)
def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address with or without port, brackets, zone and quotes (RFC 7239, section 6); `None` for anything else."""
    text = text.strip().strip('"')
    with_port = _WITH_PORT.fullmatch(text)
    if with_port is not None:
        text = with_port["bracketed"] or with_port["plain"] or ""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # IPv4 that a dual-stack socket shows as IPv6 is one and the same caller.
    return getattr(found, "ipv4_mapped", None) or found
