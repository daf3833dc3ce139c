"""`encrypt` warns of likely secrets in what stays readable, or refuses them; `lint` looks alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import boltseal as api
from support import official
from support.cli import boltseal
from support.configs import add_image, image, made_up
from support.images import INDEX, MANIFEST, Layout, compact

if TYPE_CHECKING:
    from pathlib import Path

SECRET = made_up(24)
TOKEN = "ghp_" + made_up(36)
LEAKY: dict[str, Any] = {
    "author": "somebody",
    "config": {"Env": ["PATH=/bin", f"DB_PASSWORD={SECRET}"], "Labels": {"org.example.ci": TOKEN}},
    "history": [{"created_by": f"|1 NPM_TOKEN={SECRET} /bin/sh -c npm ci"}],
}
PLACES = ["config.Env[1]", "config.Labels.org.example.ci", "history[0].created_by"]


@pytest.fixture
def leaky(tmp_path: Path) -> Layout:
    return image(tmp_path / "leaky", LEAKY)


def encrypt(source: Layout, target: object, keys: Path, *more: str) -> Any:
    return boltseal("encrypt", source.reference(), target, "-r", f"jwe:{keys}/p256.pub.pem", *more)


def test_it_warns_and_encrypts(tmp_path: Path, keys: Path, leaky: Layout) -> None:
    run = encrypt(leaky, f"oci:{tmp_path}/sealed:v1", keys)
    assert run.code == 0
    warnings = [line for line in run.err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 3
    for place, line in zip(PLACES, warnings, strict=True):
        assert f"linux/amd64, {place}" in line
    assert "(DB_PASSWORD)" in warnings[0]
    assert "GitHub token" in warnings[1]
    assert "a build argument" in warnings[2]
    assert SECRET not in run.err + run.out
    assert TOKEN not in run.err + run.out


def test_json_has_the_findings(tmp_path: Path, keys: Path, leaky: Layout) -> None:
    run = encrypt(leaky, f"oci:{tmp_path}/sealed:v1", keys, "--json")
    found = json.loads(run.out)["findings"]
    assert [one["place"] for one in found] == PLACES
    assert found[0] == {
        "platform": "linux/amd64",
        "place": "config.Env[1]",
        "name": "DB_PASSWORD",
        "kind": "a value under a name that says so",
    }


def test_strict_refuses_before_anything_is_written(
    tmp_path: Path, keys: Path, leaky: Layout
) -> None:
    run = encrypt(leaky, f"oci:{tmp_path}/sealed:v1", keys, "--strict")
    assert run.code == 1
    assert "3 likely secrets would stay readable, and nothing was written" in run.err
    for place in PLACES:
        assert place in run.err
    assert SECRET not in run.err
    assert not (tmp_path / "sealed").exists()
    data = json.loads(encrypt(leaky, f"oci:{tmp_path}/x:v1", keys, "--strict", "--json").out)
    assert [one["place"] for one in data["error"]["findings"]] == PLACES


def test_it_can_be_left_out(tmp_path: Path, keys: Path, leaky: Layout) -> None:
    run = encrypt(leaky, f"oci:{tmp_path}/sealed:v1", keys, "--no-lint")
    assert (run.code, "warning" in run.err) == (0, False)
    assert encrypt(leaky, f"oci:{tmp_path}/s2:v1", keys, "--no-lint", "--strict").code == 2


def test_what_is_scrubbed_is_not_found(tmp_path: Path, keys: Path, leaky: Layout) -> None:
    scrubbed = ("--scrub", "--scrub-label", "org.example.*")
    run = encrypt(leaky, f"oci:{tmp_path}/sealed:v1", keys, "--strict", *scrubbed)
    assert run.code == 1
    assert "1 likely secret would" in run.err
    assert "DB_PASSWORD" in run.err


def test_the_command(tmp_path: Path, leaky: Layout) -> None:
    run = boltseal("lint", leaky.reference())
    assert run.code == 1
    assert "3 likely secrets in what stays readable" in run.out
    assert "config.Env[1]" in run.out
    assert SECRET not in run.out
    data = json.loads(boltseal("lint", leaky.reference(), "--json").out)
    assert [one["place"] for one in data["findings"]] == PLACES
    clean = image(tmp_path / "clean", official.PYTHON)
    run = boltseal("lint", clean.reference())
    assert (run.code, run.out.splitlines()[0]) == (0, "0 likely secrets in what stays readable")


def test_what_all_platforms_have_is_told_once(tmp_path: Path, keys: Path) -> None:
    layout = Layout(tmp_path / "many")
    platforms = []
    for name in ("amd64", "arm64"):
        entry = add_image(layout, {**LEAKY, "architecture": name})
        entry["platform"] = {"os": "linux", "architecture": name}
        platforms.append(entry)
    index = compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": platforms})
    layout.tag(INDEX, *layout.blob(index))
    run = encrypt(layout, f"oci:{tmp_path}/sealed:v1", keys)
    assert run.code == 0, run.err
    warnings = [line for line in run.err.splitlines() if line.startswith("warning: ")]
    assert [line[:48] for line in warnings] == [
        f"warning: linux/amd64, linux/arm64, {place}"[:48] for place in PLACES
    ]
    assert len(api.lint(layout.reference()).findings) == 2 * len(PLACES)


def test_annotations_of_every_level(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "app")
    inner = add_image(
        layout, {}, annotations={"org.example.a": TOKEN}, layer_annotations={"b": TOKEN}
    )
    inner["annotations"] = {"c": TOKEN}
    index = {
        "schemaVersion": 2, "mediaType": INDEX, "manifests": [inner], "annotations": {"d": TOKEN},
    }  # fmt: skip
    layout.tag(INDEX, *layout.blob(compact(index)))
    places = {(one.platform, one.place) for one in api.lint(layout.reference()).findings}
    assert places == {
        ("linux/amd64", "annotations.org.example.a"),
        ("linux/amd64", "layers[0].annotations.b"),
        ("the index", "manifests[0].annotations.c"),
        ("the index", "annotations.d"),
    }


def in_the_manifest(path: Path, **members: Any) -> Layout:
    """An image whose manifest has more members; those of ``layers`` are for its first layer."""
    layout = Layout(path)
    entry = add_image(layout, {})
    document = layout.json(entry["digest"])
    for name, value in members.items():
        more = document["layers"][0] if name == "layers" else document.setdefault(name, {})
        more.update(value)
    layout.tag(MANIFEST, *layout.blob(compact(document)))
    return layout


@pytest.mark.parametrize(
    ("member", "value", "place"),
    [
        ("layers", {"urls": [f"https://me:{SECRET}@host.example/x"]}, "layers[0].urls[0]"),
        ("config", {"annotations": {"x": TOKEN}}, "config.annotations.x"),
        ("com.example", {"token": SECRET}, "com.example.token"),
        (
            "subject",
            {"mediaType": MANIFEST, "digest": f"sha256:{'0' * 64}", "size": 3,
             "annotations": {"x": TOKEN}},
            "subject.annotations.x",
        ),
    ],
)  # fmt: skip
def test_all_of_a_manifest_is_searched(
    tmp_path: Path, keys: Path, member: str, value: dict[str, Any], place: str
) -> None:
    layout = in_the_manifest(tmp_path / "app", **{member: value})
    run = encrypt(layout, f"oci:{tmp_path}/sealed:v1", keys, "--strict")
    assert run.code == 1
    assert f"linux/amd64, {place} stays readable" in run.err
    assert SECRET not in run.err
    assert TOKEN not in run.err


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (compact({"password": SECRET}), [("password", "a value under a name that says so")]),
        (b"\0binary", [("config", "it could not be searched")]),
        (b"{}", []),
    ],
)
def test_the_config_of_what_is_no_image_is_searched(
    tmp_path: Path, raw: bytes, found: list[tuple[str, str]]
) -> None:
    layout = Layout(tmp_path / "chart")
    digest, size = layout.blob(raw)
    config = {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": digest}
    layout.tag(
        MANIFEST, *layout.blob(compact({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": {**config, "size": size},
            "layers": [],
        }))
    )  # fmt: skip
    told = api.lint(layout.reference()).findings
    assert [(one.place, one.kind) for one in told] == found


def with_provenance(path: Path, statement: bytes) -> Layout:
    """An image with an attestation, as BuildKit makes it."""
    layout = Layout(path)
    app = add_image(layout, {})
    digest, size = layout.blob(statement)
    layer = {
        "mediaType": "application/vnd.in-toto+json", "digest": digest, "size": size,
        "annotations": {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"},
    }  # fmt: skip
    attestation = add_image(layout, {}, types=(), tars=[])
    document = {**layout.json(attestation["digest"]), "layers": [layer]}
    config = {"os": "unknown", "architecture": "unknown", "rootfs": {"diff_ids": [digest]}}
    found, length = layout.blob(compact(config))
    document["config"] = {**document["config"], "digest": found, "size": length}
    digest, size = layout.blob(compact(document))
    entry = {
        "mediaType": MANIFEST, "digest": digest, "size": size,
        "platform": {"os": "unknown", "architecture": "unknown"},
        "annotations": {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": app["digest"],
        },
    }  # fmt: skip
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [app, entry]}
    layout.tag(INDEX, *layout.blob(compact(index)))
    return layout


def test_provenance_is_searched(tmp_path: Path) -> None:
    statement = {"predicate": {"parameters": {"args": {"build-arg:API_TOKEN": SECRET}}}}
    layout = with_provenance(tmp_path / "app", json.dumps(statement).encode())
    (one,) = api.lint(layout.reference()).findings
    assert one.place == "provenance.predicate.parameters.args.build-arg:API_TOKEN"
    broken = with_provenance(tmp_path / "broken", b"no JSON")
    assert [one.kind for one in api.lint(broken.reference()).findings] == [
        "it could not be searched"
    ]


def test_scrubbing_warns_of_attestations(tmp_path: Path, keys: Path) -> None:
    layout = with_provenance(tmp_path / "app", b"{}")
    layout.entries.clear()
    config = {"history": [{"created_by": "RUN make"}]}
    app = add_image(layout, config)
    index = layout.json(
        json.loads((tmp_path / "app" / "index.json").read_text())["manifests"][0]["digest"]
    )
    index["manifests"][0] = app
    layout.tag(INDEX, *layout.blob(compact(index)))
    run = encrypt(layout, f"oci:{tmp_path}/sealed:v1", keys, "--scrub")
    assert run.code == 0, run.err
    assert "is an attestation and stays readable: provenance may hold the build" in run.err


def test_bounds(tmp_path: Path, keys: Path) -> None:
    many = image(
        tmp_path / "many", {"config": {"Env": [f"PASSWORD{n}={SECRET}" for n in range(300)]}}
    )
    found = api.lint(many.reference()).findings
    assert len(found) == 201
    assert found[-1].kind == "more than 200 were found"
    run = encrypt(many, f"oci:{tmp_path}/sealed:v1", keys)
    assert run.err.count("warning: ") == 21
    large = Layout(tmp_path / "large")
    entries = [add_image(large, {"author": f"{n}" + "x" * (1 << 21)}) for n in range(3)]
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    large.tag(INDEX, *large.blob(compact(index)))
    (one,) = api.lint(large.reference()).findings
    assert "beyond the 4194304 bytes" in one.kind


def test_the_api_refuses_too(tmp_path: Path, keys: Path, leaky: Layout) -> None:
    who = [f"jwe:{keys}/p256.pub.pem"]
    with pytest.raises(api.BoltsealError) as caught:
        api.encrypt(leaky.reference(), f"oci:{tmp_path}/s:v1", who, strict=True)
    assert [one.place for one in caught.value.findings] == PLACES
