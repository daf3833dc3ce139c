"""A host that asks a key broker, and what can be wrong with it, one thing at a time."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from support import broker_identity, certificates
from support.broker_fake import FakeBroker, Handler, unused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PASSPHRASE = "open sesame"
SECRETS = ("c2lnbmF0dXJl", PASSPHRASE, "PRIVATE KEY")  # what no line may have


def jwt(**claims: float) -> str:
    parts = (json.dumps(one).encode() for one in ({"alg": "ES256"}, claims))
    encoded = [base64.urlsafe_b64encode(one).rstrip(b"=").decode() for one in parts]
    return ".".join([*encoded, SECRETS[0]])


@dataclass
class World:
    """A broker that trusts one authority, and a host whose files are in ``folder``."""

    broker: FakeBroker
    folder: Path
    authority: certificates.Issued

    def write(self, name: str, content: str | bytes, mode: int = 0o600) -> str:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return str(path)

    def host(self, *, mode: int = 0o600, **more: Any) -> dict[str, Any]:
        """Settings with a certificate as ``more`` says, in files of its own."""
        made = broker_identity.client(**{"by": self.authority, **more})
        return {
            "cert_file": self.write("host.crt", made.pem()),
            "key_file": self.write("host.key", made.key_pem(), mode),
        }

    def says(self, *misbehave: Callable[[Handler], bool]) -> dict[str, Any]:
        """The usual settings, and a broker that answers so."""
        self.broker.script += misbehave
        return self.host()

    def settings(self, **changes: Any) -> str:
        usual = {} if {"cert_file", "key_file"} <= set(changes) else self.host()
        path = self.broker.settings(**usual | changes)
        return self.write("broker.toml", path.read_bytes(), 0o644)


def when(seconds: float) -> Callable[[Handler], bool]:
    """An honest answer by a clock that is so much ahead."""

    def set_clock(handler: Handler) -> bool:
        handler.date_time_string = lambda timestamp=None: formatdate(  # type: ignore[method-assign]
            time.time() + seconds, usegmt=True
        )
        return False

    return set_clock


def without_date(answer: Callable[[Handler], bool]) -> Callable[[Handler], bool]:
    """What it answers, without the date that Python's server puts there."""

    def bare(handler: Handler) -> bool:
        handler.send_response = handler.send_response_only  # type: ignore[method-assign]
        return answer(handler)

    return bare


def refused(handler: Handler) -> bool:
    return handler.refuse("unavailable")


def a_web_page(handler: Handler) -> bool:
    return handler.reply(200, b"<html>", "text/html")


def another_service(handler: Handler) -> bool:
    return handler.reply(404, b'{"detail":"Not Found"}')


def locked(world: World, **more: Any) -> dict[str, Any]:
    from cryptography.hazmat.primitives import serialization as s

    form = s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(PASSPHRASE.encode())
    raw = certificates.private_key("p256").private_bytes(*form)
    return {**world.host(), "key_file": world.write("locked.key", raw), **more}


def pem(world: World, name: str, **more: Any) -> str:
    return world.write(
        name, certificates.issue("ca", certificates.private_key("p256"), **more).pem()
    )


P521 = "p521"
SERVER = (
    (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
    broker_identity.SIGNS,
)
# what is changed in the settings; the finding's check and state; words of its message and its fix
PLANTED: dict[str, tuple[Callable[[World], dict[str, Any]], str, str, str, str]] = {
    "no identity": (
        lambda w: {"cert_file": None, "key_file": None},
        "identity", "warn", "neither cert-file nor token-file", "with token-file",
    ),
    "authorities are missing": (
        lambda w: {"ca_file": "/nowhere/ca.pem"},
        "authorities", "fail", "/nowhere/ca.pem does not exist", "in PEM",
    ),
    "authorities are none": (
        lambda w: {"ca_file": w.write("ca.pem", "hello")},
        "authorities", "fail", "holds no certificate in PEM", "tls/ca.pem",
    ),
    "authorities are of the past": (
        lambda w: {"ca_file": pem(w, "ca.pem", days=(-9, -2))},
        "authorities", "fail", "the last one expired on", "the authority of the broker's",
    ),
    "certificate is missing": (
        lambda w: {"cert_file": "/nowhere/host.crt"},
        "certificate", "fail", "/nowhere/host.crt does not exist", "correct cert-file",
    ),
    "certificate is none": (
        lambda w: {"cert_file": w.write("x.crt", "-----BEGIN CERTIFICATE-----\nx\n")},
        "certificate", "fail", "holds no certificate in PEM", "clientAuth",
    ),
    "certificate for servers": (
        lambda w: w.host(usages=SERVER),
        "certificate", "fail", "is not for clients (no extendedKeyUsage clientAuth)", "get one for",
    ),
    "certificate without usages": (
        lambda w: w.host(usages=()),
        "certificate", "fail", "is not for clients", "get one for clients",
    ),
    "certificate of an authority": (
        lambda w: w.host(usages=(certificates.constraints(ca=True), broker_identity.CLIENT)),
        "certificate", "fail", "an authority's own (CA:TRUE)", "get one for clients",
    ),
    "certificate that may not sign": (
        lambda w: w.host(usages=(broker_identity.CLIENT, certificates.usage("key_encipherment"))),
        "certificate", "fail", "may not sign", "get one for clients",
    ),
    "certificate of a weak key": (
        lambda w: w.host(key="rsa1024"),
        "certificate", "fail", "too weak", "get one for clients",
    ),
    "certificate expired": (
        lambda w: w.host(days=(-9, -0.5)),
        "certificate", "fail", "expired on", "have it renewed",
    ),
    "certificate is not valid yet": (
        lambda w: w.host(days=(1, 9)),
        "certificate", "fail", "is valid from", "clock is right",
    ),
    "certificate was not renewed": (
        lambda w: w.host(days=(-30, 1)),
        "certificate", "warn", "and was not renewed", "have it renewed",
    ),
    "key is missing": (
        lambda w: {"key_file": "/nowhere/host.key"},
        "private key", "fail", "/nowhere/host.key does not exist", "correct key-file",
    ),
    "key of somebody else": (
        lambda w: {"key_file": w.write("o.key", broker_identity.client(None, key=P521).key_pem())},
        "private key", "fail", "is not the key of", "renew both together",
    ),
    "key is none": (
        lambda w: {"key_file": w.write("other.key", "hello")},
        "private key", "fail", "cannot be opened as a private key", "key-passphrase-file",
    ),
    "key is locked": (
        locked,
        "private key", "fail", "cannot be opened as a private key", "key-passphrase-file",
    ),
    "key is locked otherwise": (
        lambda w: locked(w, key_passphrase_file=w.write("passphrase", "wrong")),
        "private key", "fail", "cannot be opened as a private key", "with the right one",
    ),
    "key for all": (
        lambda w: w.host(mode=0o644),
        "private key", "fail", "others may read", "chmod 0600",
    ),
    "passphrase for all": (
        lambda w: locked(w, key_passphrase_file=w.write("passphrase", PASSPHRASE, 0o644)),
        "private key", "fail", "passphrase, and ask as this host", "defaultMode: 0400",
    ),
    "token is missing": (
        lambda w: {"token_file": "/nowhere/token"},
        "token", "fail", "/nowhere/token does not exist", "whoever issues it",
    ),
    "token is none": (
        lambda w: {"token_file": w.write("token", "two words")},
        "token", "fail", "holds no token", "whoever issues it",
    ),
    "token expired": (
        lambda w: {"token_file": w.write("token", jwt(exp=time.time() - 5))},
        "token", "fail", "expired on", "whoever issues it",
    ),
    "token is not valid yet": (
        lambda w: {"token_file": w.write("token", jwt(nbf=time.time() + 900))},
        "token", "fail", "is valid from", "clock is right",
    ),
    "token for all": (
        lambda w: {"token_file": w.write("token", jwt(exp=1e99), 0o644)},
        "token", "warn", "everybody on this host may read", "defaultMode: 0400",
    ),
    "nobody is there": (
        lambda w: {"addresses": [unused()]},
        "address localhost", "fail", "it cannot be reached: connection refused", "broker runs",
    ),
    "one of two is there": (
        lambda w: {"addresses": [w.broker.address, unused()]},
        "address localhost", "warn", "it cannot be reached", "can be reached from here",
    ),
    "broker of another authority": (
        lambda w: {"ca_file": pem(w, "ca.pem", extensions=certificates.AUTHORITY)},
        "address localhost", "fail", "its certificate is not trusted", "ca-file",
    ),
    "broker by another name": (
        lambda w: {"addresses": [w.broker.address.replace("localhost", "127.0.0.1")]},
        "address 127.0.0.1", "fail", "certificate is not valid for", "a name that its certificate",
    ),
    "broker that does not trust": (
        lambda w: w.host(by=broker_identity.authority("others", 5)),
        "address localhost", "fail", "and not to this host's certificate", "broker trust add",
    ),
    "broker that is not well": (
        lambda w: w.says(refused),
        "address localhost", "fail", "it answers 503", "the broker's log",
    ),
    "something else": (
        lambda w: w.says(another_service),
        "address localhost", "fail", "it answers 404", "something else than a key broker",
    ),
    "a page": (
        lambda w: w.says(a_web_page),
        "address localhost", "fail", "not in JSON", "broker runs there",
    ),
    "clock is behind": (
        lambda w: w.says(when(3600)),
        "clock", "fail", "seconds behind that of", "timedatectl",
    ),
    "clock is ahead": (
        lambda w: w.says(when(-90)),
        "clock", "fail", "seconds ahead of that of", "timedatectl",
    ),
    "clock is nearly too far off": (
        lambda w: w.says(when(45)),
        "clock", "warn", "of 60 that there may be", "timedatectl",
    ),
}  # fmt: skip
