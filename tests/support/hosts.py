"""A host below a folder: containerd, CRI-O, Podman and the rest, configured as they should be."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal.runtime.doctor import configs

if TYPE_CHECKING:
    from pathlib import Path

DECODER = "/usr/bin/boltseal-ctd-decoder"
KEYS = "/etc/containerd/ocicrypt/keys"
CONTAINERD = "/etc/containerd/config.toml"
CRIO = "/etc/crio/crio.conf.d/50-boltseal.conf"
PROVIDERS = "/etc/boltseal/keyprovider.json"
POLICY = "/etc/boltseal/image-verifier.toml"
HOOK = "/etc/containers/oci/hooks.d/50-boltseal.json"
MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PROVIDER = "/usr/bin/provider"
GNUPG = "/root" + "/.gnupg"  # of root
PROGRAMS = ("containerd", "crio", "podman", "buildah", "runc", "gpg", "gpg-agent",
            "boltseal-ctd-decoder", "boltseal", "provider")  # fmt: skip


@dataclass(frozen=True)
class FakeHost:
    """``root`` is its root folder; paths are the host's own."""

    root: Path

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def write(self, name: str, content: str | bytes, mode: int = 0o644) -> Path:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return path

    def replace(self, name: str, old: str, new: str, count: int = -1) -> None:
        """Change a text in a file that has it."""
        text = self.path(name).read_text()
        assert old in text, f"{name} has no {old}"
        self.path(name).write_text(text.replace(old, new, count))

    def program(self, name: str, script: str = "#!/bin/sh\n") -> Path:
        return self.write(name, script, 0o755)


def healthy(root: Path, key: Path, *, major: int = 1) -> FakeHost:
    """A host with nothing to mend; ``key`` is a private key."""
    host = FakeHost(root)
    for name in PROGRAMS:
        host.program(f"/usr/bin/{name}")
    wishes = configs.Wishes(DECODER, "/usr/bin/boltseal", major=major, providers=PROVIDERS)
    host.write(CONTAINERD, configs.text("containerd", wishes))
    host.write(CRIO, configs.text("crio", wishes))
    host.write("/etc/containers/containers.conf.d/50.conf", configs.text("podman", wishes))
    host.write("/etc/containers/registries.conf", '[[registry]]\nprefix = "docker.io"\n')
    host.write("/etc/containers/storage.conf", '[storage]\ndriver = "overlay"\n')
    host.write(PROVIDERS, json.dumps({"key-providers": {"one": {"cmd": {"path": PROVIDER}}}}))
    host.write(POLICY, f'keys = ["{KEYS}"]\n')
    hook = {"path": "/usr/bin/boltseal", "args": ["boltseal", "hook", "check"]}
    document = {"version": "1.0.0", "hook": hook, "when": {"always": True}}
    host.write(HOOK, json.dumps({**document, "stages": ["createRuntime"]}))
    host.path("/usr/share/containers/oci/hooks.d").mkdir(parents=True)
    host.write(MODULE, b"\x7fELF")
    host.write("/etc/ocicrypt.conf", f"pkcs11:\n  allowed-module-paths:\n    - {MODULE}\n")
    for folder in (KEYS, "/etc/crio/keys"):
        host.path(folder).mkdir(parents=True)
        host.path(folder).chmod(0o700)
        shutil.copy(key, host.path(folder) / "prod.pem")
        (host.path(folder) / "prod.pem").chmod(0o600)
    host.path(GNUPG).mkdir(parents=True, mode=0o700)
    spool = host.path("/var/tmp")
    spool.mkdir(parents=True)
    os.chmod(spool, 0o1777)
    return host
