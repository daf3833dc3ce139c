"""`inspect` of several images: each as by itself, and what they share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from boltseal import inspect, inspect_all
from boltseal.image.sharing import Held, between
from support.cli import boltseal
from support.images import GZIP, Layout, add_manifest, tar_bytes

if TYPE_CHECKING:
    from pathlib import Path

A, APP, CONF = (tar_bytes({name: name.encode() * 2000}) for name in ("lib", "app", "conf"))


def image(path: Path, *tars: bytes) -> Layout:
    layout = Layout(path)
    entry = add_manifest(layout, tars, [GZIP] * len(tars))
    layout.tag(entry["mediaType"], entry["digest"], entry["size"])
    return layout


def test_blobs_and_twins(tmp_path: Path, keys: Path) -> None:
    one, two = image(tmp_path / "one", A, APP), image(tmp_path / "two", A, CONF)
    sealed = f"oci:{tmp_path}/sealed:v1"
    who = ("-r", f"jwe:{keys}/p256.pub.pem", "--layer", "-1")
    assert boltseal("encrypt", one.reference(), sealed, *who).code == 0
    names = [one.reference(), two.reference(), sealed]
    run = boltseal("inspect", *names, "--json")
    assert run.code == 0, run.err
    shown = json.loads(run.out)
    assert shown["images"] == [
        json.loads(boltseal("inspect", name, "--json").out) for name in names
    ]
    sharing = shown["sharing"]
    assert [blob["images"] for blob in sharing["blobs"]] == [names]
    (twins,) = sharing["twins"]
    assert [(blob["encrypted"], blob["images"]) for blob in twins["blobs"]] == [
        (False, names[:1]),
        (True, names[2:]),
    ]
    assert sharing["total_bytes"] - sharing["held_bytes"] == sharing["shared_bytes"]
    assert sharing["planned_bytes"] is None
    text = boltseal("inspect", *names)
    assert "the same blob in several images" in text.out
    assert "the same content by its diff id, in different blobs" in text.out


def test_one_image_is_told_as_before(tmp_path: Path) -> None:
    one = image(tmp_path / "one", A, APP)
    assert json.loads(boltseal("inspect", one.reference(), "--json").out) == json.loads(
        json.dumps(inspect(one.reference()).to_json())
    )
    assert "between these images" not in boltseal("inspect", one.reference()).out


def test_nothing_shared(tmp_path: Path) -> None:
    one, two = image(tmp_path / "one", A), image(tmp_path / "two", APP)
    report = inspect_all([one.reference(), two.reference()])
    assert (report.sharing.blobs, report.sharing.twins, report.sharing.shared_bytes) == ((), (), 0)


def test_an_error_names_its_image(tmp_path: Path) -> None:
    one = image(tmp_path / "one", A)
    run = boltseal("inspect", one.reference(), f"oci:{tmp_path}/none:v1")
    assert run.code == 1
    assert f"oci:{tmp_path}/none:v1" in run.err
    assert run.out == ""


LAYERS = st.lists(
    st.builds(
        lambda image, blob, chosen: Held(
            f"image{image}", f"blob{blob}", 3**blob, f"diff{blob // 2}", False, chosen
        ),
        st.integers(0, 3),
        st.integers(0, 6),
        st.booleans(),
    )
)


@given(LAYERS)
def test_bytes_add_up(layers: list[Held]) -> None:
    """Against sets of what each place holds."""
    found = between(layers, planned=True)
    chosen = {(one.image, one.digest) for one in layers if one.chosen}
    before = {one.digest: one.size for one in layers}
    each = {(one.image, one.digest): one.size for one in layers}
    after = {
        (one.digest, one.image if (one.image, one.digest) in chosen else ""): one.size
        for one in layers
    }
    assert found.total_bytes == sum(each.values())
    assert found.held_bytes == sum(before.values())
    assert found.planned_bytes == sum(after.values())
    assert found.lost_bytes >= 0
    for blob in found.blobs:
        assert set(blob.chosen_in) <= set(blob.images)
        assert len(blob.images) > 1
