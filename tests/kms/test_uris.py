"""URIs of keys, and packets that name them: strict, bounded, and only ever compared."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal.errors import (
    IntegrityError,
    KeyServiceError,
    LimitExceededError,
    MalformedError,
    UsageError,
)
from boltseal.keywrap import packets, parse
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.kms import crc32c, keys, packet, uri
from boltseal.keywrap.kms.packet import Packet
from boltseal.keywrap.kms.service import Wrapped
from boltseal.spec.annotations import KEY_SERVICE, KEYS, join_packets

ID = "1234abcd-12ab-34cd-56ef-1234567890ab"
MRK = "mrk-1234abcd12ab34cd56ef1234567890ab"
ARN = f"arn:aws:kms:eu-central-1:111122223333:key/{ID}"
GOOGLE = "gcpkms://projects/p-1/locations/global/keyRings/r_1/cryptoKeys/K-1"
VERSION = "0123456789abcdef0123456789abcdef"

GOOD = [
    (f"awskms:///{ID}", f"awskms:///{ID}"),
    (f"awskms:///{MRK}", f"awskms:///{MRK}"),
    (f"awskms:///{ARN}", f"awskms:///{ARN}"),
    ("awskms:///alias/team/app-1", "awskms:///alias/team/app-1"),
    ("awskms://localhost:4566/alias/app", "awskms:///alias/app"),
    (f"awskms://kms.example:8443/{ARN}", f"awskms:///{ARN}"),
    ("awskms://[::1]:4566/alias/app", "awskms:///alias/app"),
    (
        "awskms:///arn:aws-us-gov:kms:us-gov-west-1:111122223333:alias/app",
        "awskms:///arn:aws-us-gov:kms:us-gov-west-1:111122223333:alias/app",
    ),
    (GOOGLE, GOOGLE),
    (f"{GOOGLE}/cryptoKeyVersions/12", GOOGLE),
    (f"{GOOGLE}/versions/12", GOOGLE),
    (
        "gcpkms://projects/example.com:old/locations/eu/keyRings/r/cryptoKeys/k",
        "gcpkms://projects/example.com:old/locations/eu/keyRings/r/cryptoKeys/k",
    ),
    ("azurekms://Acme.vault.azure.net/App-1", "azurekms://acme.vault.azure.net/App-1"),
    (f"azurekms://acme.vault.azure.net/app/{VERSION}", "azurekms://acme.vault.azure.net/app"),
    ("hashivault://app", "hashivault://app"),
    ("hashivault://team.app-1", "hashivault://team.app-1"),
]

BAD = [
    "awskms:",
    "awskms:alias/app",
    "awskms://alias/app",
    "awskms:///",
    "awskms:///app",
    "awskms:///alias/",
    f"awskms:///{ID.upper()}",
    f"awskms:///{ARN}/more",
    f"awskms:///{ARN}\n",
    "awskms:///arn:aws:s3:eu-central-1:111122223333:key/" + ID,
    "awskms://user@host/alias/app",
    "awskms://host:123456/alias/app",
    "awskms://host/alias/app?x=1",
    "gcpkms://projects/p/locations/l/keyRings/r",
    f"{GOOGLE}/cryptoKeyVersions/",
    f"{GOOGLE}/cryptoKeyVersions/-1",
    f"{GOOGLE}/../other",
    "gcpkms:///" + GOOGLE.removeprefix("gcpkms://"),
    "azurekms://acme.vault.azure.net",
    "azurekms://acme.vault.azure.net/",
    "azurekms://acme.vault.azure.net/app/1",
    "azurekms://acme.vault.azure.net/a_b",
    "azurekms:///app",
    "azurekms://acme.vault.azure.net@evil.example/app",
    "hashivault://",
    "hashivault://team/app",
    "hashivault://..",
    "hashivault://app.",
    "hashivault://äpp",
    "hashivault://" + "a" * 200,
    "hashivault://app\x1b[2J",
]


@pytest.mark.parametrize(("text", "canonical"), GOOD)
def test_uris_as_sigstore_spells_them(text: str, canonical: str) -> None:
    found = uri.parse(text)
    assert found.canonical == canonical
    assert uri.parse(str(found)) == found


@pytest.mark.parametrize("text", BAD)
def test_anything_else_is_wrong_usage_and_told_in_one_line(text: str) -> None:
    for read in (parse.parse_recipient, parse.parse_identity):
        with pytest.raises(UsageError) as caught:
            read(text)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("mine", "theirs", "fits"),
    [
        (ARN, ARN, True),
        (ID, ARN, True),
        (MRK, ARN, False),
        ("alias/app", ARN, True),
        ("arn:aws:kms:eu-central-1:111122223333:alias/app", ARN, True),
        ("arn:aws:kms:eu-west-1:111122223333:alias/app", ARN, False),
        ("arn:aws:kms:eu-central-1:999922223333:alias/app", ARN, False),
        (ARN.replace("eu-central-1", "eu-west-1"), ARN, False),
        (ARN.replace("aws", "aws-cn"), ARN, False),
        (ARN.replace(ID, MRK), ARN.replace(ID, MRK), True),
        # a multi-region key has a copy with the same id elsewhere
        (ARN.replace(ID, MRK).replace("central", "west"), ARN.replace(ID, MRK), True),
        (ARN.replace(ID, MRK).replace("1111", "9999"), ARN.replace(ID, MRK), False),
        ("alias/app", "alias/app", False),
    ],
)
def test_which_aws_keys_may_be_the_same(mine: str, theirs: str, fits: bool) -> None:
    other = uri.parse(f"awskms:///{theirs}")
    assert uri.parse(f"awskms:///{mine}").may_be(other) is fits
    assert uri.parse(f"awskms://localhost:4566/{mine}").may_be(other) is fits


def test_versions_do_not_make_another_key() -> None:
    assert uri.parse(GOOGLE).may_be(uri.parse(f"{GOOGLE}/versions/2"))
    azure = "azurekms://acme.vault.azure.net/app"
    assert uri.parse(f"{azure}/{VERSION}").may_be(uri.parse(azure))
    assert not uri.parse(azure).may_be(uri.parse("azurekms://evil.vault.azure.net/app"))
    assert not uri.parse("hashivault://app").may_be(uri.parse(azure))


def example(**changes: object) -> bytes:
    document = {
        "boltseal": "kms/1",
        "key": "hashivault://app",
        "version": "1",
        "ciphertext": base64.b64encode(b"vault:v1:AAAA").decode(),
        "sealed": base64.b64encode(bytes(60)).decode(),
    }
    return json.dumps({**document, **changes}).encode()


def test_a_packet_byte_for_byte() -> None:
    made = packet.build(Packet(uri.parse("hashivault://app"), "1", b"vault:v1:AAAA", bytes(60)))
    assert made == example().replace(b": ", b":").replace(b", ", b",")
    assert packet.parse(made) == packet.parse(example())


def test_a_packet_says_whose_it_is_without_any_key() -> None:
    keys_found, problems = packets.describe({KEYS + KEY_SERVICE: join_packets([example()])})
    assert problems == ()
    (one,) = keys_found
    assert (one.scheme, one.algorithm, one.recipient) == (
        KEY_SERVICE,
        "Vault Transit",
        "hashivault://app",
    )
    # as it is inside of what Boltseal's key provider wrote under a name of its own
    keys_found, _ = packets.describe({KEYS + "provider.mine": join_packets([example()])})
    assert keys_found[0].recipient == "hashivault://app"


@pytest.mark.parametrize(
    "changes",
    [
        {"boltseal": "kms/2"},
        {"boltseal": None},
        {"key": "hashivault://"},
        {"key": 1},
        {"key": "https://evil.example/"},
        {"key": "awskms:///alias/app"},  # which a packet cannot mean
        {"key": f"awskms:///{ID}"},
        {"key": f"awskms://evil.example/{ARN}"},
        {"key": f"{GOOGLE}/cryptoKeyVersions/1"},
        {"key": "azurekms://ACME.vault.azure.net/app"},
        {"version": "../secrets"},
        {"version": "1" * 65},
        {"version": 1},
        {"ciphertext": ""},
        {"ciphertext": "?"},
        {"sealed": base64.b64encode(bytes(28)).decode()},
        {"sealed": None},
        {"more": "x"},
    ],
)
def test_a_packet_that_is_not_exactly_so_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedError):
        packet.parse(example(**changes))


def test_large_packets_are_refused_by_a_named_limit() -> None:
    with pytest.raises(LimitExceededError, match="limit of 8192 bytes"):
        packet.parse(example(ciphertext=base64.b64encode(bytes(8193)).decode()))
    with pytest.raises(LimitExceededError, match="limit of 65536"):
        packet.parse(example(sealed="A" * 65536))


class Untouchable:
    """A service that must not be asked."""

    def encrypt(self, content_key: bytes) -> Wrapped:
        raise AssertionError

    def decrypt(self, wrapped: Wrapped) -> bytes:
        raise AssertionError


@pytest.mark.parametrize(
    "theirs",
    ["hashivault://other", f"awskms:///{ARN}", GOOGLE, "azurekms://evil.example/app"],
)
def test_what_a_packet_names_is_never_contacted(theirs: str) -> None:
    identity = keys.ServiceIdentity(uri.parse("hashivault://app"), Untouchable())
    with pytest.raises(NotMyKeyError, match="another key"):
        identity.unwrap(KEY_SERVICE, example(key=theirs))


class Answering:
    """A service that answers what it was made with."""

    def __init__(self, wrapped: Wrapped) -> None:
        self.wrapped = wrapped

    def encrypt(self, content_key: bytes) -> Wrapped:
        return self.wrapped

    def decrypt(self, wrapped: Wrapped) -> bytes:
        return b"short"


@pytest.mark.parametrize(("version", "ciphertext"), [("1 2", b"x"), ("1", b""), ("1", bytes(9000))])
def test_an_answer_that_could_not_be_read_again_is_not_written(
    version: str, ciphertext: bytes
) -> None:
    mine = uri.parse("hashivault://app")
    recipient = keys.ServiceRecipient(mine, Answering(Wrapped(mine, version, ciphertext)))
    with pytest.raises(KeyServiceError, match="makes no sense"):
        recipient.seal(b"secret")


def test_a_content_key_of_another_length_opens_nothing() -> None:
    mine = uri.parse("hashivault://app")
    identity = keys.ServiceIdentity(mine, Answering(Wrapped(mine, "1", b"x")))
    with pytest.raises(NotMyKeyError, match="does not open"):
        identity.unwrap(KEY_SERVICE, example())


def test_nothing_secret_in_a_repr() -> None:
    mine = uri.parse("hashivault://app")
    assert "Answering" not in repr(keys.ServiceIdentity(mine, Answering(Wrapped(mine, "", b""))))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_packet_or_an_error(raw: bytes) -> None:
    try:
        packet.parse(raw)
    except IntegrityError:
        pass


@given(
    st.dictionaries(
        st.sampled_from(["boltseal", "key", "version", "ciphertext", "sealed", "x"]),
        st.one_of(st.just("kms/1"), st.text(max_size=40), st.none(), st.integers()),
    )
)
def test_any_object_is_a_packet_or_an_error(document: dict[str, object]) -> None:
    try:
        packet.parse(json.dumps(document).encode())
    except IntegrityError:
        pass


@given(st.text(max_size=60), st.sampled_from(list(uri.NAMES)))
def test_any_uri_reads_the_same_again_or_not_at_all(text: str, service: str) -> None:
    found = uri.read(f"{service}://{text}")
    if found is not None:
        assert uri.read(str(found)) == found
        assert found.canonical.isprintable()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (bytes(32), 0x8A9136AA),  # RFC 3720 appendix B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_crc32c_as_published(data: bytes, expected: int) -> None:
    assert crc32c.crc32c(data) == expected
