"""A broker's history for tests of its audit: every kind of record, two tenants, checkpoints."""

from __future__ import annotations

import hashlib
import io
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from boltseal.broker.audit import chain, checkpoint, details, export, record, signing, verify
from boltseal.broker.keys.exchange import prepare_root
from boltseal.broker.keys.root import FileRoot
from boltseal.broker.keys.safe import Safe
from boltseal.broker.model import (
    Assurance,
    AuditEntry,
    Circumstances,
    Claim,
    Decision,
    Principal,
    PrincipalKind,
    RefusedError,
)
from boltseal.broker.service.access import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boltseal.broker.audit.checkpoint import Checkpoint
    from boltseal.broker.audit.follow import Verdict
    from boltseal.broker.store.database import Database

NOW = 1_800_000_000
IMAGE = "sha256:" + "a" * 64
LAYER = "sha256:" + "b" * 64
FINGERPRINT = "sha256:" + "c" * 64


def principal(name: str, tenant: str = "acme", **changes: Any) -> Principal:
    """A host that a certificate names."""
    one = Principal(
        PrincipalKind.HOST,
        tenant,
        f"x509:hosts:{name}",
        "hosts",
        cluster="eu-1",
        labels={"region": "eu"},
        claims=(Claim("region", "eu", Assurance.SIGNED, "hosts"),),
        credentials=(f"identity:x509:hosts:{name}", "trust:hosts"),
    )
    return replace(one, **changes)


def release(
    who: Principal | None,
    *,
    time: int = NOW,
    key: str = "acme/web/prod-eu",
    image: str = IMAGE,
    code: str = "",
    **changes: Any,
) -> AuditEntry:
    """A request to open the image, as the release room writes it down."""
    found: dict[str, Any] = {
        "action": "unwrap",
        "address": "192.0.2.7",
        "key": key,
        "version": 1,
        "layer": LAYER,
        "kem": "MLKEM768-X25519",
    }
    if code:
        found |= {"code": code, "reason": f"because of {code}"}
    if who is not None:
        how = Circumstances(time, "192.0.2.7", "registry.example/app:1", image, LAYER)
        verdict = Decision(not code, 3, ("only-eu",), ("region is not eu",) if code else ())
        found["principal"] = details.principal(who)
        found["circumstances"] = details.circumstances(how)
        found["decision"] = details.decision(verdict)
        if who.tenant == key.partition("/")[0]:
            found["fingerprint"] = FINGERPRINT
    entry = AuditEntry(
        time=time,
        tenant="*" if who is None else who.tenant,
        kind="release",
        outcome="refused" if code else "allowed",
        actor="" if who is None else who.id,
        subject=f"{key}@1",
        image_digest=image,
        request=os.urandom(16).hex(),
        details=found,
    )
    return replace(entry, **changes)


class History:
    """A database with its audit key, and what is written down in it."""

    def __init__(self, database: Database, root: bytes | None = None) -> None:
        """With the ``root`` key of before, a history goes on."""
        self.database = database
        key = FileRoot(root or os.urandom(32))
        try:
            self.safe = prepare_root(database, key, "system", NOW)
            signing.create_key(database, self.safe, "system", NOW)
        except RefusedError:
            self.safe = Safe.open(database, key)
        self.signer = signing.Signer.open(database, self.safe)
        self.keys = self.signer.keys

    def add(self, *entries: AuditEntry) -> list[int]:
        """Write them down."""
        with self.database.begin_write() as connection:
            return chain.append(connection, entries)

    def checkpoint(self, now: int = NOW) -> Checkpoint:
        """Sign what there is."""
        made = signing.write(self.database, self.signer, now)
        assert made is not None
        return made

    def fill(self) -> list[Checkpoint]:
        """One record of each kind and for two tenants, with three checkpoints between them."""
        kept = [self.checkpoint()]
        self.add(*every_kind("acme"))
        kept.append(self.checkpoint(NOW + 10))
        self.add(*every_kind("umbrella"))
        kept.append(self.checkpoint(NOW + 20))
        self.add(release(principal("last"), time=NOW + 21))
        return kept

    def export(self, tenant: str = "*", *, signed: bool = True, **window: int) -> bytes:
        """All of its lines."""
        lines = export.export(
            self.database,
            SYSTEM,
            tenant,
            window=export.Window(**window),
            signer=self.signer if signed else None,
            now=NOW,
        )
        return b"".join(lines)

    def verify(self, data: bytes, kept: Sequence[Checkpoint] = ()) -> Verdict:
        """An export, with this broker's keys."""
        return verify.verify_export(io.BytesIO(data), self.keys, kept)

    def verify_database(self, kept: Sequence[Checkpoint] = ()) -> Verdict:
        """The database itself."""
        return verify.verify_database(self.database, self.keys, kept)


def every_kind(tenant: str) -> list[AuditEntry]:
    """Records as each room writes them."""
    who = principal("node-1", tenant)
    key = f"{tenant}/web/prod-eu"
    plain = AuditEntry(NOW + 1, tenant, "", "done", f"admin-of-{tenant}")
    return [
        release(who, key=key),
        release(who, key=key, code="forbidden"),
        release(None, key=key, code="unauthenticated", tenant=tenant),
        release(who, key=key, kind="wrap", image=""),
        replace(plain, kind="key", subject=f"{key}@1", details={"step": "rotate"}),
        replace(plain, kind="policy", subject="policy 3", details={"step": "activate"}),
        replace(plain, kind="trust", subject=f"trust {tenant}/hosts", details={"step": "set"}),
        replace(plain, kind="revocation", subject=f"identity:{who.id}", details={"reason": "é"}),
        replace(plain, kind="administer", subject=f"limits of {tenant}", details={"per_day": 9}),
        replace(plain, kind="system", subject="root key", details={"nested": {"deep": [1, None]}}),
        replace(plain, kind="release", outcome="refused", details={"summed": {"malformed": 70}}),
    ]


class Forger:
    """Somebody who can write any export, but has no key of the broker's.

    ``links`` are (record or None, record's hash), in their order from ``start``; checkpoints stay
    after the links that they came after.
    """

    def __init__(self, data: bytes) -> None:
        lines = data.splitlines(keepends=True)
        self.header = json.loads(lines[0])
        self.newest = json.loads(lines[-1])["end"]["newest"]
        self.links: list[tuple[str | None, str]] = []
        self.checkpoints: dict[int, str] = {}  # after how many links
        for line in lines[1:-1]:
            document = json.loads(line)
            if "checkpoint" in document:
                self.checkpoints[len(self.links)] = document["checkpoint"]
            elif "record" in document:
                text = canonical(document["record"])
                self.links.append((text, record.record_hash(text)))
            else:
                self.links.append((None, document["record_hash"]))

    def renumber(self) -> None:
        """Have every record say the number that it now has."""
        for place, (text, _) in enumerate(self.links):
            if text is not None:
                document = json.loads(text)
                document["seq"] = self.header["start"] + place
                self.set(place, document)

    def set(self, place: int, document: Any) -> None:
        """Another record at a place."""
        text = canonical(document)
        self.links[place] = (text, record.record_hash(text))

    def encode(self) -> bytes:
        """The export, with all hashes computed anew."""
        made = [canonical(self.header)]
        previous, seq = self.header["previous"], self.header["start"]
        for place, (text, hashed) in enumerate(self.links):
            previous = record.link_hash(previous, hashed, seq + place)
            made.append(
                f'{{"hash":"{previous}","record":{text}}}'
                if text is not None
                else canonical({"hash": previous, "record_hash": hashed, "seq": seq + place})
            )
            if place + 1 in self.checkpoints:
                made.append(canonical({"checkpoint": self.checkpoints[place + 1]}))
        return ended(made, self.newest)


def ended(lines: list[str], newest: str | None) -> bytes:
    """Lines with a last one that fits to them, unsigned."""
    body = "".join(f"{line}\n" for line in lines).encode()
    end = {
        "key": "",
        "lines": len(lines),
        "newest": newest,
        "seal": "",
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    return body + canonical({"end": end}).encode() + b"\n"


def canonical(document: Any) -> str:
    """As every line and record is written."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def checkpoint_of(broker: str, seq: int, link: str) -> str:
    """A checkpoint by a key of one's own."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    own = Ed25519PrivateKey.generate()
    return str(checkpoint.sign(own, broker=broker, seq=seq, link=link, time=NOW))
