"""Whatever is in a host's files: `boltseal doctor` tells of it, and never fails itself."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from support.cli import boltseal
from support.hosts import CONTAINERD, CRIO, HOOK, KEYS, POLICY, PROVIDERS, FakeHost, healthy

FILES = (
    CONTAINERD,
    CRIO,
    HOOK,
    POLICY,
    PROVIDERS,
    "/etc/containers/containers.conf",
    "/etc/containers/registries.conf",
    "/etc/containers/storage.conf",
    "/etc/ocicrypt.conf",
    f"{KEYS}/odd.pem",
)
# names that are looked for, at places where they do not belong
NAMES = (
    *("version", "imports", "disabled_plugins", "plugins", "stream_processors", "accepts", "args"),
    *("env", "path", "returns", "io.containerd.grpc.v1.cri", "image_decryption", "key_model"),
    *("io.containerd.cri.v1.images", "use_local_image_pull", "crio", "runtime", "hooks_dir"),
    *("decryption_keys_path", "engine", "registry", "registries", "prefix", "storage", "driver"),
    *("graphroot", "keys", "exempt", "seconds", "plain", "pkcs11", "allowed-module-paths"),
    *("io.containerd.ocicrypt.decoder.v1.tar", "io.containerd.image-verifier.v1.bindir", "bin_dir"),
)
ODD = ("", "/", "\x00", "../..", "/etc", "a" * 300, "OCICRYPT_KEYPROVIDER_CONFIG=/etc", "node")

values = st.recursive(
    st.booleans() | st.integers(-9, 9) | st.sampled_from(ODD) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)
documents = st.dictionaries(st.sampled_from(NAMES), values, max_size=5)


def several(names: tuple[str, ...]) -> Any:
    return st.dictionaries(st.sampled_from(names), values, max_size=5)


# in the right place, and of another kind
_PROCESSOR = several(("accepts", "returns", "path", "args", "env"))
_PLUGIN = several(("image_decryption", "use_local_image_pull", "bin_dir", "key_model"))
CONTAINERDS = st.fixed_dictionaries(
    {"version": st.sampled_from([1, 2, 3, 4, 0, True])},
    optional={
        "imports": values,
        "disabled_plugins": values,
        "plugins": st.dictionaries(
            st.sampled_from([name for name in NAMES if name.startswith("io.")]), _PLUGIN, max_size=3
        ),
        "stream_processors": st.dictionaries(
            st.sampled_from(["io.containerd.ocicrypt.decoder.v1.tar", "x", ""]),
            _PROCESSOR,
            max_size=3,
        ),
    },
)


def toml(value: Any) -> str:
    """An inline value; JSON's texts are TOML's."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def look(host: FakeHost) -> None:
    done = boltseal("doctor", "--json", "--root", host.root)
    assert done.code in (0, 1), done.err
    assert json.loads(done.out)["findings"]


@settings(max_examples=80)
@given(st.sampled_from(FILES), documents)
def test_any_document_is_told_of(keys: Path, name: str, document: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        host = healthy(Path(folder) / "host", keys / "p256.pem")
        text = "".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in document.items())
        host.write(name, text)
        look(host)
        host.write(name, json.dumps(document))
        look(host)


@settings(max_examples=80)
@given(CONTAINERDS)
def test_any_configuration_of_containerd_is_told_of(keys: Path, document: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        host = healthy(Path(folder) / "host", keys / "p256.pem")
        lines = (f"{json.dumps(key)} = {toml(value)}\n" for key, value in document.items())
        host.write(CONTAINERD, "".join(lines))
        look(host)


@settings(max_examples=40)
@given(st.sampled_from(FILES), st.binary(max_size=200))
def test_any_bytes_are_told_of(keys: Path, name: str, raw: bytes) -> None:
    with TemporaryDirectory() as folder:
        host = healthy(Path(folder) / "host", keys / "p256.pem")
        host.write(name, raw)
        look(host)
