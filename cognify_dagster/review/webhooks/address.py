"""Where a delivery may go.

Invariants (against server-side request forgery): only addresses that every host of the Internet may reach, unless private ones were
allowed for the endpoint; never link-local, multicast or unspecified ones, nor those of cloud metadata services; an IPv6 address that
carries an IPv4 one counts as that one; whoever connects uses the very address that was checked.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from cognify_dagster.review.errors import ReviewError

MAX_URL = 2000
_HOST = re.compile(r"[A-Za-z0-9._:-]{1,253}")
_TEXT = re.compile(r"[\x21-\x7e]+")
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")
)
_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE = ipaddress.IPv6Network("::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressRefused(ReviewError):
    """Nothing is sent there."""


@dataclass(frozen=True)
class Target:
    """A parsed URL."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def tls(self) -> bool:
        """Whether it is reached over TLS."""
        return self.scheme == "https"


def parse_target(url: str, *, allow_http: bool = False) -> Target:
    """Parse the URL of an endpoint.

    Raises:
        AddressRefused: if it is not https:// (or http:// where that is allowed) with a plain host.
    """
    if len(url) > MAX_URL or not _TEXT.fullmatch(url):
        raise AddressRefused(f"a webhook's URL has at most {MAX_URL} characters of ASCII without spaces")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise AddressRefused(f"the URL cannot be read: {error}") from error
    if parts.scheme not in (("https", "http") if allow_http else ("https",)):
        raise AddressRefused("a webhook's URL begins with https:// (http:// must be allowed for the endpoint)")
    if parts.username is not None or parts.password is not None:
        raise AddressRefused("a webhook's URL holds no user or password; give --authorization env:NAME")
    if parts.fragment or "#" in url:
        raise AddressRefused("a webhook's URL has no part behind #")
    host = parts.hostname or ""
    if not _HOST.fullmatch(host) or port == 0:
        raise AddressRefused("a webhook's URL names a host (international names as xn--…)")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), path)


def resolve(target: Target, *, allow_private: bool = False) -> list[Address]:
    """Return the addresses of a host, all of them allowed.

    Raises:
        AddressRefused: if one of them is not; the others could be, the next time somebody asks.
        OSError: if the name cannot be resolved.
    """
    rows = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    found = list(dict.fromkeys(ipaddress.ip_address(str(row[4][0]).partition("%")[0]) for row in rows))
    if not found:
        raise AddressRefused(f"{target.host} has no address")
    for address in found:
        why = refusal(address, allow_private=allow_private)
        if why:
            raise AddressRefused(f"{target.host} is at {address}, {why}")
    return found


def refusal(address: Address, *, allow_private: bool) -> str:
    """Say why nothing is sent to an address, empty if it is allowed."""
    inner = _embedded(address)
    if inner is not None:
        return refusal(inner, allow_private=allow_private)
    if address in _METADATA:
        return "where clouds keep their metadata; nothing is sent there"
    if address.is_unspecified or address.is_multicast or address.is_link_local or address.is_reserved:
        if address.is_loopback:  # ::1 lies in a reserved block
            return "" if allow_private else _PRIVATE
        return "which is unspecified, link-local, multicast or reserved; nothing is sent there"
    if isinstance(address, ipaddress.IPv6Address) and address.is_site_local:
        return "" if allow_private else _PRIVATE
    if not address.is_global and not allow_private:
        return _PRIVATE
    return ""


_PRIVATE = "inside this network; add the endpoint with --allow-private if that is meant"


def _embedded(address: Address) -> Address | None:
    """The IPv4 address that an IPv6 one leads to, by mapping, 6to4, Teredo or NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in network for network in _NAT64) or (address in _COMPATIBLE and int(address) > 0xFFFF):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None
