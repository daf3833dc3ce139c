"""What somebody who controls a registry can do to lists of recipients and to base images."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from boltseal.keywrap import envelope, keyring
from boltseal.keywrap.options import KeyOptions
from boltseal.keywrap.parse import parse_keyring, parse_recipient
from boltseal.spec.annotations import KEYS
from support.cli import Run, boltseal
from support.images import (
    CONFIG,
    GZIP,
    MANIFEST,
    Layout,
    add_manifest,
    compact,
    config_bytes,
    sha256,
    simple_image,
    tar_bytes,
)
from support.tamper import Sealed, b64

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PEOPLE = ("alice", "bob", "carol")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RSA keys with certificates."""
    folder = tmp_path_factory.mktemp("people")
    for name in PEOPLE:
        run = boltseal("keygen", "-a", "rsa2048", "--certificate", name, folder / f"{name}.pem")
        assert run.code == 0, run.err
    return folder


class Image(Sealed):
    """An image for Bob and others, whose annotations can be added to."""

    def __init__(self, folder: Path, people: Path, *recipients: str) -> None:
        self.layout = Layout.__new__(Layout)
        self.layout.path = folder / "sealed"
        self.people = people
        self.name = self.layout.reference()
        source = simple_image(folder / "plain")
        who = [part for one in recipients for part in ("-r", one.format(p=people))]
        run = boltseal("encrypt", source.reference(), self.name, *who)
        assert run.code == 0, run.err

    def wrap(self, place: int, recipient: str, **options: Any) -> bytes:
        """A packet with the layer's real secret, as Bob could make it."""
        annotations = self.manifest()["layers"][place]["annotations"]
        secret = parse_keyring([f"{self.people}/bob.pem"]).unwrap(annotations).secret
        one = parse_recipient(recipient.format(p=self.people), KeyOptions(**options))
        (packets,) = keyring.wrap([one], secret).values()
        return packets[0]

    def append(self, scheme: str, make: Callable[[int], bytes]) -> None:
        """A further packet for both layers."""
        for place in (0, 1):
            packet = b64(make(place))
            before = self.manifest()["layers"][place]["annotations"].get(KEYS + scheme)
            self.annotate(place, KEYS + scheme, f"{before},{packet}" if before else packet)

    def opens(self, name: str) -> bool:
        run = boltseal("check", self.name, "-k", self.people / f"{name}.pem")
        assert run.code in (0, 3, 4), run
        return run.code == 0

    def remove(self, whom: str) -> Run:
        return boltseal("recipients", "remove", self.name, "-r", whom.format(p=self.people))


BOB, ALICE = "jwe:{p}/bob.pub.pem", "jwe:{p}/alice.pub.pem"


def test_one_who_is_named_and_unnamed(tmp_path: Path, people: Path) -> None:
    image = Image(tmp_path, people, BOB, ALICE)
    image.append("jwe", lambda place: image.wrap(place, ALICE, with_kid=False))
    run = image.remove("{p}/alice.pub.pem")
    assert run.code == 0
    assert "warning: 2 wrapped keys of this image do not tell whose they are" in run.err
    assert image.opens("alice")  # the warning is true
    assert image.remove("{p}/alice.pem").code == 0
    assert not image.opens("alice")
    assert image.opens("bob")


def test_the_same_key_in_two_protocols(tmp_path: Path, people: Path) -> None:
    image = Image(tmp_path, people, BOB, ALICE, "pkcs7:{p}/alice.crt.pem")
    assert image.remove("{p}/alice.pem").code == 0
    assert not image.opens("alice")
    assert image.opens("bob")


def test_a_name_that_lies(tmp_path: Path, people: Path) -> None:
    image = Image(tmp_path, people, BOB)

    def lie(place: int) -> bytes:
        packet = json.loads(image.wrap(place, ALICE, with_kid=False))
        packet["header"] = {"kid": "x" * 43}
        return compact(packet)

    image.append("jwe", lie)
    assert image.opens("alice")
    assert image.remove("{p}/alice.pem").code == 0
    assert not image.opens("alice")
    assert image.opens("bob")


def test_an_envelope_in_an_envelope_is_refused(tmp_path: Path, people: Path) -> None:
    image = Image(tmp_path, people, BOB)

    def nested(place: int) -> bytes:
        inner = envelope.pack({"jwe": [image.wrap(place, "jwe:{p}/carol.pub.pem")] * 2})
        return envelope.pack({"provider.x": [inner], "jwe": [image.wrap(place, ALICE)]})

    image.append("provider.boltseal", nested)
    run = image.remove("{p}/alice.pub.pem")
    assert run.code == 4
    assert "has an envelope in an envelope" in run.err
    assert not image.opens("alice")  # nobody reads it at all


@pytest.mark.parametrize("whom", ["{p}/alice.pub.pem", "{p}/alice.pem"])
def test_a_provider_with_a_long_name(tmp_path: Path, people: Path, whom: str) -> None:
    image = Image(tmp_path, people, BOB)
    image.append(
        "provider." + "a" * 120,
        lambda place: envelope.pack({"jwe": [image.wrap(place, ALICE)] * 2}),
    )
    assert image.opens("alice")
    assert image.remove(whom).code == 0
    assert not image.opens("alice")
    assert image.opens("bob")


def test_one_who_is_unnamed_in_an_envelope(tmp_path: Path, people: Path) -> None:
    image = Image(tmp_path, people, BOB)
    image.append(
        "provider.boltseal",
        lambda place: envelope.pack({"jwe": [image.wrap(place, ALICE, with_kid=False)] * 2}),
    )
    assert image.remove("{p}/alice.pem").code == 0
    assert not image.opens("alice")


def test_a_provider_inside_of_an_envelope(tmp_path: Path, people: Path) -> None:
    image = Image(tmp_path, people, BOB)
    image.append("provider.boltseal", lambda place: envelope.pack({"provider.kms1": [b"x"] * 2}))
    assert image.remove("provider:kms1").code == 0
    assert "kms1" not in boltseal("recipients", "list", image.name).out


def test_two_certificates_that_look_alike(tmp_path: Path, people: Path) -> None:
    """Two authorities of the same common name may give the same number."""
    import datetime as dt

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    made = []
    for country in ("DE", "FR"):
        key = rsa.generate_private_key(65537, 2048)
        issuer = x509.Name(
            [
                x509.NameAttribute(x509.NameOID.COUNTRY_NAME, country),
                x509.NameAttribute(x509.NameOID.COMMON_NAME, "CA"),
            ]
        )
        start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        builder = x509.CertificateBuilder(
            issuer, issuer, key.public_key(), 1, start, start.replace(2036)
        )
        certificate = builder.sign(key, hashes.SHA256())
        file = tmp_path / f"{country}.pem"
        pem = serialization.Encoding.PEM
        file.write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        (tmp_path / f"{country}.crt").write_bytes(certificate.public_bytes(pem))
        made.append(file)
    image = Image(tmp_path, people, BOB, f"pkcs7:{tmp_path}/DE.crt")
    run = boltseal(
        "recipients", "add", image.name, "-r", f"pkcs7:{tmp_path}/FR.crt", "-k", people / "bob.pem"
    )
    assert run.code == 0, run.err
    for file in made:
        assert boltseal("check", image.name, "-k", file).code == 0
    assert image.remove(f"{tmp_path}/DE.crt").code == 0
    assert [boltseal("check", image.name, "-k", file).code for file in made] == [3, 0]


def test_a_name_written_over_junk(tmp_path: Path, people: Path) -> None:
    """Carol is named in the image, and her part is nothing: nobody may believe that she is in."""
    image = Image(tmp_path, people, BOB)

    def junk(place: int) -> bytes:
        packet = json.loads(image.wrap(place, "jwe:{p}/carol.pub.pem"))
        packet["ciphertext"] = "AAAA"
        return compact(packet)

    image.append("jwe", junk)
    who = ("-r", f"jwe:{people}/carol.pub.pem", "-k", people / "bob.pem")
    run = boltseal("recipients", "add", image.name, *who, "-q")
    assert run.code == 0
    assert "is named in the image already and was not added again" in run.err
    assert boltseal("recipients", "set", image.name, *who).code == 0
    assert image.opens("carol")


def test_a_layer_that_was_classical_before(tmp_path: Path, people: Path) -> None:
    """Who recorded the old manifest opens it with a quantum computer, whatever the new one says."""
    image = Image(tmp_path, people, BOB)
    assert boltseal("keygen", tmp_path / "pq.pem", "-a", "xwing").code == 0
    who = ("-r", f"pq:{tmp_path}/pq.pub.pem", "-k", people / "bob.pem")
    for action in ("add", "set"):
        run = boltseal("recipients", action, image.name, *who)
        assert run.code == 2
        assert "would not make it safer" in run.err
    assert boltseal("recipients", "set", image.name, *who, "--allow-classical").code == 0


def test_a_packet_that_only_others_read(tmp_path: Path, people: Path) -> None:
    """Go's base64 passes over line ends, and opens what we refuse."""
    assert boltseal("keygen", tmp_path / "pq.pem", "-a", "xwing").code == 0
    image = Image(tmp_path, people, f"pq:{tmp_path}/pq.pub.pem")
    image.annotate(0, KEYS + "jwe", b64(b'{"x":1}')[:4] + "\n" + b64(b'{"x":1}')[4:])
    assert boltseal("keygen", tmp_path / "new.pem", "-a", "xwing").code == 0
    who = ("-r", f"pq:{tmp_path}/new.pub.pem", "-k", tmp_path / "pq.pem")
    run = boltseal("recipients", "add", image.name, *who)
    assert run.code in (2, 4), run
    assert "cannot be read" in run.err or "not base64" in run.err


@pytest.mark.parametrize("media_type", [f"{GZIP}+Encrypted", f"{GZIP}+ENCRYPTED", GZIP])
def test_check_does_not_pass_over_what_others_may_take_for_encrypted(
    tmp_path: Path, people: Path, media_type: str
) -> None:
    image = Image(tmp_path, people, BOB)
    image.change_layer(1, mediaType=media_type)
    for command in ("check", "verify"):
        run = boltseal(command, image.name, "-k", people / "bob.pem")
        assert run.code == 4, run
        assert "layer 1" in run.err


def test_verify_does_not_excuse_an_encrypted_layer_that_is_elsewhere(
    tmp_path: Path, people: Path
) -> None:
    image = Image(tmp_path, people, BOB)
    kind = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip+encrypted"
    image.change_layer(0, mediaType=kind, urls=["https://elsewhere.example/layer"])
    image.layout.blob_path(image.manifest()["layers"][0]["digest"]).unlink()
    run = boltseal("verify", image.name, "-k", people / "bob.pem")
    assert run.code == 4
    assert "everything is right" not in run.out
    assert "missing" in run.out


@pytest.mark.parametrize("pinned", [False, True])
def test_a_base_that_only_claims_to_have_a_layer(
    tmp_path: Path, people: Path, pinned: bool
) -> None:
    """The diff id of a secret layer is readable for all; its content is not."""
    public, secret = (tar_bytes({name: name.encode() * 400}) for name in ("os", "secret"))
    app = Layout(tmp_path / "app")
    entry = add_manifest(app, [public, secret, tar_bytes({"new": b"n"})], [GZIP] * 3)
    app.tag(entry["mediaType"], entry["digest"], entry["size"])

    base = Layout(tmp_path / "base")
    layers = [base.blob(gzip.compress(public, mtime=0)), base.blob(b"junk that is no tar")]
    config = json.loads(config_bytes([public]))
    config["rootfs"]["diff_ids"].append(sha256(secret))
    digest, size = base.blob(compact(config))
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest, "size": size},
        "layers": [{"mediaType": GZIP, "digest": one[0], "size": one[1]} for one in layers],
    }
    root = base.blob(compact(manifest))
    base.tag(MANIFEST, *root)
    name = f"oci:{base.path}@{root[0]}" if pinned else base.reference()
    who = ("-r", f"jwe:{people}/bob.pub.pem", "--except-base", name)
    run = boltseal("encrypt", app.reference(), f"oci:{tmp_path}/out:v1", *who)
    if pinned:  # whoever pins a base vouches for what it says
        assert run.code == 0
        return
    assert run.code == 4
    assert "is not what its config says" in run.err
    assert not (tmp_path / "out").exists()
