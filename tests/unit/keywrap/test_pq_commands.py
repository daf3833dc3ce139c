"""The post-quantum scheme on the command line: the image vector, and no company that is weaker."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from boltseal import encrypt
from boltseal._io import b64
from boltseal.errors import LimitExceededError
from boltseal.keywrap import envelope
from boltseal.keywrap.keyring import wrap
from boltseal.keywrap.parse import parse_keyring, parse_recipient
from boltseal.keywrap.pq.hybrid import PrivateKey
from boltseal.keywrap.pq.keys import HybridRecipient
from boltseal.spec import annotations as names
from support.cli import Run, boltseal, command
from support.images import GZIP, compact, sha256, simple_image

DATA = Path(__file__).parents[2] / "vectors" / "data" / "pq"
IMAGE = f"oci:{DATA}/image:v1"
ALICE = f"pq:{DATA}/alice.pub.pem"
KEY = DATA / "alice.pem"


def classical(data: Path) -> str:
    return f"jwe:{data}/keys/rsa2048.pub.pem"


def manifest(layout: Path) -> dict[str, Any]:
    index = json.loads((layout / "index.json").read_text())
    blob = layout / "blobs" / "sha256" / index["manifests"][0]["digest"][7:]
    found: dict[str, Any] = json.loads(blob.read_text())
    return found


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_the_published_image_opens(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    run = boltseal("decrypt", IMAGE, f"oci:{out}:v1", "-k", DATA / f"{name}.pem", "--check-content")
    assert run.code == 0, run.err
    about = json.loads((DATA / "packets.json").read_text())["image"]
    assert f"{name}.pem" in about["opens_with"]
    layers = manifest(out)["layers"]
    assert [layer["digest"] for layer in layers] == about["layers"]
    root = json.loads((out / "index.json").read_text())["manifests"][0]
    assert root["digest"] == about["manifest"], "what it was before it was encrypted"


def test_the_published_image_does_not_open_with_other_keys(tmp_path: Path, keys: Path) -> None:
    assert boltseal("keygen", "-a", "xwing", tmp_path / "new.pem").code == 0
    out = tmp_path / "out"
    run = boltseal(
        "decrypt", IMAGE, f"oci:{out}", "-k", tmp_path / "new.pem", "-k", keys / "rsa2048.pem"
    )
    assert run.code == 3
    assert "it was wrapped for another key" in run.err
    assert "none of the wrapped keys is of its kind" in run.err
    assert not out.exists()


def test_inspect_names_the_recipients() -> None:
    run = boltseal("inspect", IMAGE, "--json")
    assert run.code == 0
    about = json.loads((DATA / "packets.json").read_text())["keys"]
    for layer in json.loads(run.out)["manifests"][0]["layers"]:
        assert [one["recipient"] for one in layer["keys"]] == [
            about[name]["thumbprint"] for name in ("alice", "bob")
        ]
        assert {one["algorithm"] for one in layer["keys"]} == {"HPKE X-Wing"}
        assert {one["scheme"] for one in layer["keys"]} == {names.QUANTUM_SAFE}


def seal(source: str, out: Path, *arguments: object) -> Run:
    return boltseal("encrypt", source, f"oci:{out}:v1", *arguments)


@pytest.fixture
def source(tmp_path: Path) -> str:
    return simple_image(tmp_path / "source").reference()


def refused(run: Run, out: Path, *words: str) -> None:
    assert run.code == 2
    for one in (*words, "--allow-classical"):
        assert one in run.err
    assert run.out == ""
    assert not out.exists()


@pytest.mark.parametrize("order", [1, -1])
def test_no_layer_is_shared_with_a_weaker_recipient(
    tmp_path: Path, source: str, data: Path, order: int
) -> None:
    out = tmp_path / "out"
    who = [part for one in [ALICE, classical(data)][::order] for part in ("-r", one)]
    refused(seal(source, out, *who), out, "pq X-Wing", "jwe RSA 2048", "the weaker one opens them")
    run = seal(source, out, *who, "--allow-classical")
    assert run.code == 0, run.err
    for key in (KEY, data / "keys/rsa2048.pem"):
        assert (
            boltseal("decrypt", f"oci:{out}:v1", f"oci:{tmp_path}/{key.name}", "-k", key).code == 0
        )


def test_no_weaker_recipient_is_added(tmp_path: Path, source: str, data: Path) -> None:
    strong, out = tmp_path / "strong", tmp_path / "out"
    assert seal(source, strong, "-r", ALICE).code == 0
    more = ("-r", classical(data), "-k", KEY)
    refused(
        seal(f"oci:{strong}:v1", out, *more), out, "layer 0", "withstand quantum", "is not known to"
    )
    assert seal(f"oci:{strong}:v1", out, *more, "--allow-classical").code == 0
    run = boltseal("decrypt", f"oci:{out}:v1", f"oci:{tmp_path}/a", "-k", data / "keys/rsa2048.pem")
    assert run.code == 0, run.err


def test_none_is_added_to_weaker_ones(tmp_path: Path, source: str, data: Path) -> None:
    weak, out = tmp_path / "weak", tmp_path / "out"
    assert seal(source, weak, "-r", classical(data)).code == 0
    more = ("-r", ALICE, "-k", data / "keys/rsa2048.pem")
    refused(
        seal(f"oci:{weak}:v1", out, *more), out, "wrapped by jwe already", "would not make it safer"
    )
    assert seal(f"oci:{weak}:v1", out, *more, "--allow-classical").code == 0
    assert boltseal("decrypt", f"oci:{out}:v1", f"oci:{tmp_path}/a", "-k", KEY).code == 0


def test_equals_are_added(tmp_path: Path, source: str) -> None:
    strong, out = tmp_path / "strong", tmp_path / "out"
    assert seal(source, strong, "-r", ALICE).code == 0
    bob = f"pq:{DATA}/bob.pub.pem"
    run = seal(f"oci:{strong}:v1", out, "-r", bob, "-k", KEY)
    assert run.code == 0, run.err
    for name in ("alice", "bob"):
        run = boltseal(
            "decrypt", f"oci:{out}:v1", f"oci:{tmp_path}/{name}", "-k", DATA / f"{name}.pem"
        )
        assert run.code == 0, run.err


def through_a_provider(layout: Path, scheme: str, recipient: str) -> None:
    """Wrap every layer's key anew, as our key provider does for other tools."""
    document = manifest(layout)
    ring = parse_keyring([KEY])
    for layer in document["layers"]:
        annotations = layer["annotations"]
        secret = ring.unwrap(annotations).secret
        del annotations[names.KEYS + names.QUANTUM_SAFE]
        packed = envelope.pack(wrap([parse_recipient(recipient)], secret))
        annotations[names.KEYS + scheme] = names.join_packets([packed])
    raw = compact(document)
    (layout / "blobs" / "sha256" / sha256(raw)[7:]).write_bytes(raw)
    index = json.loads((layout / "index.json").read_text())
    index["manifests"][0] |= {"digest": sha256(raw), "size": len(raw)}
    (layout / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("scheme", ["provider.acme", names.QUANTUM_SAFE])
def test_what_a_provider_wrapped_counts_by_what_is_in_it(
    tmp_path: Path, source: str, data: Path, scheme: str
) -> None:
    for name, recipient, key in (
        ("strong", ALICE, KEY),
        ("weak", classical(data), data / "keys/rsa2048.pem"),
    ):
        layout, out = tmp_path / name, tmp_path / "out"
        assert seal(source, layout, "-r", ALICE).code == 0
        through_a_provider(layout, scheme, recipient)
        image = f"oci:{layout}:v1"
        run = boltseal("decrypt", image, f"oci:{tmp_path}/plain-{name}", "-k", key)
        assert run.code == 0, run.err
        other = classical(data) if name == "strong" else ALICE
        refused(seal(image, out, "-r", other, "-k", key), out)
        run = seal(image, tmp_path / f"more-{name}", "-r", recipient, "-k", key)
        assert run.code == 0, run.err


def test_a_key_provider_of_the_schemes_own_name(
    tmp_path: Path,
) -> None:
    """Other tools reach the keys through it; what it wraps opens without it, and the other way."""
    which = ("--name", "boltseal-pq", "-k", KEY, "-r", ALICE)
    question = {
        "op": "keywrap",
        "keywrapparams": {
            "ec": {"Parameters": {"boltseal-pq": [b64.encode(b"Enabled")]}},
            "optsdata": b64.encode(b'{"symkey":"AAAA"}'),
        },
    }
    answer = subprocess.run(
        command("keyprovider", "exec", *which),
        input=json.dumps(question).encode(),
        capture_output=True,
        check=True,
    )
    packet = base64.b64decode(json.loads(answer.stdout)["keywrapresults"]["annotation"])
    annotations = {names.KEYS + names.QUANTUM_SAFE: names.join_packets([packet])}
    assert parse_keyring([KEY]).unwrap(annotations).secret == b'{"symkey":"AAAA"}'

    printed = boltseal("keyprovider", "print-config", *which)
    assert printed.code == 0, printed.err
    config = json.loads(printed.out)
    found = config["key-providers"]["boltseal-pq"]["cmd"]
    found |= {"path": sys.executable, "args": ["-m", "boltseal", *found["args"]]}
    (tmp_path / "providers.json").write_text(json.dumps(config))
    sealed = tmp_path / "sealed"
    assert (
        seal(simple_image(tmp_path / "source", (GZIP,)).reference(), sealed, "-r", ALICE).code == 0
    )
    asked = ("-k", "provider:boltseal-pq", "--keyprovider-config", tmp_path / "providers.json")
    run = boltseal("decrypt", f"oci:{sealed}:v1", f"oci:{tmp_path}/plain", *asked)
    assert run.code == 0, run.err


def test_more_recipients_than_a_reader_takes(tmp_path: Path, source: str) -> None:
    """Nothing is written that Boltseal itself would refuse to read."""
    who = [HybridRecipient(PrivateKey(n.to_bytes(32)).public_key()) for n in range(220)]
    with pytest.raises(LimitExceededError, match="over the limit of 524288"):
        encrypt(source, f"oci:{tmp_path}/many:v1", who)
    assert not (tmp_path / "many").exists()
    encrypt(source, f"oci:{tmp_path}/some:v1", who[:200])
    assert boltseal("inspect", f"oci:{tmp_path}/some:v1").code == 0
