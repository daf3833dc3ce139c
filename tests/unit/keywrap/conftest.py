"""Fixtures for wrapped keys: a PKCS#11 token that misbehaves, a key for it, a key broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boltseal.keywrap.broker import client
from support.broker_fake import FakeBroker, serving
from support.tokens import FAKE, Fake, wrap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def fake(tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    (tmp_path / "module.so").write_bytes(b"")
    (tmp_path / "policy.yaml").write_text(
        f"pkcs11: {{allowed-module-paths: ['{tmp_path}/'], allowed-module-env: [FAKE, LOG, KEY]}}\n"
    )
    binding = tmp_path / "path"
    binding.mkdir()
    (binding / "sitecustomize.py").write_text(FAKE)
    monkeypatch.syspath_prepend(str(binding))
    return Fake(tmp_path, keys)


@pytest.fixture
def wrapped(keys: Path) -> bytes:
    return wrap(keys, "sha1")


@pytest.fixture(scope="module")
def running_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeBroker]:
    with serving(FakeBroker(tmp_path_factory.mktemp("broker"))) as fake:
        yield fake


@pytest.fixture
def broker(running_broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> FakeBroker:
    running_broker.seen.clear()
    running_broker.script.clear()
    running_broker.allows = lambda seen: None
    monkeypatch.setattr(client, "pause", lambda number, asked: 0.01)
    return running_broker
