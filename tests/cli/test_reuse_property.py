"""Whatever two builds look like, taking layers over gives the image that encrypting anew gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

import boltseal as library
from support.images import GZIP, INDEX, TAR, ZSTD, Layout, add_manifest, compact, tar_bytes

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

CONTENTS = [tar_bytes({})] + [tar_bytes({f"f{n}": bytes([n]) * 300 * n}) for n in range(1, 5)]
LAYERS = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from([TAR, GZIP, ZSTD])), min_size=1, max_size=4
)
BUILDS = st.lists(LAYERS, min_size=1, max_size=2)  # for each platform


def write(layout: Layout, tag: str, build: Any) -> str:
    entries = [
        add_manifest(
            layout,
            [CONTENTS[what] for what, _ in layers],
            [kind for _, kind in layers],
            architecture=architecture,
        )
        for layers, architecture in zip(build, ("amd64", "arm64"), strict=False)
    ]
    index = compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    layout.tag(INDEX, *layout.blob(index), tag)
    return layout.reference(tag)


@settings(max_examples=20)
@given(old=BUILDS, new=BUILDS)
def test_two_builds(
    tmp_path_factory: pytest.TempPathFactory, keys: Path, old: Any, new: Any
) -> None:
    folder = tmp_path_factory.mktemp("builds")
    layout = Layout(folder / "plain")
    before, now = write(layout, "old", old), write(layout, "new", new)
    sealed, target = f"oci:{folder}/sealed:old", f"oci:{folder}/sealed:new"
    who, key = [f"jwe:{keys}/p256.pub.pem"], [keys / "p256.pem"]
    library.encrypt(before, sealed, who)
    steps: list[library.Progress] = []
    outcome = library.encrypt(
        now, target, who, identities=key, reuse=[sealed], progress=steps.append
    )
    known = {what for layers in old for what, _ in layers}
    assert [layer.action for layer in outcome.layers] == [
        "taken over" if what in known else "encrypted" for layers in new for what, _ in layers
    ]
    assert not outcome.warnings
    assert library.verify(target, key).is_good
    found = library.diff(now, target, key)
    assert (found.same, found.proven) == (True, True)
    assert steps[-1].done == steps[-1].total
    # the very same layers: then the very same manifest comes back
    if {one for layers in new for one in layers} <= {one for layers in old for one in layers} and (
        len({what for layers in old for what, _ in layers})
        == len({one for layers in old for one in layers})
    ):
        opened = library.decrypt(target, f"oci:{folder}/out:v1", key)
        assert opened.digest == library.inspect(now).digest
