"""A broker with two clusters, two tenants and keys, ready for requests over TLS."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from boltseal._io import b64
from boltseal.broker.app import config
from boltseal.broker.app.replica import Opened, open_database
from boltseal.broker.model import DEFAULT, KeyPath
from boltseal.broker.policy import versions
from boltseal.broker.service import keys, tenants, trusts
from boltseal.broker.service.access import SYSTEM
from boltseal.jose import jwe
from boltseal.keywrap.broker import packet as packets
from boltseal.keywrap.broker import protocol, public, sealing
from boltseal.keywrap.keyfiles import load_public
from boltseal.keywrap.pq.keys import HybridRecipient, HybridWrapper
from support import broker_identity as identity

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from boltseal.broker.model import KeyVersion
    from support.broker import Answer, Broker
    from support.certificates import Issued

OTHER = "other"  # a tenant that has the same of everything
IMAGE = "sha256:" + "1a" * 32
LAYER = "sha256:" + "2b" * 32
POLICY = """
@id("prod-eu")
permit (principal is Boltseal::Host, action == Boltseal::Action::"unwrap", resource)
when { principal.hasTag("region") && principal.getTag("region") == "eu" };
"""


@dataclass(frozen=True)
class Host:
    """A client's certificate with its key, in files."""

    certificate: Path
    key: Path
    issued: Issued = field(repr=False)

    @property
    def name(self) -> str:
        return self.certificate.name.removesuffix(".crt.pem")


class World:
    """``broker`` is initialised and not started yet. Authorities: ``eu``, ``us``, ``other``.

    The certificates of ``eu`` may open all keys of the default tenant, those of ``us`` none; those
    of ``other`` may open the keys of that tenant.
    """

    def __init__(self, broker: Broker, folder: Path) -> None:
        self.broker = broker
        self.folder = folder
        self.authorities = {name: identity.authority(name, at) for at, name in enumerate(PLACES)}
        tenants.create_tenant(self.database, SYSTEM, OTHER)
        tenants.create_project(self.database, SYSTEM, OTHER, DEFAULT)
        for name, (tenant, region) in PLACES.items():
            trusts.set_trust(
                self.database, SYSTEM, tenant, name, kind="x509",
                config={
                    "ca": self.authorities[name].pem().decode(),
                    "cluster": name,
                    "labels": {"env": "prod", "region": region},
                },
            )  # fmt: skip
        for tenant in (DEFAULT, OTHER):
            versions.add(self.database, SYSTEM, tenant, POLICY, activate=True)

    @cached_property
    def opened(self) -> Opened:
        """The database and the safe, as the broker's own machine has them."""
        return open_database(config.load(str(self.broker.folder)))

    @property
    def database(self) -> Any:
        return self.opened.database

    def close(self) -> None:
        self.broker.stop()
        self.database.close()

    def key(self, name: str = "prod-eu", *, tenant: str = DEFAULT, **more: Any) -> KeyVersion:
        """A new key; P-256 unless another ``algorithm`` is given."""
        more = {"algorithm": "p256", **more}
        path = KeyPath(tenant, DEFAULT, name)
        return keys.create(self.database, SYSTEM, self.opened.safe, path, **more)

    def host(self, name: str = "host-1", of: str = "eu", **more: Any) -> Host:
        """A client's certificate of an authority; ``more`` as for ``identity.client``."""
        issued = identity.client(self.authorities[of], name=name, **more)
        return self.written(issued, f"{of}-{name}")

    def written(self, issued: Issued, stem: str, *behind: Issued) -> Host:
        """A certificate as files."""
        path = issued.write(self.folder, stem, *behind)
        return Host(path, self.folder / f"{stem}.pem", issued)

    def tls(self, host: Host | None) -> ssl.SSLContext:
        """TLS as this host."""
        if host is None:
            return self.broker.context()
        return self.broker.context(host.certificate, host.key)

    def release(self, body: bytes, host: Host | None, **more: Any) -> Answer:
        """What the broker answers to a request of this host."""
        more = {"token": "", **more}
        return self.broker.ask("POST", protocol.PATH, body, tls=self.tls(host), **more)

    def records(self, **columns: Any) -> list[Any]:
        """The audit's records, as entries, whose columns have these values; the oldest first."""
        from sqlalchemy import select

        from boltseal.broker.audit import record
        from boltseal.broker.store import tables

        query = select(tables.audit.c.record).filter_by(**columns).order_by(tables.audit.c.seq)
        with self.database.read() as connection:
            return [record.parse(one)[1] for one in connection.execute(query).scalars()]


PLACES = {"eu": (DEFAULT, "eu"), "us": (DEFAULT, "us"), "other": (OTHER, "eu")}


def secret() -> bytes:
    """One layer's private options, like no others."""
    key = b64.encode(secrets.token_bytes(32))
    return json.dumps({"symkey": key, "cipheroptions": {"nonce": "AAAAAAAAAAA="}}).encode()


def wrap(key: KeyVersion, content: bytes) -> bytes:
    """What a packet holds."""
    if key.algorithm == public.HYBRID:
        found = public.PublicKey((), str(key.path), key.version, key.algorithm, key.public, "")
        return HybridWrapper().wrap([HybridRecipient(found.hybrid())], content)[0]
    return jwe.encrypt(content, [(load_public(key.public.encode(), "key"), True)])


def packet(key: KeyVersion, content: bytes, /, **changes: Any) -> bytes:
    """What an image carries for a key."""
    members: dict[str, Any] = {
        "brokers": ("https://broker.example",),
        "key": str(key.path),
        "version": key.version,
        "fingerprint": key.fingerprint,
        "wrapped": changes["wrapped"] if "wrapped" in changes else wrap(key, content),
    }
    return packets.build(packets.Packet(**{**members, **changes}))


def ask(key: KeyVersion, content: bytes = b"", /, **changes: Any) -> tuple[bytes, sealing.FreshKey]:
    """A request's bytes and what opens its answer; ``changes`` are members of the request."""
    members: dict[str, Any] = {
        "key": str(key.path),
        "version": key.version,
        "packet": changes.get("packet") or packet(key, content or secret()),
        "time": int(time.time()),
        "image_name": "registry.example/app:1",
        "image_digest": IMAGE,
        "layer": LAYER,
        "platform": "linux/amd64",
        "kem": protocol.XWING if key.algorithm == public.HYBRID else protocol.X25519,
    }
    request, fresh = sealing.fresh(**{**members, **changes})
    return request.encode(), fresh
