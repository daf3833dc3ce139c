"""What tests of bulk runs share: a folder of small images, a list of them, a key, a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.bulk import Place
from support.registry import Registry, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Commands run in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path, keys)


@pytest.fixture(scope="session")
def paged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that lists two repositories at a time."""
    with running(tmp_path_factory.mktemp("paged-registry"), catalog_page=2) as registry:
        yield registry
