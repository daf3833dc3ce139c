"""A host of a cluster that has its own authority, asking a running broker as the wire says."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from boltseal.jose import jwe, jwk
from boltseal.keywrap import keyfiles
from boltseal.keywrap.broker import packet as packets
from boltseal.keywrap.broker import protocol, public, sealing
from boltseal.keywrap.pq.keys import HybridRecipient, HybridWrapper
from support import broker_identity

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from support.broker import Answer, Broker
    from support.certificates import Issued

SECRET = b'{"symkey":"bm90aGluZyB0aGF0IG1heSBiZSBzZWVuIGFueXdoZXJl","cipheroptions":{}}'
IMAGE = "sha256:" + "1a" * 32
POLICY = """\
@id("prod-eu")
@advice("production hosts in the EU")
permit (
    principal is Boltseal::Host,
    action == Boltseal::Action::"unwrap",
    resource == Boltseal::Key::"default/default/prod-eu"
)
when { principal.hasTag("region") && principal.getTag("region") == "eu" };
"""


@dataclass
class Cluster:
    """An authority, and hosts of it."""

    name: str
    folder: Path
    number: int = 0
    authority: Issued = field(init=False)

    def __post_init__(self) -> None:
        self.authority = broker_identity.authority(f"{self.name} hosts", self.number)
        self.authority.write(self.folder, f"{self.name}-ca")

    @property
    def ca(self) -> Path:
        return self.folder / f"{self.name}-ca.crt.pem"

    def host(self, broker: Broker, name: str = "host-1", **more: Any) -> ssl.SSLContext:
        """TLS of one of its hosts."""
        made = broker_identity.client(self.authority, name=name, **more)
        path = made.write(self.folder, f"{self.name}-{name}")
        return broker.context(path, path.with_name(f"{self.name}-{name}.pem"))


def packet(document: bytes, secret: bytes = SECRET) -> bytes:
    """What is in an image for the key that ``boltseal broker key public`` printed."""
    found = public.parse(document, "the key")
    if found.is_hybrid:
        wrapped = HybridWrapper().wrap([HybridRecipient(found.hybrid())], secret)[0]
    else:
        key = keyfiles.load_public(found.public.encode(), "the key")
        assert isinstance(key, jwk.Key)
        wrapped = jwe.encrypt(secret, [(key, True)])
    return packets.build(
        packets.Packet(found.brokers, found.key, found.version, found.fingerprint, wrapped)
    )


def request(document: bytes, **changes: Any) -> tuple[bytes, sealing.FreshKey]:
    """A request's bytes for that key, and what opens the answer."""
    found = public.parse(document, "the key")
    members: dict[str, Any] = {
        "key": found.key,
        "version": found.version,
        "packet": packet(document),
        "time": int(time.time()),
        "image_name": "registry.example/app:1",
        "image_digest": IMAGE,
        "layer": "sha256:" + "2b" * 32,
        "platform": "linux/amd64",
        "kem": protocol.XWING if found.is_hybrid else protocol.X25519,
        **changes,
    }
    made, fresh = sealing.fresh(**members)
    return made.encode(), fresh


def ask(
    broker: Broker,
    document: bytes,
    tls: ssl.SSLContext | None = None,
    *,
    headers: tuple[tuple[str, str], ...] = (),
    token: str = "",
) -> tuple[Answer, bytes | None]:
    """The answer to a request for a release, and the secret if it was released."""
    body, fresh = request(document)
    answer = broker.ask("POST", protocol.PATH, body, token=token, headers=headers, tls=tls)
    if answer.status != 200:
        return answer, None
    return answer, fresh.open(protocol.parse_answer(answer.body), body)


def plain(secret: bytes = SECRET) -> tuple[bytes, ...]:
    """The forms in which a secret could stand somewhere it should not."""
    key = base64.b64decode(json.loads(secret)["symkey"])
    return secret, key, base64.b64encode(key)
