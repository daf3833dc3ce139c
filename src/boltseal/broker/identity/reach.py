"""From where issuers' keys may be fetched: a tenant's administrator names the address, not the net.

Without that, a trust would be a way to have the broker ask whatever it can reach and others cannot:
services on loopback, of the cluster, of a cloud's metadata. So addresses are public ones, unless
the operator's settings list them. A name is resolved once, and the connection goes to the address
that was looked at: the name may mean another one a moment later.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address
    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


class OutOfReachError(Exception):
    """Nothing may be fetched from there; the text is for operators."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Public addresses, and what is listed: names, wherever they lead, and networks."""

    names: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    is_public: bool = True

    @classmethod
    def of(cls, listed: Iterable[str], *, is_public: bool = True) -> Reach:
        """Of host names, IP addresses and networks as ``10.0.0.0/8``. Raises ValueError."""
        names: set[str] = set()
        networks: list[Network] = []
        for one in listed:
            try:
                networks.append(ipaddress.ip_network(one))
            except ValueError:
                name = one.lower()
                if _NAME.fullmatch(name) is None or name.replace(".", "").isdigit():
                    raise ValueError("neither a host's name nor an address or network") from None
                names.add(name)
        return cls(frozenset(names), tuple(networks), is_public)

    def find(self, host: str, port: int) -> list[tuple[str, int]]:
        """Where to connect to. Raises OutOfReachError, or OSError for a name that is unknown."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(one[4][0]).partition("%")[0] for one in found))
        if host.lower().rstrip(".") not in self.names:
            addresses = [one for one in addresses if self.has(ipaddress.ip_address(one))]
        if not addresses:
            raise OutOfReachError(
                "the address of the keys is not a public one, and the settings do not list it"
                if self.is_public
                else "the settings do not list the address of the keys"
            )
        return [(one, port) for one in addresses]

    def has(self, address: Address) -> bool:
        """Whether this address may be connected to."""
        if any(address in one for one in self.networks):
            return True
        carried = _carried(address)
        if carried is not None:
            return self.has(carried)
        return self.is_public and address.is_global and not address.is_multicast


def _carried(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that one of IPv6 leads to."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
