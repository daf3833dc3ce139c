"""PKCS#11 against SoftHSM, and what skopeo makes of it."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from boltseal import KeyOptions, parse_identity, parse_recipient
from boltseal.errors import BoltsealError, KeyFileError, KeyServiceError
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.pkcs11 import packet
from support.cli import boltseal
from support.peers import require, skopeo
from support.softhsm import PIN, SoftHsm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRET = b"{" + b"x" * 190 + b"}"  # as long as a layer's
TOKEN = "boltseal test"
NAMED = "token=boltseal%20test"
BITS = (2048, 3072, 4096)


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory, data: Path) -> SoftHsm:
    found = SoftHsm(tmp_path_factory.mktemp("hsm"))
    found.init(TOKEN)
    for number, bits in enumerate(BITS, 1):
        found.add(TOKEN, data / "keys" / f"rsa{bits}.pem", f"rsa{bits}", number)
        found.yaml(f"{bits}.yaml", f"{NAMED};object=rsa{bits};id=%0{number}")
    return found


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    gc.collect()  # identities that failed live on in their exceptions
    mine = str(os.getpid())
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            line = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        assert parent != mine or b"pkcs11._worker" not in line


def unwrap(argument: str, wrapped: bytes, options: KeyOptions | None = None) -> bytes:
    identity = parse_identity(argument, options)
    return identity.unwrap("pkcs11", wrapped)


def wrapped_for(argument: str, options: KeyOptions | None = None) -> bytes:
    recipient = parse_recipient(argument, options)
    (found,) = recipient.wrapper.wrap([recipient], SECRET)
    return found


@pytest.mark.parametrize("bits", BITS)
def test_every_size_through_the_token(hsm: SoftHsm, data: Path, bits: int) -> None:
    key = str(hsm.folder / f"{bits}.yaml")
    by_token = wrapped_for(f"pkcs11:{key}")
    by_file = wrapped_for(f"pkcs11:{data}/keys/rsa{bits}.pub.pem")
    assert unwrap(key, by_token) == unwrap(key, by_file) == SECRET
    assert packet.parse(by_token)[0].kid == packet.parse(by_file)[0].kid
    assert [one.hash for one in packet.parse(by_token)] == ["sha1"]


@pytest.mark.parametrize("image", ["pkcs11-pub", "pkcs11-yaml"])
def test_vectors_open(hsm: SoftHsm, data: Path, tmp_path: Path, image: str) -> None:
    key, out = hsm.folder / "2048.yaml", tmp_path / "out"
    source = f"oci:{data}/images/{image}"
    run = boltseal("decrypt", source, f"oci:{out}", "-k", key, "--check-content")
    assert run.code == 0, run.err
    (entry,) = json.loads((out / "index.json").read_bytes())["manifests"]
    raw = (out / "blobs" / "sha256" / entry["digest"].partition(":")[2]).read_bytes()
    assert hashlib.sha256(raw).hexdigest() == entry["digest"].partition(":")[2]
    assert not [one for one in json.loads(raw)["layers"] if "encrypted" in one["mediaType"]]


def test_an_image_there_and_back(hsm: SoftHsm, data: Path, tmp_path: Path) -> None:
    plain, sealed, out = (f"oci:{data}/source/plain", f"oci:{tmp_path}/a", f"oci:{tmp_path}/b")
    key = hsm.yaml("source.yaml", f"{NAMED};object=rsa3072", "")
    pin = hsm.folder / "pin.txt"
    pin.write_text(f"{PIN}\n")
    recipients = ["-r", f"pkcs11:{key}", "-r", f"pkcs11:{data}/keys/rsa2048.pub.pem"]
    assert boltseal("encrypt", plain, sealed, *recipients).code == 0
    shown = json.loads(boltseal("inspect", sealed, "--json").out)
    for layer in shown["manifests"][0]["layers"]:
        assert len(layer["keys"]) == 2
        assert all(len(one["recipient"]) == 43 for one in layer["keys"])
    run = boltseal("decrypt", sealed, out, "-k", f"{key}:file={pin}", "--check-content")
    assert run.code == 0, run.err
    before, after = (boltseal("digest", one).out for one in (plain, out))
    assert before == after


def test_every_way_to_give_the_pin(hsm: SoftHsm, tmp_path: Path, data: Path) -> None:
    wrapped = wrapped_for(f"pkcs11:{data}/keys/rsa2048.pub.pem")
    key = str(hsm.yaml("asked.yaml", f"{NAMED};object=rsa2048", ""))
    pin = tmp_path / "pin"
    pin.write_text(f"{PIN}\n")
    read, write = os.pipe()
    os.write(write, PIN.encode())
    os.close(write)
    for how in (f"file={pin}", f"pass={PIN}", f"fd={read}", PIN):
        assert unwrap(f"{key}:{how}", wrapped) == SECRET
    os.close(read)
    in_variable = KeyOptions(environment={"P": PIN})
    assert unwrap(f"{key}:env=P", wrapped, in_variable) == SECRET
    asked: list[str] = []

    def ask(what: str) -> bytes:
        asked.append(what)
        return PIN.encode()

    asking = KeyOptions(ask=ask)
    identity = parse_identity(key, asking)
    assert asked == []  # the token is not looked at, and nobody is asked, before it is needed
    assert identity.unwrap("pkcs11", wrapped) == identity.unwrap("pkcs11", wrapped) == SECRET
    assert len(asked) == 1
    assert unwrap(f"pkcs11:{key}", wrapped, asking) == SECRET
    for source in (f"file:{pin}", f"file://{pin}", f"{pin}"):
        named = str(hsm.yaml("file.yaml", f"{NAMED};object=rsa2048", f"&pin-source={source}"))
        assert unwrap(named, wrapped) == SECRET
    # what is named on the command line goes before the URI
    with pytest.raises(KeyServiceError, match="the PIN is wrong"):
        unwrap(f"{hsm.folder}/2048.yaml:pass=9999", wrapped)


def test_a_uri_on_the_command_line(hsm: SoftHsm, data: Path) -> None:
    options = KeyOptions(environment=hsm.environment)
    uri = f"pkcs11:{NAMED};id=%02?module-name=softhsm2"
    wrapped = wrapped_for(uri, options)
    identity = parse_identity(f"{uri}&pin-value={PIN}", options)
    assert identity.unwrap("pkcs11", wrapped) == SECRET
    assert identity.describe() == "pkcs11 (PKCS#11, token boltseal test, id 02)"
    assert PIN not in repr(identity)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (f"{NAMED};object=nothing", "object nothing): the token has no such RSA key"),
        (f"{NAMED}", "several keys of the token are like that"),
        (f"{NAMED};object=elliptic", "the key is not an RSA key"),
        (f"{NAMED};object=signer", "may not be used to decrypt"),
        ("token=nowhere;object=rsa2048", "there is no such token (there is: boltseal test)"),
        (f"{NAMED};serial=0000;object=rsa2048", "there is no such token"),
        ("slot-id=77;object=rsa2048", "there is no such token"),
    ],
)
def test_keys_that_are_not_found(hsm: SoftHsm, data: Path, attributes: str, message: str) -> None:
    if not (hsm.folder / "more").exists():
        hsm.script(
            TOKEN,
            "session.create_domain_parameters(KeyType.EC, {Attribute.EC_PARAMS:"
            "pkcs11.util.ec.encode_named_curve_parameters('secp256r1')}, local=True)"
            ".generate_keypair(store=True, label='elliptic')\n"
            "session.generate_keypair(KeyType.RSA, 2048, store=True, label='signer',"
            "capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY)\n",
        )
        (hsm.folder / "more").touch()
    wrapped = wrapped_for(f"pkcs11:{data}/keys/rsa2048.pub.pem")
    with pytest.raises(KeyServiceError) as caught:
        unwrap(str(hsm.yaml("other.yaml", attributes)), wrapped)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_tokens_of_one_name(tmp_path: Path, data: Path) -> None:
    two = SoftHsm(tmp_path)
    two.init("same")
    two.init("same")
    wrapped = wrapped_for(f"pkcs11:{data}/keys/rsa2048.pub.pem")
    with pytest.raises(KeyServiceError, match="several tokens are like that"):
        unwrap(str(two.yaml("key.yaml", "token=same;object=any")), wrapped)


def test_a_certificate_in_the_token(hsm: SoftHsm, data: Path, tmp_path: Path) -> None:
    hsm.init("certified")
    der = tmp_path / "crt.der"
    crt = f"{data}/keys/rsa3072.crt.pem"
    subprocess.run(
        [require("openssl"), "x509", "-in", crt, "-outform", "DER", "-out", der], check=True
    )
    hsm.script(
        "certified",
        "from pkcs11.util.x509 import decode_x509_certificate\n"
        "found = decode_x509_certificate(open(sys.argv[1], 'rb').read())\n"
        "session.create_object({**found, Attribute.TOKEN: True, Attribute.LABEL: 'crt'})\n",
        str(der),
    )
    key = hsm.yaml("crt.yaml", "token=certified;object=crt;type=cert", "")
    assert unwrap(f"{hsm.folder}/3072.yaml", wrapped_for(f"pkcs11:{key}")) == SECRET


def test_a_private_key_is_recipient_enough(hsm: SoftHsm, data: Path) -> None:
    hsm.init("private only")
    hsm.add("private only", data / "keys" / "rsa3072.pem", "p", 1)
    hsm.script("private only", "session.get_key(ObjectClass.PUBLIC_KEY, label='p').destroy()\n")
    key = str(hsm.yaml("private.yaml", "token=private%20only;object=p"))
    assert unwrap(key, wrapped_for(f"pkcs11:{key}")) == SECRET
    with pytest.raises(KeyServiceError, match="no such RSA key"):
        parse_recipient(f"pkcs11:{hsm.yaml('no-pin.yaml', 'token=private%20only', '')}")


def test_a_packet_of_many(hsm: SoftHsm, data: Path) -> None:
    """Ours is found by its name or by trying; without one of ours it is nobody's."""
    names = ("rsa2048", "rsa3072", "rsa4096")
    recipients = [parse_recipient(f"pkcs11:{data}/keys/{one}.pub.pem") for one in names]
    (wrapped,) = recipients[0].wrapper.wrap(recipients, SECRET)
    assert len(packet.parse(wrapped)) == 3
    for bits in BITS:
        assert unwrap(f"{hsm.folder}/{bits}.yaml", wrapped) == SECRET
    document = json.loads(wrapped)
    for one in document["recipients"]:
        del one["kid"], one["hash"]  # as old writers left it
    assert unwrap(f"{hsm.folder}/3072.yaml", json.dumps(document).encode()) == SECRET
    document["recipients"] = [
        {"version": 0, "blob": document["recipients"][0]["blob"], "hash": "sha1"}
    ]
    with pytest.raises(NotMyKeyError, match="no recipient has an RSA key of 3072 bits"):
        unwrap(f"{hsm.folder}/3072.yaml", json.dumps(document).encode())


def test_a_blob_for_another_key_of_the_same_size(hsm: SoftHsm, keys: Path) -> None:
    wrapped = wrapped_for(f"pkcs11:{keys}/rsa2048.pub.pem")
    with pytest.raises(NotMyKeyError, match="wrapped for another key"):
        unwrap(f"{hsm.folder}/2048.yaml", wrapped)


def test_sha256_is_more_than_this_token_can(hsm: SoftHsm, data: Path, tmp_path: Path) -> None:
    """SoftHSM does OAEP with SHA-1 alone: one line says so."""
    sealed, key = f"oci:{tmp_path}/sealed", f"{hsm.folder}/3072.yaml"
    plain = f"oci:{data}/source/plain"
    run = boltseal("encrypt", plain, sealed, "-r", f"pkcs11:{key}", "--oaep-hash", "sha256")
    assert run.code == 0, run.err
    run = boltseal("decrypt", sealed, f"oci:{tmp_path}/out", "-k", key)
    assert run.code == 1
    assert "the token cannot do RSA-OAEP with SHA-256" in run.err.splitlines()[0]
    assert "hint:  encrypt for it with --oaep-hash sha1" in run.err
    assert not (tmp_path / "out").exists()


def test_the_wrong_pin_is_tried_once(hsm: SoftHsm, data: Path, tmp_path: Path) -> None:
    key = hsm.yaml("wrong.yaml", f"{NAMED};object=rsa2048", "&pin-value=99998888")
    run = boltseal("decrypt", f"oci:{data}/images/pkcs11-yaml", f"oci:{tmp_path}/out", "-k", key)
    assert run.code == 1
    assert "the PIN is wrong" in run.err.splitlines()[0]
    assert "99998888" not in run.err
    assert list(tmp_path.iterdir()) == []


def test_a_token_that_is_gone(tmp_path: Path, data: Path) -> None:
    hsm = SoftHsm(tmp_path)
    hsm.init("short")
    hsm.add("short", data / "keys" / "rsa2048.pem", "k", 1)
    identity = parse_identity(str(hsm.yaml("key.yaml", "token=short;object=k")))
    wrapped = wrapped_for(f"pkcs11:{data}/keys/rsa2048.pub.pem")
    assert identity.unwrap("pkcs11", wrapped) == SECRET
    shutil.rmtree(tmp_path / "tokens")
    for message in ("the token was removed or reset", "cannot be loaded or started"):
        with pytest.raises(KeyServiceError, match=message):
            identity.unwrap("pkcs11", wrapped)


@pytest.mark.parametrize("make", [parse_recipient, parse_identity])
def test_modules(hsm: SoftHsm, tmp_path: Path, make: Callable[..., object]) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("pkcs11:\n  allowed-module-paths:\n    - /opt/vendor/\n")
    foreign = tmp_path / "module.so"
    foreign.write_bytes(b"\x7fELF")

    def refused(query: str, policy: str | None = None) -> BoltsealError:
        path = tmp_path / "key.yaml"
        path.write_text(f"pkcs11: {{uri: 'pkcs11:{NAMED};object=rsa2048?{query}'}}\n")
        options = KeyOptions(module_policy=policy)
        with pytest.raises(BoltsealError) as caught:
            make(f"pkcs11:{path}", options)
        return caught.value

    error = refused("module-path=/usr/lib/softhsm/missing.so")
    assert str(error).startswith("the PKCS#11 module /usr/lib/softhsm/missing.so does not exist")
    error = refused(f"module-path={foreign}")
    assert f"{foreign} may not be loaded: the built-in policy does not allow it" in str(error)
    error = refused(f"module-path={hsm.module}", str(policy))
    assert f"{hsm.module} may not be loaded: {policy} does not allow it" in str(error)
    assert "there is no PKCS#11 module nothing in " in str(refused("module-name=nothing"))
    assert "does not say which module" in str(refused("pin-value=1"))
    assert "does not exist" in str(refused(f"module-path={hsm.module}", f"{tmp_path}/no"))


def test_what_is_no_module(hsm: SoftHsm, tmp_path: Path) -> None:
    module = tmp_path / "module.so"
    module.write_bytes(b"\x7fELF and no more")
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"pkcs11:\n  allowed-module-paths: [{tmp_path}/]\n")
    options = KeyOptions(module_policy=str(policy))
    with pytest.raises(KeyServiceError, match="cannot be loaded or started: OS exc"):
        parse_recipient(f"pkcs11:token=x?module-path={module}", options)


def test_a_folder_of_keys(hsm: SoftHsm, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "hsm.yaml").write_text((hsm.folder / "2048.yaml").read_text())
    (folder / "broken.yaml").write_text("pkcs11:\n  uri: pkcs11:token=a;token=b\n")
    source = f"oci:{data}/images/pkcs11-pub"
    run = boltseal("decrypt", source, f"oci:{tmp_path}/out", "-k", folder)
    assert run.code == 0, run.err


# Debian's skopeo is built without PKCS#11. These say so, and tell when it changes.


def test_skopeo_cannot_open(hsm: SoftHsm, data: Path, tmp_path: Path) -> None:
    key = f"{hsm.folder}/2048.yaml"
    sealed = f"oci:{tmp_path}/sealed"
    assert boltseal("encrypt", f"oci:{data}/source/plain", sealed, "-r", f"pkcs11:{key}").code == 0
    done = skopeo("copy", "--decryption-key", key, sealed, f"oci:{tmp_path}/out", check=False)
    assert done.returncode != 0
    assert "missing private key needed for decryption" in done.stderr


def test_skopeo_cannot_encrypt(hsm: SoftHsm, data: Path, tmp_path: Path) -> None:
    source, target = f"oci:{data}/source/plain", f"oci:{tmp_path}/sealed"
    who = f"pkcs11:{data}/keys/rsa2048.pub.pem"
    done = skopeo("copy", "--encryption-key", who, source, target, check=False)
    assert done.returncode != 0
    assert "Provided protocol not recognized" in done.stderr


def test_what_a_recipient_must_be(hsm: SoftHsm, data: Path) -> None:
    with pytest.raises(KeyFileError, match="PKCS#11 needs an RSA key"):
        parse_recipient(f"pkcs11:{data}/keys/ec-prime256v1.pub.pem")
    with pytest.raises(KeyFileError, match="holds a private key"):
        parse_recipient(f"pkcs11:{data}/keys/rsa2048.pem")
    with pytest.raises(KeyFileError, match="190 bytes with SHA-256, and a layer's key takes 192"):
        parse_recipient(f"pkcs11:{hsm.folder}/2048.yaml", KeyOptions(oaep_hash="sha256"))
