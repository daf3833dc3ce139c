"""How names of keys are understood: where configuration is, and what is allowed.

The library never looks at the environment by itself: ``from_environ`` is what the command line
calls, and what a program may call that wants the same.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from boltseal.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OAEP_HASHES = ("sha1", "sha256")
_ETC = "/etc"


@dataclass(frozen=True, slots=True)
class KeyOptions:
    """Options of every kind of key; what a kind does not use it ignores.

    ``provider_files`` and ``settings_files`` are in order of precedence; those of
    ``settings_files`` and ``module_files`` that are not there count as empty.
    """

    with_kid: bool = True
    """Write a JWE recipient's thumbprint beside the wrapped key."""
    allow_expired: bool = False
    """Take certificates outside of their time and with other key usages."""
    authorities: tuple[str, ...] = ()
    """Files of root certificates that every recipient's certificate has to lead to."""
    gnupg_home: str | None = None
    """GnuPG's home folder; None for the one it finds by itself."""
    oaep_hash: str = "sha1"
    """OAEP's hash for PKCS#11 recipients; SHA-1 is what most tokens can do."""
    module_policy: str | None = None
    """What OCICRYPT_CONFIG says: a file, ``internal`` for the defaults, or None."""
    module_files: tuple[str, ...] = ()
    """Where ``ocicrypt.conf`` may be, when ``module_policy`` is None; the first one counts."""
    provider_files: tuple[str, ...] = ()
    """JSON files of key providers; each has to be there."""
    settings_files: tuple[str, ...] = ()
    """Boltseal's own configuration files (TOML)."""
    provider_aliases: Mapping[str, str] = field(default_factory=dict)
    """Name in the image to name of the provider that opens it."""
    provider_timeout: float = 60.0
    """Seconds that one answer of a key provider may take."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables that ``env=NAME`` may name; programs get some of the others, or all of them."""
    ask: Callable[[str], bytes | None] | None = None
    """Asks a human for the passphrase or PIN of what is named; None when nobody can be asked."""

    refused_pins: set[bytes] = field(default_factory=set, repr=False, compare=False)
    """Digests of PINs that tokens refused: several keys of one token must not lock it."""
    secret_variables: set[str] = field(default_factory=set, repr=False, compare=False)
    """Names of variables that a key's ``env=NAME`` named: they hold secrets, for us alone."""

    def __post_init__(self) -> None:
        if self.oaep_hash not in OAEP_HASHES:
            raise UsageError(
                f"{self.oaep_hash!r} is no hash for OAEP", hint=f"use {' or '.join(OAEP_HASHES)}"
            )
        if not 0 < self.provider_timeout <= 3600:
            raise UsageError("the time limit of key providers is between 0 and 3600 seconds")

    def child_environment(self) -> dict[str, str]:
        """What a program may be started with now: ``environment`` without the secrets in it.

        Ask for it when the program is started: keys that are named later add to the secrets.
        """
        return {
            name: value
            for name, value in self.environment.items()
            if name not in self.secret_variables
        }

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], **given: Any) -> KeyOptions:
        """Options as skopeo, podman and GnuPG would find them, and those ``given`` (not None)."""
        home = environ.get("HOME", "")
        folders = [
            environ.get("XDG_CONFIG_HOME") or (os.path.join(home, ".config") if home else ""),
            _ETC,
        ]
        own = environ.get("BOLTSEAL_CONFIG")
        provider_file = environ.get("OCICRYPT_KEYPROVIDER_CONFIG")
        found = cls(
            environment=dict(environ),
            oaep_hash=(environ.get("OCICRYPT_OAEP_HASHALG") or "sha1").lower(),
            module_policy=environ.get("OCICRYPT_CONFIG") or None,
            module_files=tuple(
                os.path.join(folder, "ocicrypt.conf")
                for folder in (folders[0], os.path.join(home, ".config") if home else "", _ETC)
                if folder
            ),
            provider_files=(provider_file,) if provider_file else (),
            settings_files=(own,)
            if own
            else tuple(os.path.join(one, "boltseal", "config.toml") for one in folders if one),
        )
        named = {name: value for name, value in given.items() if value is not None}
        if "provider_files" in named:
            named["provider_files"] = (*named["provider_files"], *found.provider_files)
        return replace(found, **named)
