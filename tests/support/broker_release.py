"""A broker's release room on a real database, with an identity and a policy room of a few lines.

Who asks is the bearer's text (``TENANT:NAME``); who may is what :attr:`Bench.policy` says.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from sqlalchemy import insert, select, update

from boltseal.broker.audit import record
from boltseal.broker.model import (
    Assurance,
    AuditEntry,
    Claim,
    Decision,
    KeyPath,
    KeyVersion,
    Presented,
    Principal,
    PrincipalKind,
    RefusedError,
)
from boltseal.broker.release.handler import ReleaseService, Settings
from boltseal.broker.store import tables
from boltseal.broker.store.change import change
from boltseal.broker.store.snapshot import Snapshots
from boltseal.jose import jwe, jwk
from boltseal.keywrap.broker import packet as packets
from boltseal.keywrap.broker import protocol, sealing
from boltseal.keywrap.pq import hybrid
from boltseal.keywrap.pq.keys import HybridRecipient, HybridWrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from boltseal.broker.model import Action, Circumstances, Resource, Snapshot
    from boltseal.broker.release.handler import Observed, Reply
    from boltseal.broker.store.database import Database

NOW = 1_800_000_000
SECRET = b'{"symkey":"bm90aGluZyB0aGF0IG1heSBiZSBzZWVuIGFueXdoZXJl","cipheroptions":{}}'
IMAGE = "sha256:" + "1a" * 32
LAYER = "sha256:" + "2b" * 32
QUICK = Settings(workers=2, linger=0.0)


@dataclass
class MadeKey:
    """A key's version with its private half, which only the bench has."""

    path: KeyPath
    version: int
    algorithm: str
    public: str
    fingerprint: str
    private: bytes = field(repr=False)
    wrap: Callable[[bytes], bytes] = field(repr=False)

    def packet(self, secret: bytes = SECRET, **changes: Any) -> bytes:
        """What is in an image."""
        members: dict[str, Any] = {
            "brokers": ("https://broker.example",),
            "key": str(self.path),
            "version": self.version,
            "fingerprint": self.fingerprint,
            "wrapped": self.wrap(secret),
        }
        return packets.build(packets.Packet(**{**members, **changes}))


def make_key(name: str = "prod-eu", *, version: int = 1, algorithm: str = "p256",
             tenant: str = "default", project: str = "default") -> MadeKey:  # fmt: skip
    """A new one; ``algorithm`` as in ``KeyVersion``."""
    import hashlib

    path = KeyPath(tenant, project, name)
    if algorithm == "xwing":
        pair = hybrid.PrivateKey.generate()
        public = pair.public_key()
        der, pem, private = public.to_der(), public.to_pem().decode(), pair.seed

        def wrap(secret: bytes) -> bytes:
            return HybridWrapper().wrap([HybridRecipient(public)], secret)[0]
    else:
        curve = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1()}.get(algorithm)
        key = ec.generate_private_key(curve) if curve else rsa.generate_private_key(65537, 3072)
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        der = key.public_key().public_bytes(serialization.Encoding.DER, form)
        pem = key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()
        private = key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        recipient = jwk.from_pyca(key.public_key())

        def wrap(secret: bytes) -> bytes:
            return jwe.encrypt(secret, [(recipient, True)])

    fingerprint = "sha256:" + hashlib.sha256(der).hexdigest()
    return MadeKey(path, version, algorithm, pem, fingerprint, private, wrap)


def presented(who: str = "default:host-1", address: str = "192.0.2.7") -> Presented:
    """What comes with a request of ``who``."""
    return Presented(bearer=who or None, address=address)


def authenticate(
    snapshot: Snapshot, what: Presented, _now: int, /, *, tenant: str | None
) -> Principal:
    """The bench's identity room."""
    del tenant
    if not what.bearer or ":" not in what.bearer:
        raise RefusedError("unauthenticated", "nobody knows this token")
    of, name = what.bearer.split(":", 1)
    who = Principal(
        PrincipalKind.HOST,
        of,
        f"token:{name}",
        "tokens",
        labels={"env": "prod"},
        claims=(Claim("sub", name, Assurance.SIGNED, "tokens"),),
        credentials=(f"identity:token:{name}",),
    )
    revoked = snapshot.revoked(of, who.credentials)
    if revoked:
        error = RefusedError("revoked", f"{revoked} is revoked")
        error.principal = who
        raise error
    return who


class Bench:
    """Databases, replicas and keys of one test."""

    def __init__(self, open_database: Callable[[], Database]) -> None:
        self._open = open_database
        self.database = open_database()
        self.private: dict[str, bytes] = {}
        self.opened: list[str] = []  # which private keys were asked for
        self.seen: list[Observed] = []
        self.policy: Callable[[Principal, Action, Resource, Circumstances], bool] = lambda *_: True
        self.before_commit: Callable[[], None] | None = None
        with self.change() as connection:
            for tenant in ("default", "other"):
                connection.execute(insert(tables.tenants).values(name=tenant, created=NOW))
                connection.execute(
                    insert(tables.projects).values(tenant=tenant, name="default", created=NOW)
                )
                connection.execute(
                    insert(tables.trusts).values(
                        tenant=tenant, name="tokens", kind="oidc", config="{}", created=NOW
                    )
                )

    @contextmanager
    def change(self) -> Iterator[Any]:
        """Something that decisions rest on changes, and the epoch with it."""
        entry = AuditEntry(NOW, "default", "administer", "done", "")
        with change(self.database, "admin", "default", entry) as connection:
            yield connection

    def add(self, key: MadeKey, state: str = "enabled") -> MadeKey:
        """Put a key's version into the database."""
        self.private[key.fingerprint] = key.private
        place = {"tenant": key.path.tenant, "project": key.path.project, "name": key.path.name}
        with self.change() as connection:
            known = connection.execute(select(tables.keys).filter_by(**place)).one_or_none()
            if known is None:
                connection.execute(
                    insert(tables.keys).values(
                        **place, algorithm=key.algorithm, published=False, labels="{}", created=NOW
                    )
                )
            connection.execute(
                insert(tables.key_versions).values(
                    **place,
                    version=key.version,
                    algorithm=key.algorithm,
                    state=state,
                    public=key.public,
                    fingerprint=key.fingerprint,
                    wrapped=b"",
                    created=NOW,
                )
            )
        return key

    def set_state(self, key: MadeKey, state: str) -> None:
        """Of a version."""
        with self.change() as connection:
            connection.execute(
                update(tables.key_versions)
                .filter_by(name=key.path.name, version=key.version)
                .values(state=state)
            )

    def revoke(self, credential: str) -> None:
        """In the default tenant."""
        with self.change() as connection:
            connection.execute(
                insert(tables.revocations).values(
                    tenant="default", credential=credential, reason="", by="admin", created=NOW
                )
            )

    def limit(self, scope: str, per_minute: int, per_day: int = 0) -> None:
        """In the default tenant."""
        with self.change() as connection:
            connection.execute(
                insert(tables.limits).values(
                    tenant="default", scope=scope, per_minute=per_minute, per_day=per_day
                )
            )

    @contextmanager
    def replica(self, settings: Settings = QUICK, database: Any = None) -> Iterator[ReleaseService]:
        """A running one, with connections of its own."""
        database = database or self._open()
        service = ReleaseService(
            database,
            Snapshots(database),
            private=self._private,
            authenticate=authenticate,
            decide=self._decide,
            settings=settings,
            observe=self.seen.extend,
            clock=lambda: NOW,
        )
        service.start()
        try:
            yield service
        finally:
            assert service.stop()

    def records(self) -> list[tuple[int, AuditEntry]]:
        """All of the audit but what the bench itself did; the chain is followed on the way."""
        found = []
        with self.database.read() as connection:
            rows = connection.execute(select(tables.audit).order_by(tables.audit.c.seq)).all()
            head = connection.execute(select(tables.head)).one()
        previous = record.GENESIS
        for place, row in enumerate(rows, 1):
            seq, entry = record.parse(row.record)
            assert (row.seq, seq, row.previous) == (place, place, previous)
            assert row.record_hash == record.record_hash(row.record)
            assert row.hash == record.link_hash(previous, row.record_hash, place)
            previous = row.hash
            if entry.actor != "admin":
                found.append((seq, entry))
        assert (head.seq, head.hash) == (len(rows), previous)
        return found

    def entries(self) -> list[AuditEntry]:
        """Without their numbers."""
        return [entry for _, entry in self.records()]

    def count(self, table: Any) -> int:
        """Rows of it."""
        with self.database.read() as connection:
            return len(connection.execute(select(table)).all())

    def _private(self, key: KeyVersion) -> bytes:
        self.opened.append(key.fingerprint)
        return self.private[key.fingerprint]

    def _decide(self, _snapshot: Snapshot, who: Principal, action: Action, what: Resource,
                how: Circumstances, /) -> Decision:  # fmt: skip
        allowed = self.policy(who, action, what, how)
        decision = Decision(allowed, 1, ("everybody",) if allowed else (), (), (), "the bench")
        if self.before_commit is not None:
            self.before_commit()
        return decision


def ask(key: MadeKey, *, now: int = NOW, **changes: Any) -> tuple[bytes, sealing.FreshKey]:
    """A request's bytes, and what opens its answer."""
    members: dict[str, Any] = {
        "key": str(key.path),
        "version": key.version,
        "packet": key.packet() if "packet" not in changes else b"",
        "time": now,
        "image_name": "registry.example/app:1",
        "image_digest": IMAGE,
        "layer": LAYER,
        "platform": "linux/amd64",
        "kem": protocol.XWING if key.algorithm == "xwing" else protocol.X25519,
    }
    request, fresh = sealing.fresh(**{**members, **changes})
    return request.encode(), fresh


def opened(reply: Reply, body: bytes, fresh: sealing.FreshKey) -> bytes:
    """The secret that a reply released."""
    assert reply.status == 200, reply.body
    return fresh.open(protocol.parse_answer(reply.body), body)


def code(reply: Reply) -> str:
    """Why a reply refused; what it says is what its body says."""
    refusal = protocol.parse_refusal(reply.body)
    assert (refusal.status, refusal.request) == (reply.status, reply.request)
    assert refusal.code == reply.code
    return refusal.code


def members(body: bytes, **changes: Any) -> bytes:
    """A request with other members; None takes one out."""
    document = {**json.loads(body), **changes}
    return json.dumps({name: one for name, one in document.items() if one is not None}).encode()


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Until something is so; fails when it does not come to be."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come to be in time"
        time.sleep(0.01)
