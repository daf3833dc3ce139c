"""Whatever layers hold, in whatever order: the tree is umoci's, and nothing outside is touched."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boltseal.errors import IntegrityError
from boltseal.runtime.unpack import paths
from boltseal.runtime.unpack.image import unpack
from support.archives import archive, fifo, file, folder, hard, image, link
from support.peers import missing, require, run
from support.trees import snapshot

NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)
TARGETS = NAMES | NAMES.map("/{}".format) | NAMES.map("../{}".format) | st.just("..")
MODES = st.sampled_from([0o755, 0o700, 0o4711, 0o000])


def _hide(name: str) -> str:
    above, _, base = name.rpartition("/")
    return f"{above}/.wh.{base}" if above else f".wh.{base}"


ENTRIES = st.one_of(
    st.builds(lambda name, text: file(name, text), NAMES, st.binary(max_size=3)),
    st.builds(lambda name, mode: folder(name, mode=mode), NAMES, MODES),
    st.builds(link, NAMES, TARGETS),
    st.builds(hard, NAMES, NAMES),
    st.builds(fifo, NAMES),
    st.builds(lambda name: file(_hide(name), b""), NAMES),
    st.builds(lambda name: file(f"{name}/.wh..wh..opq", b""), NAMES),
)
LAYERS = st.lists(st.lists(ENTRIES, max_size=7), min_size=1, max_size=3)


@pytest.fixture(scope="module")
def umoci() -> str:
    if os.geteuid() != 0:
        missing("umoci unpacks for others as root alone")
    return require("umoci")


def _without_times(root: Path) -> dict[str, Any]:
    """Folders' times left out: umoci's are of the day where the archive leaves one out."""
    return {
        name: (item.kind, item.mode, item.owner, item.content, item.links, item.same)
        for name, item in snapshot(root).items()
    }


@settings(max_examples=100)
@given(layers=LAYERS)
def test_the_tree_is_that_of_umoci(umoci: str, layers: list[list[Any]]) -> None:
    work = Path(tempfile.mkdtemp(prefix="bs-"))
    try:
        (work / "a").mkdir()  # a name that entries have, too
        (work / "a" / "canary").write_text("alive")
        before = snapshot(work / "a")
        layout = image(work / "image", [archive(*entries) for entries in layers])
        try:
            unpack(layout.reference(), work / "ours", [])
        except IntegrityError:
            assert not (work / "ours").exists()
            ours = None
        else:
            ours = _without_times(work / "ours" / "rootfs")
        assert snapshot(work / "a") == before
        assert sorted(os.listdir(work)) == sorted({"a", "image"} | ({"ours"} if ours else set()))
        if ours is not None:
            done = run(
                umoci, "unpack", "--image", f"{layout.path}:v1", work / "theirs", check=False
            )
            if done.returncode == 0:
                assert ours == _without_times(work / "theirs" / "rootfs")
    finally:
        shutil.rmtree(work)


@given(
    name=st.text(max_size=40) | st.lists(st.sampled_from(["..", ".", "", "a", "b"])).map("/".join)
)
def test_what_is_left_of_a_name_goes_nowhere(name: str) -> None:
    try:
        path = paths.split(name)
    except IntegrityError:
        return
    for part in path:
        assert part not in (b"", b".", b"..")
        assert b"/" not in part
        assert b"\0" not in part
    assert [part for part in os.fsencode(name).split(b"/") if part not in (b"", b".")] == [*path]
