"""`diff`: the same image or another one, and what is different about it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import boltseal as library
from boltseal.image.diff_layers import _middle
from boltseal.spec.digest import Digest
from support.cli import boltseal
from support.images import (
    CONFIG,
    GZIP,
    INDEX,
    MANIFEST,
    TAR,
    ZSTD,
    Layout,
    add_manifest,
    compact,
    config_bytes,
    index_image,
    simple_image,
    tar_bytes,
)
from support.tamper import Sealed, flip

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from support.cli import Run

A, B, C, D = (tar_bytes({f"srv/{name}": name.encode() * 300}) for name in "abcd")


def image(path: Path, tars: Sequence[bytes], types: Sequence[str] | None = None) -> str:
    layout = Layout(path)
    entry = add_manifest(layout, tars, types or [GZIP] * len(tars))
    layout.tag(entry["mediaType"], entry["digest"], entry["size"])
    return layout.reference()


def sealed(source: str, target: Path, keys: Path, *who: str, more: Sequence[str] = ()) -> str:
    named = [part for one in who for part in ("-r", f"jwe:{keys}/{one}.pub.pem")]
    run = boltseal("encrypt", source, f"oci:{target}:v1", *named, *more)
    assert run.code == 0, run.err
    return f"oci:{target}:v1"


def compared(a: str, b: str, *more: object, code: int = 0) -> Any:
    run = boltseal("diff", a, b, "--json", *more)
    assert run.code == code, run
    return json.loads(run.out)


def states(found: Any) -> list[tuple[int | None, int | None, str]]:
    return [
        (layer["a"], layer["b"], layer["state"])
        for platform in found["platforms"]
        for layer in platform["layers"]
    ]


def test_an_image_and_itself(tmp_path: Path, keys: Path) -> None:
    source = index_image(tmp_path / "src").reference()
    copied = f"oci:{tmp_path}/copied:v1"
    assert boltseal("copy", source, copied).code == 0
    run = boltseal("diff", source, copied)
    assert (run.code, run.err) == (0, "")
    assert run.out.startswith("the same image, byte for byte\n")
    found = compared(source, copied)
    assert (found["same"], found["identical"], found["proven"]) == (True, True, False)
    assert {one[2] for one in states(found)} == {"identical"}


@pytest.mark.parametrize("opened", [False, True])
def test_plain_and_encrypted(tmp_path: Path, keys: Path, opened: bool) -> None:
    source = index_image(tmp_path / "src").reference()
    hidden = sealed(source, tmp_path / "sealed", keys, "p256")
    key = ("-k", keys / "p256.pem") if opened else ()
    run = boltseal("diff", source, hidden, *key)
    assert (run.code, run.err) == (0, "")
    how = "every layer was opened" if opened else "as their configs claim by diff ids"
    assert run.out.startswith(f"the same content ({how})\n")
    found = compared(source, hidden, *key)
    assert (found["same"], found["identical"], found["proven"]) == (True, False, opened)
    assert {one[2] for one in states(found)} == {"encrypted"}
    assert {one[2] for one in states(compared(hidden, source, *key))} == {"decrypted"}


def test_encrypted_twice(tmp_path: Path, keys: Path) -> None:
    source = simple_image(tmp_path / "src").reference()
    one = sealed(source, tmp_path / "one", keys, "p256", "p384")
    two = sealed(source, tmp_path / "two", keys, "p384", "p521")
    found = compared(one, two, "-k", keys / "p384.pem")
    assert {one[2] for one in states(found)} == {"encrypted differently"}
    run = boltseal("diff", one, two)
    assert run.code == 0
    lines = [line.split() for line in run.out.splitlines()]
    changes = [line for line in lines if line and line[0] in ("came", "went")]
    assert [(line[0], line[1], line[3]) for line in changes] == [
        ("went", "jwe", "2"),
        ("came", "jwe", "2"),
    ]


def test_recipients_alone(tmp_path: Path, keys: Path) -> None:
    """The blobs are the same, and so is what they hold."""
    one = sealed(simple_image(tmp_path / "src").reference(), tmp_path / "one", keys, "p256")
    who = ("-r", f"jwe:{keys}/p384.pub.pem", "-k", keys / "p256.pem")
    two = f"oci:{tmp_path}/two:v1"
    assert boltseal("recipients", "add", one, two, *who).code == 0
    found = compared(one, two)
    assert states(found) == [(0, 0, "identical"), (1, 1, "identical")]
    layers = found["platforms"][0]["layers"]
    assert [(len(layer["came"]), len(layer["went"])) for layer in layers] == [(1, 0)] * 2
    assert layers[0]["came"][0]["scheme"] == "jwe"


def test_compressed_differently(tmp_path: Path) -> None:
    one, two = image(tmp_path / "one", [A, B]), image(tmp_path / "two", [A, B], [ZSTD, TAR])
    assert states(compared(one, two)) == [
        (0, 0, "compressed differently"),
        (1, 1, "compressed differently"),
    ]


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ([A, B], [A, C], [(0, 0, "identical"), (1, None, "removed"), (None, 1, "added")]),
        ([A, B], [A], [(0, 0, "identical"), (1, None, "removed")]),
        ([A], [B, A], [(None, 0, "added"), (0, 1, "identical")]),
        ([A, B], [B, A], [(0, 1, "moved"), (1, 0, "moved")]),
        ([A, B, A], [A, A], [(0, 0, "identical"), (1, None, "removed"), (2, 1, "identical")]),
        ([A, A], [A, A, A], [(0, 0, "identical"), (1, 1, "identical"), (None, 2, "added")]),
        ([], [A], [(None, 0, "added")]),
    ],
)
def test_other_layers(
    tmp_path: Path, one: list[bytes], two: list[bytes], expected: list[object]
) -> None:
    found = compared(image(tmp_path / "one", one), image(tmp_path / "two", two), code=1)
    assert states(found) == expected
    assert found["platforms"][0]["config"] == ["rootfs.diff_ids"]
    assert boltseal("diff", f"oci:{tmp_path}/one:v1", f"oci:{tmp_path}/two:v1").out.startswith(
        "not the same content\n"
    )


@given(st.lists(st.integers(0, 4), max_size=8), st.lists(st.integers(0, 4), max_size=8))
def test_every_layer_is_told_once(one: list[int], two: list[int]) -> None:
    a, b = ({place: Digest.of(bytes([n])) for place, n in enumerate(side)} for side in (one, two))
    found = list(_middle(a, b))
    assert sorted(place for place, _, _ in found if place is not None) == list(a)
    assert sorted(place for _, place, _ in found if place is not None) == list(b)
    for left, right, state in found:
        if left is not None and right is not None:
            assert (state, a[left]) == ("moved", b[right])


def with_config(path: Path, change: Any, raw: Any = compact) -> str:
    layout = Layout(path)
    entry = add_manifest(layout, [A], [GZIP])
    manifest = layout.json(entry["digest"])
    config = json.loads(config_bytes([A]))
    change(config)
    digest, size = layout.blob(raw(config))
    manifest["config"] = {"mediaType": CONFIG, "digest": digest, "size": size}
    layout.tag(MANIFEST, *layout.blob(compact(manifest)))
    return layout.reference()


@pytest.mark.parametrize(
    ("change", "members"),
    [
        (lambda c: c["config"].update(Env=["A=1"]), ["config.Env"]),
        (lambda c: c["config"].pop("Cmd"), ["config.Cmd"]),
        (lambda c: c.update(history=[{}], created="x"), ["history", "created"]),
        (lambda c: c.update(config=None), ["config"]),
        (lambda c: c["config"].update(Cmd=[True]), ["config.Cmd"]),
    ],
)
def test_other_configurations(tmp_path: Path, change: Any, members: list[str]) -> None:
    one = with_config(tmp_path / "one", lambda config: config["config"].update(Cmd=[1]))
    two = with_config(
        tmp_path / "two", lambda config: (config["config"].update(Cmd=[1]), change(config))
    )
    assert compared(one, two, code=1)["platforms"][0]["config"] == members


def test_a_configuration_that_is_written_differently(tmp_path: Path) -> None:
    one = with_config(tmp_path / "one", lambda config: None)
    two = with_config(
        tmp_path / "two",
        lambda config: None,
        lambda config: json.dumps(config, indent=2, sort_keys=True).encode(),
    )
    assert compared(one, two)["identical"] is False


def test_platforms(tmp_path: Path) -> None:
    one = index_image(tmp_path / "one", ("amd64", "arm64")).reference()
    two = index_image(tmp_path / "two", ("arm64", "s390x")).reference()
    found = compared(one, two, code=1)
    assert [(one["platform"], one["only_in"]) for one in found["platforms"]] == [
        ("linux/amd64", "a"),
        ("linux/arm64", None),
        ("linux/s390x", "b"),
    ]
    assert compared(one, two, "--platform", "linux/arm64")["same"]
    run = boltseal("diff", one, two)
    assert run.out.count("the platform is only in one") == 2


def test_annotations_and_attestations_are_no_content(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "one")
    plain = add_manifest(layout, [A], [GZIP])
    noted = add_manifest(
        layout,
        [A],
        [GZIP],
        extra={"annotations": {"x": "1"}},
        layer_extra={0: {"annotations": {"y": "2"}}},
    )
    statement = {
        "schemaVersion": 2,
        "config": {"mediaType": "application/x", "digest": plain["digest"], "size": plain["size"]},
        "layers": [],
    }
    digest, size = layout.blob(compact(statement))
    attested = {
        "mediaType": MANIFEST,
        "digest": digest,
        "size": size,
        "platform": {"os": "unknown", "architecture": "unknown"},
    }
    for tag, entries in (("v1", [plain]), ("v2", [noted, attested])):
        index = compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
        layout.tag(INDEX, *layout.blob(index), tag)
    run = boltseal("diff", layout.reference(), layout.reference("v2"))
    assert run.code == 0
    assert "annotations: x" in run.out
    assert "annotations: y" in run.out
    assert "their attestations differ" in run.err


def test_a_config_that_lies_is_found_with_a_key(tmp_path: Path, keys: Path) -> None:
    image = Sealed(tmp_path, keys)
    image.rewrite(lambda manifest: manifest["layers"].reverse())
    a, b = image.plain.reference(), image.layout.reference()
    assert boltseal("diff", a, b).code == 0  # as it claims
    run = boltseal("diff", a, b, "-k", keys / "p256.pem")
    assert run.code == 4
    assert "the decompressed layer has the diff id" in run.err
    assert run.out == ""


def test_a_changed_byte_is_found_with_a_key(tmp_path: Path, keys: Path) -> None:
    image = Sealed(tmp_path, keys)
    image.replace_blob(1, flip)
    a, b = image.plain.reference(), image.layout.reference()
    assert boltseal("diff", a, b, "-k", keys / "p256.pem").code == 4


def failed(run: Run, code: int) -> None:
    """Never 1: that would be an answer."""
    assert run.code == code, run
    assert run.out == ""
    assert run.err.startswith("error: ")


def test_what_is_no_answer(tmp_path: Path, keys: Path) -> None:
    a = simple_image(tmp_path / "src").reference()
    failed(boltseal("diff", a, f"oci:{tmp_path}/nope:v1"), 2)
    failed(boltseal("diff", a, "nope"), 2)
    failed(boltseal("diff", a), 2)
    failed(boltseal("diff", a, a, "--platform", "linux/s390x"), 2)
    empty, strange = (Layout(tmp_path / name) for name in ("empty", "strange"))
    digest, size = strange.blob(b"what nobody looks into")
    thing = {"mediaType": "application/x-thing", "digest": digest, "size": size}
    for layout, entries in ((empty, []), (strange, [thing])):
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        layout.tag(INDEX, *layout.blob(compact(index)))
    failed(boltseal("diff", empty.reference(), strange.reference()), 2)
    hidden = sealed(a, tmp_path / "sealed", keys, "p256")
    failed(boltseal("diff", a, hidden, "-k", keys / "other.pem"), 3)
    run = boltseal("diff", a, f"oci:{tmp_path}/nope:v1", "--json")
    assert (run.code, json.loads(run.out)["error"]["exit_code"]) == (2, 2)


def test_as_a_function(tmp_path: Path, keys: Path) -> None:
    a = simple_image(tmp_path / "src").reference()
    b = sealed(a, tmp_path / "sealed", keys, "p256", more=["--layer", "1"])
    report = library.diff(a, b, [keys / "p256.pem"])
    assert report.same
    assert report.proven
    assert [layer.state for layer in report.platforms[0].layers] == ["identical", "encrypted"]
