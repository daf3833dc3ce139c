"""`verify` says no to whatever is done to a valid image: many kinds, each made by Hypothesis."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from support.mutations import LAYERS
from support.mutations_documents import DOCUMENTS
from support.mutations_keys import KEYS
from support.valid import Images, Spec, specs

if TYPE_CHECKING:
    from pathlib import Path

KINDS = {**LAYERS, **KEYS, **DOCUMENTS}
# a few at a time for each kind; they add up
quickly = settings(
    max_examples=5,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Images:
    return Images(tmp_path_factory.mktemp("images"), keys)


def test_there_are_many_kinds() -> None:
    assert len(KINDS) == len(LAYERS) + len(KEYS) + len(DOCUMENTS) >= 80


@settings(quickly, max_examples=12)
@given(spec=specs())
def test_nothing_done_is_right(images: Images, spec: Spec) -> None:
    """Written again as it was, every one of them verifies: what says no is the mutation."""
    image = images.make(spec)
    image.save()
    run = image.verify()
    assert run.code == 0, run.err
    shutil.rmtree(image.layout.path)


@pytest.mark.parametrize("kind", KINDS)
def test_says_no(images: Images, kind: str) -> None:
    seen = 0

    @quickly
    @given(data=st.data())
    def check(data: Any) -> None:
        nonlocal seen
        image = images.make(data.draw(specs()))
        KINDS[kind](data.draw, image)
        image.save()
        run = image.verify()
        assert run.code in (1, 3, 4), (kind, image.layout.path, run)
        assert "everything is right" not in run.out
        seen += 1
        shutil.rmtree(image.layout.path)

    check()
    assert seen
