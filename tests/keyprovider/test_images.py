"""Whole images through key providers: names that changed, several providers, other keys beside."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from boltseal.spec import annotations as names
from support.cli import boltseal
from support.images import simple_image
from support.providers import configuration

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an image and two providers, acme and best, with keys of their own."""
    simple_image(tmp_path / "app")
    for name in ("acme", "best"):
        (tmp_path / f"{name}.key").write_bytes(os.urandom(32))
    configure(tmp_path, acme="acme.key", best="best.key")
    monkeypatch.setenv("OCICRYPT_KEYPROVIDER_CONFIG", str(tmp_path / "c.json"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configure(folder: Path, **keys: str) -> None:
    """Providers by name, each with the file of its key; all of them write down what they read."""
    ways: dict[str, Any] = {
        name: ["aes", f"{folder}/{key}", "numbers", f"{folder}/{name}.log"]
        for name, key in keys.items()
    }
    configuration(folder / "c.json", **ways)


def run(*arguments: object, code: int = 0) -> str:
    done = boltseal(*arguments)
    assert done.code == code, done.err
    return done.out + done.err


def test_there_and_back(place: Path) -> None:
    plain = run("digest", "oci:app:v1")
    run("encrypt", "oci:app:v1", "oci:sealed:v1", "-r", "provider:acme")
    assert "provider.acme" in run("inspect", "oci:sealed:v1")
    run("decrypt", "oci:sealed:v1", "oci:opened:v1", "-k", "provider:acme:x")
    assert run("digest", "oci:opened:v1") == plain


def test_a_provider_that_was_renamed(place: Path) -> None:
    run("encrypt", "oci:app:v1", "oci:sealed:v1", "-r", "provider:acme")
    configure(place, new="acme.key", best="best.key")
    arguments = ("decrypt", "oci:sealed:v1", "oci:opened:v1", "-k", "provider:new")
    said = run(*arguments, code=3)
    assert "none of the wrapped keys is of its kind" in said
    run(*arguments, "--provider-alias", "acme=new")
    # the program is called by its own name
    asked = json.loads((place / "new.log").read_text().splitlines()[-1])
    assert asked["keyunwrapparams"]["dc"]["Parameters"].keys() == {"new"}


def test_several_are_tried_in_order(place: Path) -> None:
    """Both answer to the image's name; the first of them has the wrong key."""
    run("encrypt", "oci:app:v1", "oci:sealed:v1", "-r", "provider:acme")
    configure(place, one="best.key", two="acme.key")
    aliases = ("--provider-alias", "acme=one")
    arguments = ("decrypt", "oci:sealed:v1", "oci:opened:v1", "-k", "provider:one", *aliases)
    said = run(*arguments, code=1)
    assert "key provider one failed: exit status 3: this is wrapped by another key" in said
    configure(place, one="best.key", acme="acme.key")
    run(*arguments, "-k", "provider:acme")
    assert (place / "one.log").exists()


def test_a_provider_is_not_told_of_others(place: Path, keys: Path) -> None:
    run(
        *("encrypt", "oci:app:v1", "oci:sealed:v1", "-r", f"jwe:{keys}/p256.pub.pem"),
        *("-r", "provider:acme:for-acme", "-r", "provider:best:for-best"),
    )
    run(
        *("decrypt", "oci:sealed:v1", "oci:opened:v1", "-k", f"{keys}/other.pem"),
        *("-k", "provider:best:mine"),
    )
    acme = [json.loads(line) for line in (place / "acme.log").read_text().splitlines()]
    best = [json.loads(line) for line in (place / "best.log").read_text().splitlines()]
    assert {one["op"] for one in acme} == {"keywrap"}
    for name, requests in (("acme", acme), ("best", best)):
        for request in requests:
            given = request[f"{request['op']}params"]
            inside = given.get("ec") or given["dc"]
            assert inside["Parameters"].keys() == {name}
            texts = [base64.b64decode(one) for one in inside["Parameters"][name]]
            assert texts == ([b"mine"] if "dc" in given else [f"for-{name}".encode()])


@pytest.mark.parametrize("key", ["provider:acme", "provider:best", "{keys}/p256.pem"])
def test_any_one_of_them_opens_it(place: Path, keys: Path, key: str) -> None:
    run(
        *("encrypt", "oci:app:v1", "oci:sealed:v1", "-r", f"jwe:{keys}/p256.pub.pem"),
        *("-r", "provider:acme", "-r", "provider:best"),
    )
    run("decrypt", "oci:sealed:v1", "oci:opened:v1", "-k", key.format(keys=keys))
    manifest = manifest_of(place / "sealed")
    for layer in manifest["layers"]:
        assert {f"{names.KEYS}provider.acme", f"{names.KEYS}provider.best"} <= set(
            layer["annotations"]
        )


def test_a_failure_names_the_provider_and_leaves_nothing(place: Path) -> None:
    configuration(place / "c.json", acme=["fail"])
    said = run("encrypt", "oci:app:v1", "oci:sealed:v1", "-r", "provider:acme", code=1)
    assert "key provider acme failed: exit status 7" in said
    assert not (place / "sealed").exists()


def test_no_provider_of_that_name(place: Path) -> None:
    said = run("encrypt", "oci:app:v1", "oci:sealed:v1", "-r", "provider:nobody", code=2)
    assert "no key provider called 'nobody'; configured are: acme, best" in said
    assert str(place / "c.json") in said


def test_settings_of_boltseals_own(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from support import providers

    monkeypatch.delenv("OCICRYPT_KEYPROVIDER_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place / "config"))
    (place / "config" / "boltseal").mkdir(parents=True)
    args = json.dumps([providers.__file__, "aes", str(place / "acme.key")])
    (place / "config" / "boltseal" / "config.toml").write_text(
        f'[key-providers.acme]\ncmd = {{path = "{sys.executable}", args = {args}}}\n'
    )
    run("encrypt", "oci:app:v1", "oci:sealed:v1", "-r", "provider:acme")
    run("decrypt", "oci:sealed:v1", "oci:opened:v1", "-k", "provider:acme")


def test_an_image_that_asks_too_often(place: Path) -> None:
    """Hundreds of wrapped keys do not make us start hundreds of programs."""
    run("encrypt", "oci:app:v1", "oci:sealed:v1", "-r", "provider:best")
    configure(place, acme="acme.key")
    layout = place / "sealed"
    noise = names.join_packets([b"noise %d" % n for n in range(60)])
    _change_annotations(layout, {names.KEYS + "provider.acme": noise})
    said = run("decrypt", "oci:sealed:v2", "oci:opened:v1", "-k", "provider:acme", code=1)
    assert "asked about 32 wrapped keys of a layer at most" in said
    assert len((place / "acme.log").read_text().splitlines()) == 32


def manifest_of(layout: Path) -> Any:
    index = json.loads((layout / "index.json").read_text())
    digest = index["manifests"][0]["digest"].removeprefix("sha256:")
    return json.loads((layout / "blobs" / "sha256" / digest).read_bytes())


def _change_annotations(layout: Path, keys: dict[str, str]) -> None:
    """Tag ``v2``: the first layer's wrapped keys replaced."""
    import hashlib

    manifest = manifest_of(layout)
    layer = manifest["layers"][0]
    kept = {k: v for k, v in layer["annotations"].items() if not k.startswith(names.KEYS)}
    layer["annotations"] = kept | keys
    raw = json.dumps(manifest).encode()
    digest = hashlib.sha256(raw).hexdigest()
    (layout / "blobs" / "sha256" / digest).write_bytes(raw)
    index = json.loads((layout / "index.json").read_text())
    entry = index["manifests"][0] | {
        "digest": f"sha256:{digest}",
        "size": len(raw),
        "annotations": {names.REF_NAME: "v2"},
    }
    index["manifests"].append(entry)
    (layout / "index.json").write_text(json.dumps(index))
