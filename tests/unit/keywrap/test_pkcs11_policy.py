"""Which modules of PKCS#11 may be loaded, and which variables they get."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boltseal.errors import BoltsealError, KeyFileError, KeyServiceError, NotFoundError
from boltseal.keywrap.options import KeyOptions
from boltseal.keywrap.pkcs11 import policy, uri, variables

if TYPE_CHECKING:
    from pathlib import Path


def module_of(text: str, found: policy.Policy) -> str:
    return found.module(uri.parse(f"pkcs11:token=a?{text}"))


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    folder = tmp_path / "modules"
    (folder / "below").mkdir(parents=True)
    for name in ("libsofthsm2-old.so", "libsofthsm2.so", "below/deep.so", "notes.txt"):
        (folder / name).write_bytes(b"")
    return folder


def test_names_are_looked_for_in_order(modules: Path, tmp_path: Path) -> None:
    found = policy.Policy((f"{tmp_path}/none/", f"{modules}/"), (f"{modules}/",), "p", "f")
    path = f"{modules}/libsofthsm2.so"
    assert module_of("module-name=softhsm2", found) == path
    assert module_of("module-name=LibSoftHSM2.so", found) == path
    assert module_of(f"module-path={modules}&module-name=softhsm2", found) == path
    assert module_of(f"module-path={path}", found) == path
    for name in ("softhsm", "notes", "deep"):
        with pytest.raises(KeyServiceError, match="there is no PKCS#11 module"):
            module_of(f"module-name={name}", found)


def test_what_a_policy_allows(modules: Path, tmp_path: Path) -> None:
    one = f"{modules}/libsofthsm2.so"
    other = tmp_path / "other.so"
    other.write_bytes(b"")
    linked = tmp_path / "linked"
    linked.symlink_to(modules)
    (modules / "put-here.so").symlink_to(other)
    (tmp_path / "out.so").symlink_to(modules / "libsofthsm2.so")

    def allows(entry: str, path: object) -> bool:
        try:
            loaded = module_of(f"module-path={path}", policy.Policy((), (entry,), "p", "f"))
        except KeyServiceError as error:
            message = str(error)
        else:
            assert not loaded.startswith(str(linked))
            return True
        assert f"{path} may not be loaded: p does not allow it" in message
        return False

    assert allows(one, one)
    assert not allows(one, f"{modules}/libsofthsm2-old.so")
    assert allows(f"{modules}/", one)
    assert not allows(f"{modules}", one)  # without the slash it is a file
    assert not allows(f"{modules}/", f"{modules}/below/deep.so")
    assert not allows(f"{modules}/", f"{modules}/../other.so")
    assert not allows(f"{modules}/", other)
    assert allows(f"{modules}/", f"{modules}/put-here.so")  # whoever may write there chose it
    assert allows(f"{modules}/", f"{linked}/libsofthsm2.so")
    assert allows(f"{linked}/", one)
    assert allows(one, f"{tmp_path}/out.so")
    assert not allows(f"{tmp_path}/linked/none/", one)


def test_which_policy_counts(tmp_path: Path) -> None:
    first, second = tmp_path / "1.conf", tmp_path / "2.conf"
    files = (str(tmp_path / "0.conf"), str(first), str(second))
    built_in = policy.find(KeyOptions(module_files=files))
    assert built_in.allowed == policy.default_directories()
    assert built_in.file == files[-1]
    second.write_text("pkcs11:\n  module-directories:\n    - /b/\n")
    assert policy.find(KeyOptions(module_files=files)).directories == ("/b/",)
    assert policy.find(KeyOptions(module_files=files)).allowed == ()
    first.write_text("pkcs11: {allowed-module-paths: [/a/]}\nelse: {}\n")
    assert policy.find(KeyOptions(module_files=files)).allowed == ("/a/",)
    assert policy.find(KeyOptions(module_files=files, module_policy="internal")) == built_in
    named = policy.find(KeyOptions(module_files=files, module_policy=str(second)))
    assert (named.directories, named.origin) == (("/b/",), str(second))
    with pytest.raises(NotFoundError):
        policy.find(KeyOptions(module_policy=str(tmp_path / "3.conf")))


def test_libraries_that_are_no_modules_are_not_loaded() -> None:
    """Debian has libp11-kit beside every other library, and it loads what a file names."""
    with open("/proc/self/maps") as file:
        libraries = sorted({line.split()[-1] for line in file if "/libc.so" in line})
    assert libraries
    for library in libraries:
        with pytest.raises(KeyServiceError, match="the built-in policy does not allow it"):
            module_of(f"module-path={library}", policy.find(KeyOptions()))
    assert all(one.endswith(("/pkcs11/", "/softhsm/")) for one in policy.default_directories())


@pytest.mark.parametrize(
    "name",
    [
        *("LD_PRELOAD", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "HOME", "XDG_CONFIG_HOME"),
        *("P11_KIT_SERVER_ADDRESS", "PKCS11SPY", "OPENSC_CONF", "OPENSSL_CONF", "softhsm2_conf"),
        *("TPM2_PKCS11_STORE", "YUBIHSM_PKCS11_CONF", "ChrystokiConfigurationPath", "X"),
    ],
)
def test_what_a_key_file_may_set(name: str) -> None:
    variables.check(["SOFTHSM2_CONF"], (), "key.yaml", "f.conf")
    variables.check(["SOFTHSM2_CONF", name], ("Y", name), "key.yaml", "f.conf")
    with pytest.raises(KeyFileError) as caught:
        variables.check(["SOFTHSM2_CONF", name], ("Y",), "key.yaml", "f.conf")
    assert str(caught.value).startswith(f"key.yaml sets {name}, which a key file may not: ")
    assert "allow it in f.conf, under pkcs11: allowed-module-env:" in str(caught.value)


def test_what_modules_get_of_the_users_variables() -> None:
    mine = {"HOME": "/h", "LC_ALL": "C", "OPENSC_CONF": "/o", "CKNFAST_DEBUG": "1", "VENDOR": "v"}
    others = {
        **{f"AWS_{name}": "s" for name in ("SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE")},
        **dict.fromkeys(("VAULT_TOKEN", "AZURE_CLIENT_SECRET", "GITHUB_TOKEN", "PIN"), "s"),
        **dict.fromkeys(("LD_PRELOAD", "PYTHONPATH", "DB_PASSWORD", "HTTPS_PROXY"), "s"),
    }
    assert variables.passed({**mine, **others}, ("VENDOR",)) == mine


def test_a_policy_that_allows_variables(tmp_path: Path) -> None:
    path = tmp_path / "ocicrypt.conf"
    path.write_text("pkcs11: {allowed-module-env: [OPENSC_CONF, X]}\n")
    assert policy.find(KeyOptions(module_policy=str(path))).variables == ("OPENSC_CONF", "X")
    assert policy.find(KeyOptions()).variables == ()


@pytest.mark.parametrize(
    "text",
    [
        "pkcs11: {allowed-module-env: X}",
        "pkcs11: {allowed-module-env: ['*']}",
        "pkcs11: {allowed-module-env: [[X]]}",
        "pkcs11: {allowed-module-env: {X: y}}",
        "pkcs11: {allowed-module-env: [" + "X, " * 257 + "]}",
        "pkcs11: {allowed-module-paths: [a/]}",
        "pkcs11: {allowed-module-paths: /a/}",
        "pkcs11: {allowed-modules-paths: [/a/]}",
        "pkcs11: {module-directories: [[/a/]]}",
        "pkcs11: [/a/]",
        "module-directories: [/a/]",
        "[]",
        "#" * 70_000,
    ],
)
def test_policies_that_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ocicrypt.conf"
    path.write_text(text)
    with pytest.raises(BoltsealError, match=r"ocicrypt\.conf"):
        policy.find(KeyOptions(module_policy=str(path)))
