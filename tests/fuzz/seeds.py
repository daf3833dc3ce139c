"""Where fuzzing starts: the packets of real images, real key files, and what Boltseal writes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "vectors" / "data"
SECRET = (
    b'{"symkey":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","digest":"sha256:00",'
    b'"cipheroptions":{"nonce":"AAECAwQFBgcICQoLDA0ODw=="}}'
)


def key_file(name: str) -> bytes:
    """One of the vectors' keys."""
    return (DATA / "keys" / name).read_bytes()


def key_files() -> list[bytes]:
    """All of them, an X-Wing pair, and a certificate beside its key."""
    pair = xwing()
    found = [path.read_bytes() for path in sorted((DATA / "keys").iterdir())]
    both = key_file("rsa3072.pem") + key_file("rsa3072.crt.pem")
    return [*found, both, pair.to_pem(), pair.public_key().to_pem()]


@cache
def layers() -> tuple[dict[str, str], ...]:
    """The encryption annotations of every encrypted layer of the vectors' images."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(DATA.glob("images/*/blobs/sha256/*")):
        raw = path.read_bytes()
        if raw[:1] != b"{":
            continue
        for layer in json.loads(raw).get("layers", []):
            mine = {
                key: value for key, value in layer.get("annotations", {}).items() if ".enc." in key
            }
            if mine:
                found[json.dumps(mine)] = mine
    return tuple(found.values())


def packets(scheme: str) -> list[bytes]:
    """The packets of one scheme in the images."""
    from boltseal.spec import annotations as names

    found: dict[bytes, None] = {}
    for annotations in layers():
        value = annotations.get(names.KEYS + scheme)
        found.update(dict.fromkeys(names.split_packets(scheme, value) if value else []))
    return list(found)


def public_options() -> list[bytes]:
    """The public options of the images, base64 as they are."""
    from boltseal.spec.annotations import PUBLIC_OPTIONS

    return [one[PUBLIC_OPTIONS].encode() for one in layers()]


def xwing() -> Any:
    """A fixed X-Wing key."""
    from boltseal.keywrap.pq.hybrid import PrivateKey

    return PrivateKey(bytes(range(32)))


def pq_packet() -> bytes:
    """What is wrapped for it."""
    from boltseal.keywrap.pq.keys import HybridRecipient, HybridWrapper

    return HybridWrapper().wrap([HybridRecipient(xwing().public_key())], SECRET)[0]


def jwe_packets() -> list[bytes]:
    """The images' packets, and of ours one with several recipients and one of each algorithm."""
    from boltseal.jose import jwe
    from boltseal.keywrap.keyfiles import load_public

    names = ("rsa2048.pub.pem", "rsa-oaep-256.pub.jwk.json", "ec-prime256v1.pub.pem")
    keys = [load_public(key_file(name), name) for name in names]
    mine = [jwe.encrypt(SECRET, [(key, True) for key in keys])]
    mine += [jwe.encrypt(SECRET, [(key, True)]) for key in keys]
    return [*packets("jwe"), *mine]


def pkcs7_packets() -> list[bytes]:
    """The images' packets, ours, and what the standard says: AES-CBC."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

    from boltseal.keywrap.options import KeyOptions
    from boltseal.keywrap.pkcs7.keys import Pkcs7Wrapper, recipient

    path = DATA / "keys" / "rsa3072.crt.pem"
    mine = recipient(str(path), KeyOptions(allow_expired=True))
    builder = pkcs7.PKCS7EnvelopeBuilder().set_data(SECRET)
    builder = builder.add_recipient(x509.load_pem_x509_certificate(path.read_bytes()))
    cbc = builder.encrypt(Encoding.DER, [pkcs7.PKCS7Options.Binary])
    return [*packets("pkcs7"), *Pkcs7Wrapper().wrap([mine], SECRET), cbc]


def envelopes() -> list[bytes]:
    """A provider's packets around those of other schemes."""
    from boltseal.keywrap import envelope

    some = {"jwe": jwe_packets()[:2], "pgp": packets("pgp")[:1], "pkcs7": packets("pkcs7")[:1]}
    return [envelope.pack({scheme: found}) for scheme, found in some.items()] + [
        envelope.pack({**some, "provider.boltseal-pq": [pq_packet()]}),
        pq_packet(),
    ]


def annotations() -> list[bytes]:
    """Whole layers' annotations as JSON: the images', and one with an envelope."""
    from boltseal.spec import annotations as names

    extra = {
        names.KEYS + "provider.acme": names.join_packets(envelopes()[-2:]),
        names.KEYS + "jwe": names.join_packets(jwe_packets()[-2:]),
    }
    return [json.dumps(one).encode() for one in (*layers(), extra)]


def large_json() -> list[bytes]:
    """Documents at and over the limits: deep, wide, long, and full of numbers."""
    size = 380 * 1024
    return [
        b"[" * size,
        b'{"a":' * 60 + b"1" + b"}" * 60,
        b"[" + b"0," * (size // 2) + b"0]",
        b"[" + b"{}," * (size // 3) + b"0]",
        b"{" + b",".join(b'"%x":0' % number for number in range(size // 9)) + b"}",
        b'{"n":' + b"9" * 4200 + b"}",
        b'{"n":' + b"9" * size + b"}",
        b'{"protected":"' + b"A" * (size - 40) + b'"}',
        b'{"recipients":[' + b"{}," * (size // 4) + b"{}]}",
        b'{"boltseal":"envelope/1","keys":{"jwe":[' + b'"",' * (size // 4) + b'""]}}',
    ]


def large_der() -> list[bytes]:
    """The same for DER: deep, wide, long, and with lengths that are not there."""
    from boltseal._io import der

    deep = b""
    for _ in range(5000):
        deep = der.encode(der.SEQUENCE, deep)
    return [
        deep,
        der.encode(der.SEQUENCE, b"\x05\x00" * 150_000),
        b"\x05\x00" * 150_000,
        b"\x30\x84\xff\xff\xff\xff",
        der.encode(der.SEQUENCE, der.encode(der.OCTET_STRING, bytes(390_000))),
    ]


KMS_KEYS = (
    "awskms:///arn:aws:kms:eu-west-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef",
    "awskms:///alias/prod",
    "gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k",
    "azurekms://acme.vault.azure.net/prod",
    "hashivault://prod",
)


class Service:
    """A key service that wraps keys by turning their bits around."""

    def __init__(self, key: Any = None) -> None:
        self._key = key

    def encrypt(self, content_key: bytes) -> Any:
        """As the real ones."""
        from boltseal.keywrap.kms.service import Wrapped

        return Wrapped(self._key, "3", bytes(one ^ 0xFF for one in content_key))

    def decrypt(self, wrapped: Any) -> bytes:
        """The same again; what comes from an image has to be in bounds here."""
        assert len(wrapped.ciphertext) <= 8192
        assert len(wrapped.version) <= 64
        assert wrapped.key.canonical.isascii()
        return bytes(one ^ 0xFF for one in wrapped.ciphertext)


def kms_packets() -> list[bytes]:
    """One packet of each service."""
    from boltseal.keywrap.kms import uri
    from boltseal.keywrap.kms.keys import ServiceRecipient

    keys = [uri.parse(text) for text in KMS_KEYS if "alias" not in text]
    return [ServiceRecipient(key, Service(key)).seal(SECRET) for key in keys]  # type: ignore[arg-type]


def broker_packets() -> list[bytes]:
    """One around a packet for an X-Wing key, and one around each of our JWEs."""
    from boltseal.keywrap.broker import packet

    brokers = ("https://broker.example", "https://[::1]:8443", "http://127.0.0.1:8443/base")
    mark = "sha256:" + 64 * "a"
    return [
        packet.build(packet.Packet(brokers[: 1 + at % 3], "acme/web/prod-eu", 1 + at, mark, inner))
        for at, inner in enumerate([pq_packet(), *jwe_packets()[-3:]])
    ]


def provider_answers() -> list[bytes]:
    """Answers in both shapes, and framed."""
    from boltseal.keywrap.keyprovider import protocol, service

    found = [
        protocol.write_answer(operation, data, shape)
        for operation, data in ((protocol.WRAP, envelopes()[0]), (protocol.UNWRAP, SECRET))
        for shape in ("text", "numbers")
    ]
    return [*found, *map(service.frame, found)]


def provider_questions() -> list[bytes]:
    """Questions of ours, and as Rust writes them."""
    from boltseal.keywrap import envelope
    from boltseal.keywrap.keyprovider import protocol

    mine = envelope.pack({"jwe": packets("jwe")[:1]})
    text = protocol.wrap_question("acme", ["prod", "Enabled"], SECRET)
    numbers = json.loads(text)
    numbers["keywrapparams"]["optsdata"] = list(SECRET)
    return [text, json.dumps(numbers).encode(), protocol.unwrap_question("acme", ["x"], mine)]


def provider_files() -> list[bytes]:
    """Configurations of key providers."""
    services = {
        "a": {"cmd": {"path": "/usr/bin/true", "args": ["-x", "y"]}},
        "b": {"grpc": "localhost:50051"},
        "c": {"grpc": "unix:///run/x.sock"},
        "d": {
            "grpc": "[::1]:443",
            "grpc-tls": {"root-ca-file": "/a", "cert-file": "/b", "key-file": "/c",
                         "server-name": "x", "insecure-skip-verify": False},
        },
    }  # fmt: skip
    toml = b"""[key-providers.a]
cmd = {path = "true", args = ["-x"]}
[key-providers.b]
grpc = "kbs.example.org:50051"
grpc-tls = {server-name = "kbs", insecure-skip-verify = true}
"""
    return [json.dumps({"key-providers": services}).encode(), toml]


def large_toml() -> list[bytes]:
    """Deep, long, and numbers that take long to read."""
    return [
        b"a = " + b"[" * 20_000,
        b"a = " + b"{a = " * 5_000,
        b"a = " + b"9" * 5_000,
        b"a = 0x" + b"f" * 200_000,
        b"a = 1e" + b"9" * 5_000,
        b"[" + b"a." * 20_000 + b"a]",
        b"\n".join(b"[[a]]" for _ in range(20_000)),
        b"\n".join(b"k%x = 1" % number for number in range(20_000)),
        b"a." * 4_000 + b"a = 1",
        b'a = "' + b"x" * 400_000 + b'"',
    ]


def large_answers() -> list[bytes]:
    """As long as an answer may be, in both shapes."""
    return [
        *large_json(),
        b'{"keywrapresults":{"annotation":[' + b"1," * 900_000 + b"1]}}",
        b'{"keywrapresults":{"annotation":[' + b"1," * 380_000 + b"1]}}",
        b'{"keyunwrapresults":{"optsdata":"' + b"A" * 1_900_000 + b'"}}',
        b'{"op":"keywrap","keywrapparams":{"optsdata":[' + b"1," * 900_000 + b"1]}}",
        b'{"op":"keyunwrap","keyunwrapparams":{"annotation":"' + b"A" * 500_000 + b'"}}',
    ]


def large_key_files() -> list[bytes]:
    """As long as a key file may be."""
    size = 250 * 1024
    return [
        *(one[:size] for one in (*large_der(), *large_json())),
        b"pkcs11:\n  uri: " + b"a" * 60_000,
        b"pkcs11: " + b"[" * 60_000,
        b"pkcs11: " + b"{a: " * 15_000,
        b"pkcs11:\n" + b"".join(b" k%x: 1\n" % number for number in range(6_000)),
        b"pkcs11: &a [x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b]\n",
        b'pkcs11: "\\UFFFFFFFF"\n',
        key_file("rsa3072.crt.pem") * 150,
        b"-----BEGIN " * (size // 12),
        b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n" + b"xQ==\n" * (size // 6),
        b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n" * (size // 40),
        b"\xc5\x00" * (size // 2),
        b"-----BEGIN PRIVATE KEY-----\n" + b"A" * size + b"\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN PRIVATE KEY-----\n" * (size // 30),
        b'{"kty":"RSA","n":"' + b"A" * (size // 4) + b'","e":"AQAB"}',
        b'{"kty":"RSA","n":"' + b"_" * 80_000 + b'","e":"AQAB","d":"' + b"_" * 80_000 + b'"}',
    ]


def frames() -> list[bytes]:
    """Messages behind their length."""
    texts = (b'{"ok":1}', b'{"error":"pin","text":"x"}', b"{}", b"[")
    return [len(text).to_bytes(4) + text for text in texts] + [b"\xff\xff\xff\xff{}", b"\0\0"]
