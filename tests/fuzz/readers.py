"""What the targets do with an input. Each function imports what it fuzzes and returns a reader.

A reader may raise BoltsealError or NotMyKeyError, and nothing else.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from fuzz import seeds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boltseal.keywrap.base import Identity

    Read = Callable[[bytes], object]

_PROVIDER = "org.opencontainers.image.enc.keys.provider.acme"


def jwe() -> Read:
    """A packet, tried with an RSA and an EC key."""
    from boltseal.keywrap.jwe import JweIdentity, describe_packet
    from boltseal.keywrap.keyfiles import load_private

    identities = [
        JweIdentity(load_private(seeds.key_file(name), name, lambda: None))
        for name in ("rsa2048.pem", "ec-prime256v1.pem")
    ]
    secrets = _secrets(identities, "jwe", seeds.jwe_packets())

    def read(data: bytes) -> None:
        describe_packet(data)
        for identity in identities:
            _same(secrets, identity, "jwe", data)

    return read


def pkcs7() -> Read:
    """A packet, tried with an RSA key."""
    from boltseal.keywrap.keyfiles import load_private
    from boltseal.keywrap.pkcs7.keys import Pkcs7Identity, describe_packet

    key = load_private(seeds.key_file("rsa3072.pem"), "key", lambda: None)
    identity = Pkcs7Identity(key.rsa_private())
    _secrets([identity], "pkcs7", seeds.pkcs7_packets())

    def read(data: bytes) -> None:
        describe_packet(data)
        identity.unwrap("pkcs7", data)  # AES-CBC authenticates nothing: what comes out may differ

    return read


def pgp() -> Read:
    """A message, as far as it is read before GnuPG gets it, and what GnuPG then gets."""
    from boltseal.keywrap.pgp import packet

    def read(data: bytes) -> None:
        packet.describe_packet(data)
        message = packet.parse(data)
        named = [key.named("0123456789ABCDEF") for key in message.keys]
        again = packet.parse(message.only(named))
        assert [key.key_id for key in again.keys] == ["0123456789ABCDEF"] * len(message.keys)
        assert again.encrypted == message.encrypted

    return read


def pkcs11() -> Read:
    """A packet; what was read can be written and read again."""
    from boltseal.keywrap.pkcs11 import packet

    def read(data: bytes) -> None:
        packet.describe_packet(data)
        found = packet.parse(data)
        named = [packet.Wrapped(one.blob, one.hash or "sha1", one.kid) for one in found]
        assert packet.parse(packet.build(named)) == tuple(named)

    return read


def envelope() -> Read:
    """What Boltseal's key provider wrote, and any other provider's packet."""
    from boltseal._io import b64
    from boltseal.keywrap import envelope as it
    from boltseal.keywrap import packets

    def read(data: bytes) -> None:
        it.kind(data)
        packets.recipients("provider.acme", data)
        packets.is_quantum_safe("provider.acme", data)
        packets.describe({_PROVIDER: b64.encode(data)})
        it.open_up(data)
        found = it.unpack(data)
        assert sorted(it.unpack(it.pack(_by_scheme(found)))) == sorted(found)

    _warm(read, seeds.envelopes())
    return read


def pq() -> Read:
    """A packet, tried with an X-Wing key."""
    from boltseal.keywrap.pq.keys import HybridIdentity, describe_packet
    from boltseal.spec.annotations import QUANTUM_SAFE

    identity = HybridIdentity(seeds.xwing())
    secrets = _secrets([identity], QUANTUM_SAFE, [seeds.pq_packet()])

    def read(data: bytes) -> None:
        describe_packet(data)
        _same(secrets, identity, QUANTUM_SAFE, data)

    return read


def kms() -> Read:
    """A packet, tried with keys of every service; what a service would be asked is checked."""
    from boltseal.keywrap.kms import packet, uri
    from boltseal.keywrap.kms.keys import ServiceIdentity
    from boltseal.spec.annotations import KEY_SERVICE

    service: Any = seeds.Service()
    identities = [ServiceIdentity(uri.parse(text), service) for text in seeds.KMS_KEYS]
    secrets = _secrets(identities, KEY_SERVICE, seeds.kms_packets())

    def read(data: bytes) -> None:
        packet.describe_packet(data)
        found = packet.parse(data)
        assert packet.parse(packet.build(found)) == found
        for identity in identities:
            _same(secrets, identity, KEY_SERVICE, data)

    return read


def annotations() -> Read:
    """A whole layer's annotations, described and opened with keys of all kinds."""
    from boltseal._io import strictjson
    from boltseal.errors import BoltsealError
    from boltseal.keywrap import identity_files, keyring, packets
    from boltseal.keywrap.options import KeyOptions
    from boltseal.keywrap.pq.keys import HybridIdentity

    names = ("rsa2048.pem", "rsa3072.pem", "ec-prime256v1.pem")
    loaded = [
        identity_files.load_bytes(seeds.key_file(name), name, lambda: None, KeyOptions()).identity
        for name in names
    ]
    identities = [one for one in loaded if one is not None]
    ring = keyring.Keyring((*identities, HybridIdentity(seeds.xwing())))

    def read(data: bytes) -> None:
        document = strictjson.load_object(data, "the layer", max_bytes=4 * 1024 * 1024)
        given = {key: value for key, value in document.items() if isinstance(value, str)}
        keys, problems = packets.describe(given)
        assert all(len(f"{one.algorithm}{one.recipient}") < 300 for one in keys)
        assert all(len(problem) < 1000 for problem in problems)
        keyring.check_addition(given, ())
        _quietly(_taken_out, given)
        caught: BoltsealError | None = None
        try:
            ring.unwrap(given)
        except BoltsealError as error:
            caught = error
        if caught is not None:
            assert len(caught.attempts) <= 1000
            raise caught

    _warm(read, seeds.annotations())
    return read


def _taken_out(given: dict[str, str]) -> None:
    """Each packet without its first recipient, which leaves one less."""
    from boltseal.keywrap import amend, packets
    from boltseal.spec import annotations as names

    for scheme, value in names.schemes(given).items():
        for packet in names.split_packets(scheme, value)[:8]:
            count = packets.count(scheme, packet)
            rest = amend.without(scheme, packet, {0})
            assert (packets.count(scheme, rest) if rest is not None else 0) == count - 1


def provider_answer() -> Read:
    """What a key provider answers, to both questions, and over gRPC."""
    from boltseal.keywrap.keyprovider import protocol, service

    def read(data: bytes) -> None:
        document = service.unframe(data)
        for text in (data, document or b""):
            for operation in (protocol.WRAP, protocol.UNWRAP):
                _quietly(protocol.read_answer, text, operation)

    _warm(read, seeds.provider_answers())
    return read


def provider_question() -> Read:
    """What a client asks our key provider, answered with real keys."""
    from boltseal.keyprovider_server import question
    from boltseal.keyprovider_server.provider import Provider
    from boltseal.keywrap import identity_files
    from boltseal.keywrap.keyring import Keyring
    from boltseal.keywrap.options import KeyOptions
    from boltseal.keywrap.parse import parse_recipient

    loaded = identity_files.load_bytes(
        seeds.key_file("rsa2048.pem"), "key", lambda: None, KeyOptions()
    )
    recipient = parse_recipient(f"jwe:{seeds.DATA}/keys/rsa2048.pub.pem")
    assert loaded.identity is not None
    provider = Provider(Keyring((loaded.identity,)), {"prod": recipient}, "acme")

    def read(data: bytes) -> None:
        asked = question.parse(data)
        answer, event = provider.answer(asked)
        assert answer
        assert len(event.who) < 1000

    _warm(read, seeds.provider_questions())
    return read


def provider_config() -> Read:
    """A configuration of key providers, JSON or TOML, and every provider in it."""
    from boltseal.keywrap.keyprovider import config

    def every(load: Callable[[bytes, str], dict[str, Any]], data: bytes) -> None:
        for name, value in load(data, "the file").items():
            _quietly(config._provider, name, value, "the file", {"PATH": "/usr/bin:/bin"})

    def read(data: bytes) -> None:
        _quietly(every, config._json, data)
        every(config._toml, data)

    return read


def pkcs11_uri() -> Read:
    """A PKCS#11 URI."""
    from boltseal.keywrap.pkcs11 import uri

    def read(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        uri.looks_like(text)
        assert uri.parse(text).describe().isprintable()

    return read


def kms_uri() -> Read:
    """A key service's URI; the canonical form is its own canonical form."""
    from boltseal.keywrap.kms import uri

    def read(data: bytes) -> None:
        found = uri.parse(data.decode("utf-8", "replace"))
        assert uri.parse(str(found)) == found
        again = uri.parse(found.canonical)
        assert again.canonical == found.canonical
        assert found.may_be(again) or not again.is_settled

    return read


def pkcs11_frame() -> Read:
    """What the process with a PKCS#11 module says."""
    from boltseal.keywrap.pkcs11 import frames

    def read(data: bytes) -> None:
        ours, theirs = os.pipe()
        try:
            os.write(theirs, data[:60_000])
            os.close(theirs)
            while frames.receive(ours, 5.0) is not None:
                pass
        finally:
            os.close(ours)

    return read


def key_file() -> Read:
    """A key file of any kind, private or public."""
    from boltseal.keywrap import identity_files, keyfiles, show
    from boltseal.keywrap.options import KeyOptions
    from boltseal.keywrap.pkcs11 import document
    from boltseal.keywrap.pq import hybrid

    options = KeyOptions(environment={"PATH": "/usr/bin:/bin"})

    def read(data: bytes) -> None:
        _quietly(hybrid.load_public, data)
        _quietly(keyfiles.load_public, data, "key")
        _quietly(document.load, data, "policy")
        _quietly(_certificates, data, options)
        _quietly(show._public, data, "key", options)
        loaded = identity_files.load_bytes(data, "key", lambda: b"s3cret", options)
        if loaded.identity is not None:
            assert "\n" not in loaded.identity.describe()

    _warm(read, seeds.key_files())
    return read


def options() -> Read:
    """Public and private options."""
    from boltseal.blockcipher.options import PrivateOptions, PublicOptions

    def read(data: bytes) -> None:
        _quietly(PrivateOptions.parse, data)
        PublicOptions.parse(data.decode("utf-8", "replace"))

    return read


def der() -> Read:
    """Elements of DER, and those in them."""
    from boltseal._io import der as it

    def walk(data: bytes, depth: int) -> None:
        found = list(it.read(data, "it"))
        assert b"".join(it.encode(one.tag, one.value) for one in found) == data
        for element in found:
            if element.tag & 0x20 and depth:
                walk(element.value, depth - 1)

    return lambda data: walk(data, 20)


def _certificates(data: bytes, given: Any) -> None:
    from boltseal.keywrap.pkcs7 import certificates

    for one in certificates.load(data, "file"):
        certificates.subject_of(one)
        assert certificates.describe(one)
        _quietly(certificates.check, [one], "file", given)
        certificates.rsa_key(one, "file", given)


def _quietly(function: Callable[..., object], *given: object) -> None:
    from boltseal.errors import BoltsealError

    try:
        function(*given)
    except BoltsealError:
        pass


def _warm(read: Read, given: Sequence[bytes]) -> None:
    """Have everything imported before memory is measured."""
    from boltseal.errors import BoltsealError
    from boltseal.keywrap.base import NotMyKeyError

    for data in given:
        try:
            read(data)
        except (BoltsealError, NotMyKeyError):
            pass


def _by_scheme(found: list[tuple[str, bytes]]) -> dict[str, list[bytes]]:
    schemes: dict[str, list[bytes]] = {}
    for scheme, packet in found:
        schemes.setdefault(scheme, []).append(packet)
    return schemes


def _secrets(identities: Sequence[Identity], scheme: str, given: list[bytes]) -> set[bytes]:
    """What the seeds hold. This also imports all that opening one needs."""
    from boltseal.keywrap.base import NotMyKeyError

    found = set()
    for packet in given:
        for identity in identities:
            try:
                found.add(identity.unwrap(scheme, packet))
            except NotMyKeyError:
                pass
    assert found
    return found


def _same(secrets: set[bytes], identity: Identity, scheme: str, data: bytes) -> None:
    """A changed packet opens to the same secret, or not at all."""
    from boltseal.keywrap.base import NotMyKeyError

    try:
        assert identity.unwrap(scheme, data) in secrets, "another secret came out"
    except NotMyKeyError:
        pass
