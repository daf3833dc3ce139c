"""The table of payloads: what containerd may send, byte for byte, with exit codes and messages."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support import ctd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DATA = Path(__file__).parents[1] / "vectors" / "data"
KEYS = DATA / "keys"
PASSPHRASE = b"s3cret"


def key(name: str) -> bytes:
    return (KEYS / name).read_bytes()


@dataclass
class Sent:
    """One run: an image's layer, and what goes to descriptor 3."""

    image: Path
    parameters: Mapping[str, list[bytes]] | None = None
    change: Callable[[bytes], bytes | None] = lambda raw: raw
    document: Callable[[dict[str, Any]], None] = lambda document: None
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    blob: Callable[[bytes], bytes] = lambda raw: raw

    def run(self) -> ctd.Decoded:
        descriptor, blob = ctd.layer_of(self.image)
        document = json.loads(ctd.document(descriptor, self.parameters))
        self.document(document)
        raw = self.change(ctd.any_message(json.dumps(document).encode()))
        return ctd.decode(raw, self.blob(blob), *self.options, env=self.environment)


def sent(
    image: str = "jwe-rsa2048",
    keys: tuple[str, ...] = ("rsa2048.pem",),
    passphrases: tuple[bytes, ...] | None = None,
    **more: Any,
) -> Sent:
    """Private keys as imgcrypt sends them: each with a passphrase, which may be empty."""
    secrets = [b""] * len(keys) if passphrases is None else list(passphrases)
    found = {"privkeys": [key(one) for one in keys], "privkeys-passwords": secrets}
    return Sent(DATA / "images" / image, {**found, **more.pop("others", {})}, **more)


def without_keys(image: str = "jwe-rsa2048", **more: Any) -> Sent:
    """What containerd's CRI plugin sends: ``Parameters`` is null."""
    return Sent(DATA / "images" / image, None, **more)


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda raw: raw[: int(len(raw) * share)]


def instead(raw: bytes | None) -> Callable[[bytes], bytes | None]:
    return lambda _: raw


def in_front(raw: bytes) -> Callable[[bytes], bytes]:
    return lambda rest: raw + rest


def set_in(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Change one member of the JSON inside."""

    def change(document: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        for one in parents:
            document = document[one]
        document[last] = value

    return change


def other_type(raw: bytes) -> bytes:
    return raw.replace(b"ocicrypt.v1.Payload", b"ocicrypt.v1.Pailoud", 1)


def with_host(raw: bytes) -> bytes:
    """The same message under the URL form of its type."""
    value = raw[2 + len(ctd.TYPE) :]
    return ctd.field(1, f"type.googleapis.com/{ctd.TYPE}".encode()) + value


def noise(size: int) -> bytes:
    return random.Random(6).randbytes(size)


OPENS: dict[str, Sent] = {
    "rsa": sent(),
    "rsa in der": sent("jwe-rsa2048-der", ("rsa2048.der",)),
    "rsa in pkcs1": sent(keys=("rsa2048.pkcs1.pem",)),
    "rsa encrypted": sent(keys=("rsa2048.enc-pkcs8.pem",), passphrases=(PASSPHRASE,)),
    "rsa encrypted pkcs1": sent(keys=("rsa2048.enc-pkcs1.pem",), passphrases=(PASSPHRASE,)),
    "jwk": sent("jwe-jwk256", ("rsa-oaep-256.jwk.json",)),
    "p256": sent("jwe-p256", ("ec-prime256v1.pem",)),
    "p521 in sec1": sent("jwe-p521", ("ec-secp521r1.sec1.pem",)),
    "the second of two keys": sent("jwe-p384", ("rsa4096.pem", "ec-secp384r1.pem")),
    "after one that is no key": sent(keys=("rsa2048.pub.pem", "rsa2048.pem")),
    "pkcs7": sent("pkcs7", others={"x509s": [key("rsa2048.crt.pem")]}),
    "pkcs7 without certificate": sent("pkcs7"),
    "pgp": Sent(DATA / "images/pgp-rsa", {"gpg-privatekeys": [key("pgp-rsa.sec.gpg")]}),
    "pgp with a passphrase": Sent(
        DATA / "images/pgp-multi",
        {
            "gpg-privatekeys": [key("pgp-locked.sec.gpg")],
            "gpg-privatekeys-passwords": [PASSPHRASE],
        },
    ),
    "x-wing": Sent(DATA / "pq/image", {"privkeys": [(DATA / "pq/alice.pem").read_bytes()]}),
    "keys in the folder": without_keys(options=("--decryption-keys-path", str(KEYS))),
    "folder, written together": without_keys(options=(f"--decryption-keys-path={KEYS}",)),
    "one dash, as go reads it": without_keys(options=("-decryption-keys-path", str(KEYS))),
    "a key of its own": without_keys(options=("-k", str(KEYS / "rsa2048.pem"))),
    "a path without keys, which are sent": sent(options=("--decryption-keys-path", "/nowhere")),
    "released early": sent(options=("--release", "early")),
    "type with a host": sent(change=with_host),
    "fields of a later version": sent(
        change=in_front(b"\x18\x07" + b"\x21" + bytes(8) + b"\x2d" + bytes(4) + b"\x32\x01x")
    ),
    "docker's type with the suffix": sent(
        document=set_in(
            "Descriptor/mediaType", "application/vnd.docker.image.rootfs.diff.tar.gzip+encrypted"
        )
    ),
    "members of a later version": sent(document=set_in("Added", {"in": ["2030"]})),
    "parameters of others": sent(others={"somebody": [b"else"], "pkcs11-config": [b"a: b"]}),
}

_NO_PAYLOAD = r"containerd sent no payload \(descriptor 3 is (empty|not open)\)"
_CALLED = (
    "called io.containerd.ocicrypt.decoder.v1.tar and io.containerd.ocicrypt.decoder.v1.tar.gz"
)
_ZSTD = {"STREAM_PROCESSOR_MEDIATYPE": "application/vnd.oci.image.layer.v1.tar+zstd+encrypted"}
_HUGE = b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f"  # field 2 of 2^63-1 bytes

REFUSED: dict[str, tuple[Sent, int, str]] = {
    "no descriptor 3": (sent(change=instead(None)), 2, _NO_PAYLOAD),
    "empty": (sent(change=instead(b"")), 2, f"{_NO_PAYLOAD}.*{_CALLED}"),
    "empty, for zstd": (
        sent(change=instead(b""), environment=_ZSTD),
        2,
        r"list application/vnd.oci.image.layer.v1.tar\+zstd\+encrypted under accepts of one",
    ),
    "one byte": (sent(change=lambda raw: raw[:1]), 4, "ends in the middle of a (number|field)"),
    "cut in its type": (sent(change=cut(0.002)), 4, "ends in the middle of a field"),
    "cut in the middle": (sent(change=cut(0.5)), 4, "ends in the middle of a field"),
    "without the last byte": (sent(change=lambda raw: raw[:-1]), 4, "in the middle of a field"),
    "noise": (sent(change=instead(noise(1 << 20))), 4, "the payload on descriptor 3 "),
    "noise behind it": (sent(change=lambda raw: raw + noise(1 << 20)), 4, "descriptor 3 "),
    "far too much": (sent(change=instead(bytes(9 << 20))), 4, "over the limit of 8388608 bytes"),
    "a huge length": (sent(change=in_front(_HUGE)), 4, "ends in the middle of a field"),
    "a number without end": (sent(change=in_front(b"\xff" * 11)), 4, "of more than 64 bits"),
    "field 0": (sent(change=in_front(b"\x02\x00")), 4, "a field with an impossible number"),
    "a group": (sent(change=in_front(b"\x1b")), 4, "a field of the unknown kind 3"),
    "a number as value": (sent(change=in_front(b"\x10\x01")), 4, "a number where field 2 should"),
    "its type twice": (sent(change=in_front(ctd.field(1, b"x"))), 4, "has field 1 twice"),
    "its value twice": (sent(change=in_front(ctd.field(2, b"{}"))), 4, "has field 2 twice"),
    "a wrong type": (sent(change=other_type), 4, "of type 'io.containerd.ocicrypt.v1.Pailoud' ins"),
    "no type": (sent(change=instead(ctd.field(2, b"{}"))), 4, "does not say what it is"),
    "no value": (sent(change=instead(ctd.any_message(b""))), 4, "the payload is not valid JSON"),
    "not JSON": (sent(change=instead(ctd.any_message(b"{'a'}"))), 4, "is not valid JSON"),
    "a list": (sent(change=instead(ctd.any_message(b"[1]"))), 4, "is not a JSON object"),
    "a member twice": (
        sent(change=instead(ctd.any_message(b'{"Descriptor":1,"Descriptor":2}'))),
        4,
        "has the key 'Descriptor' twice",
    ),
    "a member that go would take": (
        sent(document=set_in("descriptor", {})), 4, "other readers take for another name",
    ),
    "no descriptor": (sent(document=set_in("Descriptor", None)), 4, "Descriptor is not an object"),
    "parameters as a list": (
        sent(document=set_in("DecryptConfig/Parameters", [])), 4, "Parameters is not an object",
    ),
    "keys as text": (
        sent(document=set_in("DecryptConfig/Parameters/privkeys", "x")), 4, "is not a list",
    ),
    "a key that is not base64": (
        sent(document=set_in("DecryptConfig/Parameters/privkeys", ["?"])), 4, "is not base64",
    ),
    "more passphrases than keys": (
        sent(passphrases=(b"", b"")), 4, "has 1 privkeys, and 2 passphrases for them",
    ),
    "a plain layer": (
        sent(document=set_in("Descriptor/mediaType", "application/vnd.oci.image.layer.v1.tar")),
        2,
        r"list types of layers that end in \+encrypted under accepts",
    ),
    "a type nobody knows": (
        sent(document=set_in("Descriptor/mediaType", "a/b+encrypted")), 2, "a/b.encrypted is not",
    ),
    "no wrapped key": (
        sent(document=set_in("Descriptor/annotations", {})), 4, "has no public options",
    ),
    "no key": (without_keys(), 3, "name a folder of keys with --decryption-keys-path"),
    "the wrong key": (
        sent(keys=("rsa4096.pem",)), 3, r"privkeys\[0\] of the payload \(RSA 4096, .*does not open",
    ),
    "a key of another kind": (
        sent(keys=("ec-prime256v1.pem",)), 3, r"RSA-OAEP takes another kind of key",
    ),
    "the wrong passphrase": (
        sent(keys=("rsa2048.enc-pkcs8.pem",), passphrases=(b"wrong",)),
        3,
        r"privkeys\[0\] of the payload: skipped: it does not open with the passphrase given",
    ),
    "an unknown provider": (
        sent(
            keys=(),
            document=set_in(
                "Descriptor/annotations/org.opencontainers.image.enc.keys.provider.acme", "eA=="
            ),
        ),
        3,
        "key provider acme: skipped: it is not configured here",
    ),
    "a short layer": (sent(blob=lambda raw: raw[:-1]), 4, "the blob has [0-9]+ bytes, its desc"),
    "a long layer": (sent(blob=lambda raw: raw + b"x"), 4, "the blob is longer than the"),
    "no layer": (sent(blob=lambda raw: b""), 4, "the blob has 0 bytes"),
    "another layer": (
        sent(blob=lambda raw: bytes(len(raw))), 4, "the blob's digest is sha256:.*not what names it"
    ),
    "a word by itself": (sent(options=("secret",)), 2, "a word without an option is no option"),
    "an unknown option": (sent(options=("--frobnicate",)), 2, "--frobnicate is no option"),
    "an option without value": (sent(options=("-k",)), 2, "-k needs a value"),
    "an unknown release": (sent(options=("--release=now",)), 2, "verified or early, not 'now'"),
}  # fmt: skip


@pytest.mark.parametrize("name", OPENS)
def test_opens(name: str) -> None:
    case = OPENS[name]
    done = case.run()
    assert (done.code, done.err) == (0, "")
    assert hashlib.sha256(gzip.decompress(done.out)).hexdigest() == ctd.diff_id_of(case.image)


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    case, code, message = REFUSED[name]
    done = case.run()
    assert done.code == code, done.err
    assert re.search(message, done.err), done.err
    assert done.err.startswith("boltseal-ctd-decoder: ")
    assert done.err.rstrip("\n").isprintable()  # one line
    assert done.out == b""


def test_there_are_enough() -> None:
    assert len(OPENS) + len(REFUSED) >= 60
