"""The table of targets: everything that reads what somebody else wrote.

To add one, write a reader (readers.py), give it something to begin with (seeds.py), and add a line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fuzz import brokers, bulk, bundles, planted, readers, runtimes, seeds, tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuzz.readers import Read

_JSON = (
    b"version", b"recipients", b"blob", b"hash", b"kid", b"sha1", b"sha256", b"op", b"keywrap",
    b"keyunwrap", b"keywrapparams", b"keyunwrapparams", b"keywrapresults", b"keyunwrapresults",
    b"annotation", b"optsdata", b"ec", b"dc", b"Parameters", b"DecryptConfig", b"Enabled", b"acme",
    b"key-providers", b"cmd", b"path", b"args", b"grpc", b"grpc-tls", b"unix:/", b"dns:///",
    b"[::1]",
)  # fmt: skip
_JOSE = (
    b"protected", b"unprotected", b"header", b"recipients", b"encrypted_key", b"iv", b"tag", b"aad",
    b"ciphertext", b"alg", b"enc", b"zip", b"DEF", b"crit", b"kid", b"epk", b"apu", b"apv", b"p2c",
    b"p2s", b"kty", b"crv", b"RSA-OAEP", b"RSA-OAEP-256", b"RSA1_5", b"ECDH-ES", b"ECDH-ES+A256KW",
    b"ECDH-ES+A128KW", b"dir", b"A256GCM", b"A128CBC-HS256", b"A256CBC-HS512", b"P-256", b"P-521",
    b"PBES2-HS256+A128KW", b"x5c", b"jku", b"jwk",
)  # fmt: skip
_DER = (
    b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03",
    b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x01\x06",
    b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x01\x02",
    b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", b"\x30\x80", b"\x00\x00", b"\x10\x13",
    b"\x84\x0c", b"\x02\x01\x10", b"\x55\x04\x03", b"\xa0\x00",
)  # fmt: skip
_OWN = (
    b"boltseal", b"envelope/1", b"pq/1", b"kms/1", b"keys", b"suite", b"recipient", b"sealed",
    b"key", b"provider.boltseal-pq", b"provider.boltseal-kms", b"jwe", b"pgp", b"pkcs7", b"pkcs11",
    b"ciphertext", b"version", *(key.encode() for key in seeds.KMS_KEYS),
)  # fmt: skip
_BROKERS = (
    b"broker/1", b"brokers", b"fingerprint", b"sha256:", b"wrapped", b"https://", b"http://",
    b"127.0.0.1", b"[::1]", b"localhost", b"/", b"..", b"@", b":443", b"acme/web/prod-eu",
)  # fmt: skip
_KEYS = (
    b"-----BEGIN PRIVATE KEY-----", b"-----BEGIN EC PRIVATE KEY-----",
    b"-----BEGIN CERTIFICATE-----", b"-----BEGIN ENCRYPTED PRIVATE KEY-----",
    b"-----BEGIN RSA PRIVATE KEY-----", b"ssh-rsa ",
    b"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00", b"-----BEGIN PGP PRIVATE KEY BLOCK-----",
    b"pkcs11:\n  uri: ", b'{"kty":"RSA"', b'"kty":"EC"', b'"crv":"P-256"', b'"d":"', b'"n":"',
    b'"e":"', b"module:\n  env:\n    A: b\n", b"&a ", b"*a", b"!!str ", b'"\\UFFFFFFFF"', b"? ",
    b"--- ", b"...\n",
)  # fmt: skip
_URI = (
    b"pkcs11:", b"token=", b"object=", b"id=%01", b"type=private", b"slot-id=", b"?pin-value=",
    b"&", b"module-path=/", b"module-name=", b"pin-source=", b"library-version=2.6", b"%",
    b"%C3%A9", b";",
)  # fmt: skip
_SERVICES = (
    b"awskms://", b"gcpkms://", b"azurekms://", b"hashivault://", b"alias/", b"key/mrk-",
    b"/versions/1", b"arn:aws:kms:", b"[::1]:80", b"\n", b"%2f", b"..",
)  # fmt: skip


def _uris() -> list[bytes]:
    whole = "pkcs11:token=a;object=b;id=%01;type=private;slot-id=3?pin-value=1&module-path=/a.so"
    return [
        whole.encode(),
        b"pkcs11:library-version=2.6?module-name=a&pin-source=file:/a",
        b"pkcs11:",
    ]


@dataclass(frozen=True, slots=True)
class Target:
    """``load`` makes the reader; ``seeds`` are where mutation starts, with ``words`` put in.

    ``large`` are inputs at the limits, tried once each. A packet is what a registry can put into an
    image.
    """

    name: str
    load: Callable[[], Read]
    seeds: Callable[[], list[bytes]]
    words: tuple[bytes, ...] = ()
    large: Callable[[], list[bytes]] = list
    is_packet: bool = False


def _packet(
    name: str,
    load: Callable[[], Read],
    given: Callable[[], list[bytes]],
    words: tuple[bytes, ...] = (),
    large: Callable[[], list[bytes]] = seeds.large_json,
) -> Target:
    return Target(name, load, given, words, large, is_packet=True)


TARGETS = (
    _packet("jwe", readers.jwe, seeds.jwe_packets, _JOSE),
    _packet("pkcs7", readers.pkcs7, seeds.pkcs7_packets, _DER, seeds.large_der),
    _packet("pgp", readers.pgp, lambda: seeds.packets("pgp"), (), seeds.large_der),
    _packet("pkcs11", readers.pkcs11, lambda: seeds.packets("pkcs11"), _JSON),
    _packet("envelope", readers.envelope, seeds.envelopes, _OWN),
    _packet("pq", readers.pq, lambda: [seeds.pq_packet()], _OWN),
    _packet("kms", readers.kms, seeds.kms_packets, _OWN + _SERVICES),
    _packet("broker", brokers.packet, seeds.broker_packets, _OWN + _BROKERS),
    Target("annotations", readers.annotations, seeds.annotations, _OWN, seeds.large_json),
    Target(
        "provider-answer", readers.provider_answer, seeds.provider_answers, _JSON,
        seeds.large_answers,
    ),
    Target(
        "provider-question", readers.provider_question, seeds.provider_questions, _JSON,
        seeds.large_answers,
    ),
    Target(
        "provider-config", readers.provider_config, seeds.provider_files, _JSON, seeds.large_toml
    ),
    Target("key-file", readers.key_file, seeds.key_files, _KEYS, seeds.large_key_files),
    Target("pkcs11-uri", readers.pkcs11_uri, _uris, _URI),
    Target("pkcs11-frame", readers.pkcs11_frame, seeds.frames),
    Target("kms-uri", readers.kms_uri, lambda: [k.encode() for k in seeds.KMS_KEYS], _SERVICES),
    Target("options", readers.options, lambda: [*seeds.public_options(), seeds.SECRET]),
    Target(
        "stream-payload", runtimes.payload, runtimes.payloads, runtimes.WORDS, runtimes.large
    ),
    Target("bulk", bulk.reader, bulk.given, bulk.WORDS, seeds.large_json),
    Target("layer-archive", bundles.layer, bundles.layers, bundles.WORDS, bundles.large),
    Target("image-config", bundles.config, bundles.configs, bundles.CONFIG_WORDS, seeds.large_json),
    Target("jwt", tokens.reader, tokens.tokens, tokens.WORDS, seeds.large_json),
    Target("der", readers.der, seeds.pkcs7_packets, _DER, seeds.large_der),
)  # fmt: skip
_PLANTED = tuple(
    Target(f"planted-{name}", load, planted.seeds) for name, load in planted.DEFECTS.items()
)


def find(name: str) -> Target:
    """A target by its name."""
    for target in (*TARGETS, *_PLANTED):
        if target.name == name:
            return target
    raise SystemExit(f"no target is called {name}; there are {', '.join(t.name for t in TARGETS)}")
