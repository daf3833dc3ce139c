"""Fixtures for every test."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from boltseal.keywrap.generate import generate_key

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile("boltseal", deadline=None, max_examples=60)
settings.load_profile("boltseal")

DATA = Path(__file__).parent / "vectors" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    """``-o artifacts=FOLDER``; a relative one is below the project's."""
    parser.addini("artifacts", "where pictures of pages are left", default=".artifacts")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first, and as many for each worker, which begins with an equal part of the list.

    Most of them wait, or have a time that they are to take: at the end they would come one by one.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    slow = [one for one in items if one.get_closest_marker("slow")]
    quick = [one for one in items if not one.get_closest_marker("slow")]
    part = -(-len(items) // workers)
    ordered: list[pytest.Item] = []
    for worker in range(workers):
        mine = slow[worker::workers]
        ordered += mine + quick[: part - len(mine)]
        quick = quick[part - len(mine) :]
    items[:] = ordered


@pytest.fixture(scope="session")
def data() -> Path:
    """The vectors: images that skopeo 1.22 encrypted, their sources, and every key."""
    return DATA


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fresh key pairs as NAME.pem: rsa2048, p256, p384, p521, and `other` that fits nothing."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("rsa2048", "p256", "p384", "p521"):
        generate_key(str(folder / f"{name}.pem"), name, None)
    generate_key(str(folder / "other.pem"), "p256", None)
    return folder


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """The command line installs handlers for signals; tests in this process get theirs back."""
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGXCPU, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
