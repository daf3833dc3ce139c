"""Fixtures for other programs: a home of GnuPG's with a key for every case."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.gnupg import Crowd, gnupg_home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boltseal.keywrap.options import KeyOptions


@pytest.fixture(scope="module")
def crowd(data: Path) -> Iterator[Crowd]:
    with gnupg_home() as home:
        yield Crowd(home, data)


@pytest.fixture
def options(crowd: Crowd) -> KeyOptions:
    return crowd.home.options()
