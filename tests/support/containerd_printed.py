"""containerd with the configuration that `boltseal doctor` prints, and with our hook."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from support.cli import spawn
from support.containerd import Containerd
from support.peers import require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.cli import Run

_CRI = '[plugins."io.containerd.grpc.v1.cri"'
_OURS = f'{_CRI}.image_decryption]\nkey_model = "node"\n'


class Printed(Containerd):
    """What this machine's containerd needs besides is as for the other tests."""

    @property
    def policy(self) -> Path:
        return self.folder / "image-verifier.toml"

    def decide_by(self, text: str) -> None:
        """What the hook decides by."""
        self.policy.write_text(text)
        self.policy.chmod(0o644)

    def start(self) -> None:
        self.decide_by(f'keys = ["{self.keys}"]\n')
        spec = subprocess.run([require("ctr"), "oci", "spec"], capture_output=True, check=True)
        (self.folder / "base.json").write_bytes(with_hook(spec.stdout, self.policy))
        super().start()

    def _config(self) -> str:
        own, _, _ = super()._config().partition("[stream_processors")
        assert _OURS in own
        own = own.replace(_OURS, "")
        runtime = (
            f'{_CRI}.containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n'
            f'base_runtime_spec = "{self.folder}/base.json"\n'
        )
        printed = doctor("--print-config", "containerd", "--keys-path", str(self.keys)).out
        return own + runtime + printed.replace("version = 2\n", "")


class Second(Containerd):
    """containerd 2, which Debian 12 has not: BOLTSEAL_TEST_CONTAINERD2 names its program.

    It only pulls here: starting takes a shim of its own version.
    """

    program = os.environ.get("BOLTSEAL_TEST_CONTAINERD2", "")

    def start(self) -> None:
        link = self.folder / "path" / "containerd"
        link.parent.mkdir()
        link.symlink_to(self.program)
        before = os.environ["PATH"]
        os.environ["PATH"] = f"{link.parent}:{before}"
        try:
            super().start()
        finally:
            os.environ["PATH"] = before

    def check(self) -> None:
        pass

    def _config(self) -> str:
        folder, host = self.folder, self.registry.host
        hosts = folder / "hosts" / host
        hosts.mkdir(parents=True)
        (hosts / "hosts.toml").write_text(f'[host."http://{host}"]\n')
        own = (
            f'version = 3\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
            f'[grpc]\naddress = "{self.socket}"\n[ttrpc]\naddress = "{folder}/t.sock"\n'
            '[plugins."io.containerd.cri.v1.images".registry]\n'
            f'config_path = "{folder}/hosts"\n'
            '[plugins."io.containerd.cri.v1.runtime".cni]\n'
            f'conf_dir = "{folder}/cni"\n'
        )
        printed = doctor(
            "--print-config", "containerd", "--runtime-version", "2", "--keys-path", str(self.keys)
        ).out  # fmt: skip
        return own + printed.replace("version = 3\n", "")


def doctor(*arguments: str) -> Run:
    return spawn("doctor", *arguments)


def with_hook(spec: bytes, policy: Path) -> bytes:
    """As root would make it, with the program that is installed beside Python."""
    command: Sequence[str] = (
        str(Path(sys.executable).with_name("boltseal")),
        *("hook", "print-config", "containerd", "--config", str(policy)),
    )
    return subprocess.run(command, input=spec, capture_output=True, check=True).stdout
