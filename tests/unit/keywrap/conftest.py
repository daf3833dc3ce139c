"""Fixtures for wrapped keys: a PKCS#11 token that misbehaves, and a key that is wrapped for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.tokens import FAKE, Fake, wrap

if TYPE_CHECKING:
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
