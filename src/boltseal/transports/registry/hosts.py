"""Names of hosts: this machine itself, and the ones whose API lives elsewhere."""

from __future__ import annotations

import ipaddress

from boltseal.spec.reference import DEFAULT_HOST

_API = {DEFAULT_HOST: "registry-1.docker.io"}


def is_loopback(host: str) -> bool:
    """Whether a host, without its port, is this machine."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def without_port(host: str) -> str:
    """``HOST:PORT`` less the port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def api_host(host: str) -> str:
    """Where a registry's API is reached."""
    return _API.get(host, host)
