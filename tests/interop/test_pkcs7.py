"""PKCS#7 with the real programs: skopeo 1.9.3, Buildah 1.28 and OpenSSL."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from boltseal._io import der
from boltseal.keywrap.pkcs7 import packet
from boltseal.keywrap.pkcs7.keys import Pkcs7Identity
from boltseal.spec import annotations as names
from support.certificates import RECIPIENT, Issued, issue, named, private_key
from support.cli import boltseal
from support.images import GZIP, TAR, ZSTD, simple_image
from support.peers import require, run, skopeo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.images import Layout

# names and numbers whose DER is of several kinds and lengths
PEOPLE: dict[str, Issued] = {
    "alice": issue("alice", private_key("rsa2048", 0), extensions=RECIPIENT),
    "bob": issue(
        named("bob", COUNTRY_NAME="DE", ORGANIZATION_NAME="Grün & Söhne" * 5),
        private_key("rsa2048", 1),
        serial=0x80,
    ),
    "carol": issue("carol", private_key("rsa3072"), extensions=RECIPIENT, serial=(1 << 159) - 1),
}
WORDS = "no suitable key unwrapper found or none of the private keys could be used for decryption"
NO_KEY = "missing private key needed for decryption"  # the file begins with the certificate


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A folder with NAME.crt.pem, NAME.pem, and both in NAME.both.pem."""
    folder = tmp_path / "people"
    folder.mkdir()
    for name, one in PEOPLE.items():
        one.write(folder, name)
        (folder / f"{name}.both.pem").write_bytes(one.pem() + one.key_pem())
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Layout:
    return simple_image(tmp_path / "source", (TAR, GZIP, ZSTD))


def seal(source: Layout, sealed: Path, people: Path, *who: str) -> str:
    arguments = [part for one in who for part in ("-r", f"pkcs7:{people}/{one}.crt.pem")]
    done = boltseal("encrypt", source.reference(), f"oci:{sealed}:v1", *arguments)
    assert done.code == 0, done.err
    return f"oci:{sealed}:v1"


def two(people: Path, name: str) -> list[str]:
    """The two options that peers want."""
    files = (f"{people}/{name}.pem", f"{people}/{name}.crt.pem")
    return [part for file in files for part in ("--decryption-key", file)]


def matches_its_diff_ids(reference: str) -> bool:
    """Every layer is what the configuration says."""
    with tempfile.TemporaryDirectory() as folder:
        run(require("skopeo"), "--insecure-policy", "copy", "--dest-decompress", reference,
            f"dir:{folder}/out")  # fmt: skip
        manifest = json.loads((Path(folder) / "out" / "manifest.json").read_text())
        config = json.loads(
            (Path(folder) / "out" / manifest["config"]["digest"].partition(":")[2]).read_text()
        )
        layers = manifest["layers"]
        assert not [layer for layer in layers if "encrypted" in layer["mediaType"]]
        return bool(config["rootfs"]["diff_ids"] == [layer["digest"] for layer in layers])


@pytest.mark.parametrize("who", [("alice",), ("bob",), ("carol",), ("carol", "alice", "bob")])
def test_skopeo_opens_ours(
    tmp_path: Path, people: Path, source: Layout, who: tuple[str, ...]
) -> None:
    sealed = seal(source, tmp_path / "sealed", people, *who)
    for name in who:
        out = f"oci:{tmp_path}/out-{name}:v1"
        skopeo("copy", *two(people, name), sealed, out)
        assert matches_its_diff_ids(out)


def test_skopeo_wants_the_certificate_and_we_do_not(
    tmp_path: Path, people: Path, source: Layout
) -> None:
    sealed = seal(source, tmp_path / "sealed", people, "alice")
    for key, words in (("alice.pem", WORDS), ("alice.both.pem", NO_KEY)):
        refused = skopeo(
            "copy", "--decryption-key", people / key, sealed, f"oci:{tmp_path}/no:v1", check=False
        )
        assert refused.returncode != 0
        assert words in refused.stderr
        done = boltseal("decrypt", sealed, f"oci:{tmp_path}/{key}:v1", "-k", people / key)
        assert done.code == 0, done.err
    refused = skopeo("copy", *two(people, "bob"), sealed, f"oci:{tmp_path}/no:v1", check=False)
    assert WORDS in refused.stderr


WAYS = {
    "the key": ["-k", "{}.pem"],
    "key and certificate": ["-k", "{}.pem", "-k", "{}.crt.pem"],
    "certificate and key": ["-k", "{}.crt.pem", "-k", "{}.pem"],
    "both in one file": ["-k", "{}.both.pem"],
}


def ways(people: Path, name: str) -> Iterator[list[str]]:
    for arguments in WAYS.values():
        yield [one.format(people / name) for one in arguments]


@pytest.mark.parametrize("who", [("alice",), ("bob", "carol", "alice")])
def test_we_open_skopeos(
    tmp_path: Path, people: Path, source: Layout, who: tuple[str, ...]
) -> None:
    sealed = f"oci:{tmp_path}/sealed:v1"
    recipients = [
        part for one in who for part in ("--encryption-key", f"pkcs7:{people}/{one}.crt.pem")
    ]
    skopeo("copy", *recipients, source.reference(), sealed)
    for name in who:
        for number, arguments in enumerate(ways(people, name)):
            out = f"oci:{tmp_path}/{name}-{number}:v1"
            done = boltseal("decrypt", sealed, out, *arguments, "--check-content")
            assert done.code == 0, done.err
        assert matches_its_diff_ids(out)
    done = boltseal("decrypt", sealed, f"oci:{tmp_path}/no:v1", "-k", private_pem(tmp_path))
    assert done.code == 3
    assert "wrapped for another certificate's key" in done.err


def private_pem(folder: Path) -> Path:
    path = folder / "stranger.pem"
    path.write_bytes(issue("stranger", private_key("rsa2048", 3)).key_pem())
    return path


def sealed_packet(layout: Path) -> bytes:
    """The PKCS#7 packet of the first layer."""
    index = json.loads((layout / "index.json").read_text())
    digest = index["manifests"][0]["digest"].partition(":")[2]
    manifest = json.loads((layout / "blobs" / "sha256" / digest).read_text())
    values = names.schemes(manifest["layers"][0]["annotations"])
    return names.split_packets("pkcs7", values["pkcs7"])[0]


@pytest.mark.parametrize("image", ["skopeo 1.9.3", "pkcs7", "pkcs7-multi"])
def test_ours_has_the_form_of_theirs(
    tmp_path: Path, people: Path, source: Layout, data: Path, image: str
) -> None:
    """Written anew from what is in it, a packet of theirs is the same, byte for byte."""
    if image == "skopeo 1.9.3":
        layout = tmp_path / "sealed"
        who = ("--encryption-key", f"pkcs7:{people}/carol.crt.pem")
        skopeo("copy", *who, source.reference(), f"oci:{layout}:v1")
    else:
        layout = data / "images" / image
    theirs = sealed_packet(layout)
    parsed = packet.parse(theirs)
    assert (parsed.mode, parsed.key_bytes) == ("gcm", 16)
    ours = packet.build(parsed.recipients, parsed.iv, parsed.content)
    if image == "skopeo 1.9.3":  # its content is constructed: the old form, which we only read
        primitive, octets = der.encode(0x80, parsed.content), der.encode(4, parsed.content)
        assert theirs.endswith(der.encode(0xA0, octets))
        assert ours.endswith(primitive)
        assert packet.parse(ours) == parsed
    else:
        assert ours == theirs


@pytest.fixture
def buildah() -> Iterator[list[str]]:
    """Buildah with a store of its own, under a short name."""
    folder = Path(tempfile.mkdtemp(prefix="bs", dir="/tmp"))
    (folder / "policy.json").write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
    try:
        yield [
            require("buildah"), "--root", f"{folder}/store", "--runroot", f"{folder}/run",
            "--storage-driver", "vfs", str(folder / "policy.json"),
        ]  # fmt: skip
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def with_buildah(buildah: list[str], command: str, *arguments: object, check: bool = True) -> Any:
    *program, policy = buildah
    return run(*program, command, "--signature-policy", policy, *map(str, arguments), check=check)


def test_buildah_opens_ours_and_we_open_its(
    tmp_path: Path, people: Path, source: Layout, buildah: list[str]
) -> None:
    sealed = seal(source, tmp_path / "sealed", people, "alice", "bob")
    alone = with_buildah(
        buildah, "pull", "--decryption-key", people / "alice.pem", sealed, check=False
    )
    assert alone.returncode != 0
    assert WORDS in alone.stderr
    image = with_buildah(buildah, "pull", *two(people, "bob"), sealed).stdout.split()[-1]
    again = f"oci:{tmp_path}/again:v1"
    who = ("alice", "carol")
    recipients = [
        part for one in who for part in ("--encryption-key", f"pkcs7:{people}/{one}.crt.pem")
    ]
    with_buildah(buildah, "push", *recipients, image, again)
    for name in who:
        out = f"oci:{tmp_path}/out-{name}:v1"
        done = boltseal("decrypt", again, out, "-k", people / f"{name}.pem", "--check-content")
        assert done.code == 0, done.err
        assert matches_its_diff_ids(out)


@pytest.mark.parametrize("cipher", ["aes-128-cbc", "aes-256-cbc"])
def test_we_open_what_openssl_wrote(tmp_path: Path, people: Path, cipher: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b'{"symkey":"' + b"A" * 44 + b'"}')
    run(require("openssl"), "cms", "-encrypt", f"-{cipher}", "-binary", "-outform", "DER",
        "-in", secret, "-out", tmp_path / "packet", people / "carol.crt.pem",
        people / "alice.crt.pem")  # fmt: skip
    data = (tmp_path / "packet").read_bytes()
    for name in ("alice", "carol"):
        assert Pkcs7Identity(PEOPLE[name].key).unwrap("pkcs7", data) == secret.read_bytes()
    assert len(packet.parse(data).recipients) == 2
