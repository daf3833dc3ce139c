"""TLS: the system's trust store, and the certificates that users keep for a registry."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

from boltseal.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltseal.transports.registry.options import RegistryOptions

# Where the kernel has TLS, it may encrypt and decrypt; OpenSSL goes on without where it has not.
KERNEL_TLS = getattr(ssl, "OP_ENABLE_KTLS", 0)
_SYSTEM = ("/etc/containers/certs.d", "/etc/docker/certs.d")


def context(options: RegistryOptions, host: str, *, verify: bool) -> ssl.SSLContext:
    """What to trust and what to show for ``HOST[:PORT]``.

    ``*.crt`` are authorities, ``*.cert`` with ``*.key`` client certificates
    (containers-certs.d(5)).
    """
    if verify:
        made = ssl.create_default_context()
    else:  # the system's authorities take longer to load than all that follows
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.options |= KERNEL_TLS
    for folder in _folders(options, host):
        _load(made, folder)
    return made


def _folders(options: RegistryOptions, host: str) -> Iterator[str]:
    if options.cert_dir is not None:
        if not os.path.isdir(options.cert_dir):
            raise StorageError(f"there is no folder {options.cert_dir} with certificates")
        yield options.cert_dir
        return
    for base in (os.path.join(options.config_folder, "certs.d"), *_SYSTEM):
        folder = os.path.join(base, host)
        if os.path.isdir(folder):
            yield folder
            return


def _load(made: ssl.SSLContext, folder: str) -> None:
    try:
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if name.endswith(".crt"):
                made.load_verify_locations(cafile=path)
            elif name.endswith(".cert"):
                key = path.removesuffix(".cert") + ".key"
                made.load_cert_chain(path, key, password=_no_passphrase)
    except (OSError, ssl.SSLError) as error:
        reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise StorageError(f"a certificate in {folder} cannot be used: {reason}") from None


def _no_passphrase() -> str:
    """OpenSSL would ask on the terminal."""
    return ""
