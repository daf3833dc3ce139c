"""New keys, their forms, and what their versions may become."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives import serialization

from boltseal.broker.keys import lifecycle, material
from boltseal.broker.model import KeyState, RefusedError
from boltseal.keywrap.pq import hybrid


@pytest.mark.parametrize("algorithm", [one for one in material.ALGORITHMS if one != "rsa4096"])
def test_both_halves_belong_together(algorithm: str) -> None:
    pair = material.generate(algorithm)
    assert pair.algorithm == algorithm
    assert "private" not in repr(pair)
    if algorithm == "xwing":
        public = hybrid.PrivateKey(pair.private).public_key()
        der, pem = public.to_der(), public.to_pem()
    else:
        loaded = serialization.load_der_private_key(pair.private, password=None).public_key()
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        der = loaded.public_bytes(serialization.Encoding.DER, form)
        pem = loaded.public_bytes(serialization.Encoding.PEM, form)
        assert str(loaded.key_size) in algorithm  # type: ignore[union-attr]
    assert pair.public == pem.decode()
    assert pair.fingerprint == "sha256:" + hashlib.sha256(der).hexdigest()


@pytest.mark.parametrize("algorithm", ["rsa1024", "rsa2048", "", "P256", "xwing\n"])
def test_other_algorithms_are_refused(algorithm: str) -> None:
    with pytest.raises(RefusedError, match="use one of xwing") as caught:
        material.generate(algorithm)
    assert caught.value.code == "malformed"


ALLOWED = {
    ("disabled", "enable"): "enabled",
    ("enabled", "disable"): "disabled",
    ("enabled", "destroy"): "destroying",
    ("disabled", "destroy"): "destroying",
    ("destroying", "restore"): "disabled",
    ("destroying", "erase"): "destroyed",
}


@pytest.mark.parametrize("state", list(KeyState))
@pytest.mark.parametrize("what", ["enable", "disable", "destroy", "restore", "erase"])
def test_every_step_from_every_state(state: KeyState, what: str) -> None:
    after = ALLOWED.get((state.value, what))
    if after is not None:
        assert lifecycle.step(state, what) == after
        return
    with pytest.raises(RefusedError, match=f"the version is {state.value}") as caught:
        lifecycle.step(state, what)
    assert caught.value.code == "conflict"


def test_waiting_times() -> None:
    assert lifecycle.destroy_at(100, 0) == 100
    assert lifecycle.destroy_at(100, 7) == 100 + 7 * 86_400
    for days in (-1, 366):
        with pytest.raises(RefusedError, match="0 to 365 days"):
            lifecycle.destroy_at(100, days)
