"""Registries that tests share; each test uses repositories of its own name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.registry import Authority, Registry, TokenServer, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Plain HTTP, everybody may do everything."""
    with running(tmp_path_factory.mktemp("plain-registry")) as registry:
        yield registry


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def basic(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Registry]:
    """TLS, and Basic authentication."""
    folder = tmp_path_factory.mktemp("basic-registry")
    with running(folder, authority=authority, htpasswd=True) as registry:
        yield registry


@pytest.fixture(scope="session")
def tokens(authority: Authority) -> TokenServer:
    return TokenServer(authority)


@pytest.fixture(scope="session")
def bearer(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, tokens: TokenServer
) -> Iterator[Registry]:
    """TLS, and tokens."""
    folder = tmp_path_factory.mktemp("bearer-registry")
    with running(folder, authority=authority, tokens=tokens) as registry:
        yield registry


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's logins is read or written."""
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr("boltseal._io.retry.BASE_SECONDS", 0.01)
