"""The server's TLS: TLS 1.2 or later, and the authorities of all trusts for clients' certificates.

A context is made anew when the trusts change or SIGHUP says that the files did; connections that
are open stay as they are, since every request's certificate is verified again by the identity room.
"""

from __future__ import annotations

import ssl
import threading
from typing import TYPE_CHECKING

from boltseal.errors import BoltsealError, KeyFileError, NotFoundError, StorageError

if TYPE_CHECKING:
    from boltseal.broker.app.config import Tls

# What Mozilla calls intermediate, without the ones that are not ECDHE.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


def make(tls: Tls, authorities: str) -> ssl.SSLContext:
    """A context with these authorities, in PEM; without any no client is asked for a certificate.

    Raises NotFoundError, StorageError or KeyFileError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    # a resumed session has no chain, and was verified by authorities that may be gone
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(tls.certificate, tls.key, password=lambda: b"")
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no {tls.certificate} or no {tls.key}", hint="look at the settings"
        ) from None
    except ssl.SSLError:
        raise KeyFileError(
            f"{tls.certificate} and {tls.key} are no certificate and its key",
            hint="both have to be PEM, belong together, and the key has to be without a passphrase",
        ) from None
    except OSError as error:
        raise StorageError(f"{tls.key} cannot be read: {error.strerror}") from None
    if tls.clients and authorities:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=authorities)
    return context


class Contexts:
    """The context that the next connection gets. Safe for threads."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._authorities = ""
        self._lock = threading.Lock()
        self.current = make(tls, "")

    def trust(self, authorities: str) -> bool:
        """Have these authorities from now on; whether that is a change."""
        with self._lock:
            if authorities == self._authorities:
                return False
            self.current = make(self._tls, authorities)
            self._authorities = authorities
            return True

    def reload(self) -> BoltsealError | None:
        """Read the files again; the error, after which what there was stays in use."""
        with self._lock:
            try:
                self.current = make(self._tls, self._authorities)
            except BoltsealError as error:
                return error
            return None


def chain_of(transport_tls: object) -> tuple[bytes, ...]:
    """The certificates that a client sent, in DER, its own first; none without one."""
    inner = getattr(transport_tls, "_sslobj", None)
    if hasattr(transport_tls, "get_unverified_chain"):  # Python 3.13 and later
        found = transport_tls.get_unverified_chain()
        return tuple(found or ())
    if inner is None or transport_tls.getpeercert(True) is None:  # type: ignore[attr-defined]
        return ()
    found = inner.get_unverified_chain()
    return tuple(ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in found or ())
