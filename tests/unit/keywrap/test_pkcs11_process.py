"""The process around a module: what it gets, how it ends, and modules that crash or hang."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from boltseal import parse_identity, parse_recipient
from boltseal.errors import KeyFileError, KeyServiceError, LimitExceededError, MissingExtraError
from boltseal.keywrap.pkcs11 import frames
from boltseal.keywrap.pkcs11.process import Worker
from support.tokens import PIN, SECRET, Fake

if TYPE_CHECKING:
    from pathlib import Path


pytest.importorskip("pkcs11")
pytest.importorskip("yaml")


def key_file(fake: Fake, name: str) -> str:
    path = fake.folder / "key.yaml"
    path.write_text(
        f"pkcs11: {{uri: '{fake.uri}&pin-value={PIN}'}}\nmodule: {{env: {{{name}: x}}}}"
    )
    return str(path)


def test_a_key_file_sets_what_the_policy_allows(fake: Fake, wrapped: bytes) -> None:
    for name in ("HOME", "XDG_CONFIG_HOME", "P11_KIT_STRICT", "LD_PRELOAD"):
        for text in (key_file(fake, name), f"pkcs11:{key_file(fake, name)}"):
            with pytest.raises(KeyFileError, match=f"sets {name}, which a key file may not"):
                parse_identity(text, fake.options())
            with pytest.raises(KeyFileError, match=f"sets {name}, which a key file may not"):
                parse_recipient(f"pkcs11:{key_file(fake, name)}", fake.options())
    assert not fake.log()  # the module was never loaded
    for name in ("SOFTHSM2_CONF", "FAKE"):
        identity = parse_identity(key_file(fake, name), fake.options())
        assert identity.unwrap("pkcs11", wrapped) == SECRET


@pytest.mark.parametrize("spelling", ["", "pkcs11:"])
def test_a_module_gets_no_secrets_of_others(fake: Fake, wrapped: bytes, spelling: str) -> None:
    options = fake.options()
    secrets = {"VAULT_TOKEN": "s", "AWS_SECRET_ACCESS_KEY": "s", "SOFTHSM_PIN": PIN}
    options = replace(options, environment={**options.environment, **secrets, "LANG": "C"})
    path = key_file(fake, "SOFTHSM2_CONF")
    identity = parse_identity(f"{spelling}{path}:env=SOFTHSM_PIN", options)
    assert identity.unwrap("pkcs11", wrapped) == SECRET
    worker = identity.token._worker  # type: ignore[attr-defined]
    with open(f"/proc/{worker._process.pid}/environ", "rb") as file:
        names = {one.partition(b"=")[0] for one in file.read().split(b"\0") if one}
    assert names == {b"FAKE", b"LOG", b"KEY", b"LANG", b"PYTHONPATH"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("crash@lib", "module.so crashed (segmentation fault) instead of answering"),
        ("crash@login", "module.so crashed (segmentation fault) instead of answering"),
        ("crash@decrypt", "module.so crashed (segmentation fault) instead of answering"),
        ("leave@objects", "module.so ended instead of answering"),
        ("GeneralError@lib", "module.so cannot be loaded or started: GeneralError"),
        ("DeviceRemoved@decrypt", "the token was removed or reset while it was in use"),
        ("SessionHandleInvalid@decrypt", "the token was removed or reset while it was in use"),
        ("TokenNotPresent@login", "the token was removed or reset while it was in use"),
        ("DeviceMemory@slots", "the token failed (DeviceMemory)"),
        ("bug@decrypt", "the token failed (ValueError)"),
        ("UserPinNotInitialized@login", "the token has no PIN yet"),
        ("MechanismInvalid@decrypt", "the token cannot do RSA-OAEP with SHA-1"),
        ("0x68@decrypt", "the key may not be used to decrypt"),
        ("0x80000001@decrypt", "the token failed (return code 0x80000001)"),
    ],
)
def test_what_goes_wrong_is_one_line(fake: Fake, wrapped: bytes, wrong: str, message: str) -> None:
    identity = fake.identity(wrong)
    for _ in range(2):  # and it is looked at again, since tokens come back
        with pytest.raises(KeyServiceError) as caught:
            identity.unwrap("pkcs11", wrapped)
        assert message in caught.value.message
        assert PIN not in str(caught.value)
        assert "\n" not in str(caught.value)
    assert fake.log().count("lib") == (1 if wrong.startswith("MechanismInvalid") else 2)


@pytest.mark.parametrize("at", ["lib", "login", "objects", "decrypt"])
def test_a_token_that_hangs(fake: Fake, wrapped: bytes, at: str) -> None:
    identity = fake.identity(f"hang@{at}", provider_timeout=1)
    with pytest.raises(KeyServiceError, match="did not answer within 1 seconds"):
        identity.unwrap("pkcs11", wrapped)


def test_a_module_that_prints(fake: Fake, wrapped: bytes, capfd: Any) -> None:
    for at in ("lib", "login", "decrypt"):
        assert fake.identity(f"print@{at}").unwrap("pkcs11", wrapped) == SECRET
    assert capfd.readouterr() == ("", "")


def test_an_interruption_ends_the_process(
    fake: Fake, wrapped: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = fake.identity()
    identity.unwrap("pkcs11", wrapped)
    worker = identity.token._worker  # type: ignore[attr-defined]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(frames, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            identity.unwrap("pkcs11", wrapped)
    assert worker._process.returncode is not None
    assert identity.unwrap("pkcs11", wrapped) == SECRET


def test_without_the_extra(fake: Fake, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    yaml = fake.folder / "key.yaml"
    yaml.write_text(f"pkcs11: {{uri: '{fake.uri}'}}\n")
    for missing, spelling in (
        ("pkcs11", fake.uri),
        ("yaml", str(yaml)),
        ("yaml", f"pkcs11:{yaml}"),
    ):
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, missing, None)
            with pytest.raises(MissingExtraError) as caught:
                parse_identity(spelling, fake.options())
            assert str(caught.value) == (
                "a PKCS#11 key needs packages that are not installed; "
                "install them: pip install 'boltseal[pkcs11]'"
            )
            parse_recipient(f"pkcs11:{keys}/rsa2048.pub.pem")  # which needs none of it


def test_the_process_that_cannot_be_started(
    fake: Fake, wrapped: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/none/python")
    with pytest.raises(KeyServiceError, match="cannot be started"):
        fake.identity().unwrap("pkcs11", wrapped)


def test_frames() -> None:
    read, write = os.pipe()
    frames.send(write, {"a": "é"})
    assert frames.receive(read, 5) == {"a": "é"}
    with pytest.raises(TimeoutError):
        frames.receive(read, 0.01)
    os.write(write, (1 << 31).to_bytes(4) + b"x" * (frames.MAX_FRAME_BYTES + 1))
    with pytest.raises(LimitExceededError):
        frames.receive(read, 5)
    with pytest.raises(ValueError, match="too long"):
        frames.send(write, {"a": "x" * frames.MAX_FRAME_BYTES})
    os.write(write, b"\0\0")
    os.close(write)
    assert frames.receive(read, 5) is None
    os.close(read)


def test_the_process_ends_with_its_input(fake: Fake) -> None:
    worker = Worker(f"{fake.folder}/module.so", fake.options().environment, 30)
    module = f"{fake.folder}/module.so"
    assert worker.ask("token", module=module, env={}, token={})["login"] == "pin"
    worker._process.stdin.close()  # type: ignore[union-attr]  # as when we are killed
    assert worker._process.wait(30) == 0
    worker.end()
    assert not worker.is_alive


def test_variables_of_python_are_not_passed_on(fake: Fake) -> None:
    options = fake.options()
    environment = {**options.environment, "PYTHONSTARTUP": "/x", "PYTHONPATH": "/none"}
    worker = Worker("m", environment, 30)
    with open(f"/proc/{worker._process.pid}/environ", "rb") as file:
        worker.ask("token", module="m", env={}, token={})  # it runs by now
        variables = dict(one.split(b"=", 1) for one in file.read().split(b"\0") if one)
    worker.end()
    assert b"PYTHONSTARTUP" not in variables
    assert variables[b"PYTHONPATH"] != b"/none"
    assert variables.keys() == {b"FAKE", b"LOG", b"KEY", b"PYTHONPATH"}
