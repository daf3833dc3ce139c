"""How to reach registries: everything that users configure, as one value."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """Where credentials, certificates and registries' settings are looked for.

    The defaults need no environment: the files in the user's home and in ``/etc``.
    :meth:`from_environ` also follows the variables that podman, skopeo and docker follow.

    ``tls_verify`` None means: verified TLS, and plain HTTP for this machine itself alone; False
    also accepts bad certificates and plain HTTP anywhere. ``credentials`` is user and password.
    ``claims`` False changes tags in place without a claim (``boltseal.transports.registry.claim``).
    """

    credentials: tuple[str, str] | None = field(default=None, repr=False)
    auth_file: str | None = None
    cert_dir: str | None = None
    tls_verify: bool | None = None
    home: str = field(default_factory=lambda: os.path.expanduser("~"))
    config_home: str | None = None  # XDG_CONFIG_HOME
    runtime_dir: str | None = None  # XDG_RUNTIME_DIR
    docker_config: str | None = None  # the folder of Docker's config.json
    registries_conf: str | None = None
    proxies: Mapping[str, str] = field(default_factory=dict)
    claims: bool = True

    @classmethod
    def from_environ(
        cls,
        environ: Mapping[str, str],
        *,
        credentials: tuple[str, str] | None = None,
        auth_file: str | None = None,
        cert_dir: str | None = None,
        tls_verify: bool | None = None,
        claims: bool = True,
    ) -> RegistryOptions:
        """What the environment says, under what the caller says."""
        return cls(
            credentials=credentials,
            auth_file=auth_file or environ.get("REGISTRY_AUTH_FILE") or None,
            cert_dir=cert_dir,
            tls_verify=tls_verify,
            home=environ.get("HOME") or os.path.expanduser("~"),
            config_home=environ.get("XDG_CONFIG_HOME") or None,
            runtime_dir=environ.get("XDG_RUNTIME_DIR") or None,
            docker_config=environ.get("DOCKER_CONFIG") or None,
            registries_conf=environ.get("CONTAINERS_REGISTRIES_CONF") or None,
            proxies=_proxies(environ),
            claims=claims,
        )

    @property
    def config_folder(self) -> str:
        """``~/.config/containers``."""
        return os.path.join(self.config_home or os.path.join(self.home, ".config"), "containers")

    @property
    def runtime_auth_file(self) -> str:
        """Where podman keeps logins until the machine is started again."""
        return os.path.join(
            self.runtime_dir or f"/run/user/{os.getuid()}", "containers", "auth.json"
        )

    @property
    def docker_auth_file(self) -> str:
        """Docker's own ``config.json``."""
        return os.path.join(self.docker_config or os.path.join(self.home, ".docker"), "config.json")


def _proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """``http``, ``https``, ``all`` and ``no``; lower case wins, as in curl."""
    found: dict[str, str] = {}
    for scheme in ("http", "https", "all", "no"):
        names = [f"{scheme}_proxy", f"{scheme.upper()}_PROXY"]
        if scheme == "http":
            names = names[:1]  # HTTP_PROXY can be set by a request's header in CGI programs
        for name in names:
            if environ.get(name):
                found[scheme] = environ[name]
                break
    return found
