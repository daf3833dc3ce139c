"""What an attacker can do to a layer and its annotations: each ends with 4 (or 3), nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from boltseal.jose import jwe
from boltseal.keywrap.parse import parse_recipient
from support.cli import boltseal
from support.images import compact
from support.tamper import JWE, PUBOPTS, Sealed, b64, b64url, flip

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def sealed(tmp_path: Path, keys: Path) -> Sealed:
    return Sealed(tmp_path, keys)


def refused(sealed: Sealed, message: str, *options: str, codes: tuple[int, ...] = (4,)) -> None:
    """It says what and where, and leaves nothing."""
    run = sealed.decrypt(*options)
    assert run.code in codes, run
    assert message in run.err, run.err
    assert run.out == ""
    assert str(sealed.layout.path) in run.err
    assert run.err.count("error: ") == 1
    assert not sealed.target.exists()
    verified = sealed.verify()  # which looks at the content in any case
    assert verified.code in codes, verified
    assert message.removeprefix("linux/amd64, ").rpartition(": ")[2] in verified.err, verified.err


def test_the_image_opens_when_nothing_was_done_to_it(sealed: Sealed) -> None:
    assert sealed.decrypt("--check-content").code == 0
    assert sealed.verify().code == 0


@pytest.mark.parametrize("position", [0, 57, -1])
def test_one_flipped_bit(sealed: Sealed, position: int) -> None:
    sealed.replace_blob(1, lambda raw: flip(raw, position))
    refused(sealed, "linux/amd64, layer 1: the HMAC over the ciphertext is wrong")


def test_flipped_bit_without_new_digest(sealed: Sealed) -> None:
    path = sealed.layout.blob_path(sealed.manifest()["layers"][0]["digest"])
    path.write_bytes(flip(path.read_bytes(), 9))
    refused(sealed, "layer 0: the blob's digest is sha256:")


@pytest.mark.parametrize("length", [-1, -40, 1, 4096])
def test_truncated_and_lengthened_with_fitting_digest(sealed: Sealed, length: int) -> None:
    sealed.replace_blob(0, lambda raw: raw[:length] if length < 0 else raw + b"x" * length)
    refused(sealed, "layer 0: the HMAC over the ciphertext is wrong")


@pytest.mark.parametrize("length", [-1, 1])
def test_truncated_and_lengthened_on_disk(sealed: Sealed, length: int) -> None:
    path = sealed.layout.blob_path(sealed.manifest()["layers"][1]["digest"])
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] if length < 0 else raw + b"x")
    refused(sealed, "its descriptor states")


@pytest.mark.parametrize("difference", [-1, 1, 10**9])
def test_wrong_size_in_the_descriptor(sealed: Sealed, difference: int) -> None:
    size = sealed.manifest()["layers"][0]["size"]
    sealed.change_layer(0, size=size + difference)
    refused(sealed, "its descriptor states")


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (-1, "no valid size"),
        (1.5, "no valid size"),
        (True, "no valid size"),
        ("7", "no valid size"),
        (1 << 41, "over the limit"),
    ],
)
def test_impossible_size(sealed: Sealed, size: object, message: str) -> None:
    sealed.change_layer(0, size=size)
    refused(sealed, message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hmac": None}, "no HMAC"),
        ({"hmac": ""}, "no HMAC"),
        ({"hmac": b64(b"x" * 31)}, "31 bytes instead of 32"),
        ({"hmac": b64(b"x" * 33)}, "33 bytes instead of 32"),
        ({"hmac": b64(b"x" * 32)}, "the HMAC over the ciphertext is wrong"),
        ({"hmac": "not base64!"}, "not base64"),
        ({"hmac": 7}, "no HMAC"),
        ({"cipheroptions": {"nonce": b64(b"n" * 16)}}, "carry a nonce"),
        ({"cipheroptions": {"other": "x"}}, "carry cipher options"),
        ({"cipheroptions": ["nonce"]}, "carry cipher options"),
        ({"cipher": "AES_256_CBC"}, "cipher 'AES_256_CBC'"),
        ({"cipher": None}, "cipher 'None'"),
        ({"cipher": ["AES_256_CTR_HMAC_SHA256"]}, "is not one that Boltseal knows"),
    ],
)
def test_public_options(sealed: Sealed, options: dict[str, object], message: str) -> None:
    sealed.public_options(0, **options)
    refused(sealed, message)


@pytest.mark.parametrize("key", [PUBOPTS, JWE])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("%%%", "not base64"),
        (b64(b"not json"), "not valid JSON"),
        (b64(b"[]"), "not a JSON object"),
        (b64(b"\xff\xfe{}"), "not UTF-8"),
        (b64(b"[" * 10_000 + b"]" * 10_000), "nested deeper than the limit"),
        (b64(b'{"a":' * 10_000 + b"1" + b"}" * 10_000), "nested deeper than the limit"),
        (b64(b'{"cipher":1,"cipher":2}'), "twice in one object"),
        (b64(b'{"iv":NaN}'), "not valid JSON"),
    ],
)
def test_annotations_that_are_no_json(sealed: Sealed, key: str, value: str, message: str) -> None:
    sealed.annotate(0, key, value)
    refused(sealed, message)


@pytest.mark.parametrize("key", [PUBOPTS, JWE])
def test_annotation_of_ten_megabytes(sealed: Sealed, key: str) -> None:
    sealed.annotate(0, key, "A" * 10_000_000)
    refused(sealed, "over the limit of")


def test_long_annotation_in_a_manifest_of_allowed_size(sealed: Sealed) -> None:
    sealed.annotate(0, JWE, "A" * 1_000_000)
    refused(sealed, "has 1000000 characters, over the limit of")


@pytest.mark.parametrize("key", [PUBOPTS, JWE])
def test_annotation_missing(sealed: Sealed, key: str) -> None:
    sealed.annotate(1, key, None)
    refused(sealed, "no public options" if key == PUBOPTS else "carries no wrapped key")


def test_annotation_that_is_no_string(sealed: Sealed) -> None:
    sealed.rewrite(lambda manifest: manifest["layers"][0]["annotations"].update({"x": 5}))
    refused(sealed, "annotation 'x' of layer 0 is not a string")


def test_too_many_packets(sealed: Sealed) -> None:
    sealed.annotate(0, JWE, ",".join(["e30="] * 300))
    refused(sealed, "has 300 packets, over the limit of 256")


def secret(**changes: object) -> bytes:
    options: dict[str, object] = {
        "symkey": b64(b"k" * 32),
        "digest": "sha256:" + "0" * 64,
        "cipheroptions": {"nonce": b64(b"n" * 16)},
    }
    options.update(changes)
    return compact({key: value for key, value in options.items() if value is not None})


@pytest.mark.parametrize(
    ("private", "message"),
    [
        (secret(symkey=b64(b"k" * 31)), "the key has 31 bytes instead of 32"),
        (secret(symkey=b64(b"k" * 64)), "the key has 64 bytes instead of 32"),
        (secret(symkey=None), "hold no key"),
        (secret(symkey="~~~"), "the key in the private options is not base64"),
        (secret(cipheroptions={}), "hold no nonce"),
        (secret(cipheroptions={"nonce": b64(b"n" * 12)}), "the nonce has 12 bytes instead of 16"),
        (secret(cipheroptions=None), "hold no nonce"),
        (b"not json", "private options are not valid JSON"),
        (b"[1]", "private options are not valid JSON"),
    ],
)
def test_private_options(sealed: Sealed, keys: Path, private: bytes, message: str) -> None:
    recipient = parse_recipient(f"jwe:{keys}/p256.pub.pem")
    sealed.annotate(0, JWE, b64(recipient.wrapper.wrap([recipient], private)[0]))
    refused(sealed, message)


def header(change: Callable[[dict[str, object]], None]) -> Callable[[Sealed], None]:
    """Change the protected header of layer 0's packet."""

    def apply(sealed: Sealed) -> None:
        packet = sealed.packet(0)
        protected = json.loads(_unb64url(packet["protected"]))
        change(protected)
        packet["protected"] = b64url(compact(protected))
        sealed.annotate(0, JWE, b64(compact(packet)))

    return apply


def _unb64url(text: str) -> bytes:
    from boltseal._io.b64 import decode_url

    return decode_url(text, "test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (header(lambda h: h.update(zip="DEF")), "the JWE uses 'zip'"),
        (header(lambda h: h.update(crit=["exp"])), "the JWE uses 'crit'"),
        (header(lambda h: h.update(alg="none")), "no algorithm that is allowed (none)"),
        (header(lambda h: h.update(alg="dir")), "no algorithm that is allowed (dir)"),
        (header(lambda h: h.update(alg="PBES2-HS256+A128KW", p2c=10**9, p2s="eA")), "PBES2-HS256"),
        (header(lambda h: h.update(alg="RSA1_5")), "no algorithm that is allowed (RSA1_5)"),
        (header(lambda h: h.update(alg="ECDH-ES")), "no algorithm that is allowed (ECDH-ES)"),
        (header(lambda h: h.update(enc="A256GCMKW")), "no algorithm that is allowed"),
        (header(lambda h: h.update(enc=None)), "no algorithm that is allowed"),
        (header(lambda h: h.pop("alg")), "no algorithm that is allowed"),
    ],
)
def test_forbidden_jwe_headers(
    sealed: Sealed, change: Callable[[Sealed], None], message: str
) -> None:
    change(sealed)
    refused(sealed, message)


@pytest.mark.parametrize("member", ["iv", "tag", "ciphertext", "encrypted_key"])
def test_changed_jwe_opens_for_nobody(sealed: Sealed, member: str) -> None:
    packet = sealed.packet(0)
    packet[member] = b64url(flip(_unb64url(packet[member])))
    sealed.annotate(0, JWE, b64(compact(packet)))
    refused(sealed, "no key given opens it", codes=(3,))


@pytest.mark.parametrize("member", ["iv", "tag", "ciphertext"])
def test_jwe_member_missing(sealed: Sealed, member: str) -> None:
    packet = sealed.packet(0)
    del packet[member]
    sealed.annotate(0, JWE, b64(compact(packet)))
    refused(sealed, f"the JWE has no {member}")


@pytest.mark.parametrize("count", [0, 1000])
def test_recipient_lists(sealed: Sealed, count: int) -> None:
    packet = sealed.packet(0)
    entry = {"header": {}, "encrypted_key": packet.pop("encrypted_key")}
    packet.pop("header", None)
    packet["recipients"] = [entry] * count
    sealed.annotate(0, JWE, b64(compact(packet)))
    refused(
        sealed, "1000 recipients, over the limit of 100" if count else "recipients are not a list"
    )


def test_header_in_two_places(sealed: Sealed) -> None:
    packet = sealed.packet(0)
    packet["header"] = {**packet.get("header", {}), "enc": "A256GCM"}
    sealed.annotate(0, JWE, b64(compact(packet)))
    refused(sealed, "one header parameter in two places")


def test_garbage_beside_a_good_packet_does_not_lock_the_owner_out(sealed: Sealed) -> None:
    good = sealed.manifest()["layers"][0]["annotations"][JWE]
    sealed.annotate(0, JWE, f"{b64(b'garbage')},{good}")
    assert sealed.decrypt().code == 0


@pytest.mark.parametrize("check", [False, True])
def test_layer_moved_in_from_another_image(
    sealed: Sealed, tmp_path: Path, keys: Path, check: bool
) -> None:
    """Valid in itself, so only the config's diff ids tell: a runtime looks, and we on request."""
    sealed.rewrite(lambda manifest: manifest["layers"].reverse())
    if check:
        refused(sealed, "layer 0: the decompressed layer has the diff id", "--check-content")
    else:
        assert sealed.decrypt().code == 0


def test_a_clear_layer_moved_in_is_found_too(tmp_path: Path, keys: Path) -> None:
    sealed = Sealed(tmp_path, keys)
    plain = sealed.plain.json(sealed.plain.root()["digest"])["layers"][0]
    sealed.layout.blob(sealed.plain.read(plain["digest"]))
    sealed.rewrite(lambda manifest: manifest["layers"].__setitem__(1, plain))
    refused(sealed, "layer 1: the decompressed layer has the diff id", "--check-content")


@pytest.mark.parametrize("count", [1, 3])
def test_other_number_of_layers_than_diff_ids(sealed: Sealed, count: int) -> None:
    def change(manifest: dict[str, list[object]]) -> None:
        manifest["layers"] = (manifest["layers"] * 2)[:count]

    sealed.rewrite(change)
    refused(sealed, f"the manifest has {count} layers and its config has 2 diff ids")


def test_encrypted_layer_of_an_unknown_type(sealed: Sealed) -> None:
    sealed.change_layer(0, mediaType="application/x-unknown+encrypted")
    run = sealed.decrypt()
    assert run.code == 1
    assert "application/x-unknown+encrypted is not known" in run.err
    assert not sealed.target.exists()


def test_plain_layer_that_pretends_to_be_encrypted_already(sealed: Sealed, keys: Path) -> None:
    """The keys of an encrypted layer on a plain one must not make `encrypt` pass it over."""
    kind = "application/vnd.oci.image.layer.v1.tar+gzip"
    sealed.change_layer(0, mediaType=kind)
    target = sealed.folder / "again"
    run = boltseal(
        "encrypt", sealed.layout.reference(), f"oci:{target}:v1", "-r", f"jwe:{keys}/p384.pub.pem"
    )
    assert run.code == 4
    assert "not encrypted but carries annotations of encryption" in run.err
    assert not target.exists()


def test_limits_of_the_parser_are_the_documented_ones() -> None:
    assert jwe.MAX_RECIPIENTS == 100
