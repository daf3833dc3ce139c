"""containerd with the configuration that `boltseal doctor` prints, and with our hook."""

from __future__ import annotations

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


def doctor(*arguments: str) -> Run:
    return spawn("doctor", *arguments)


def with_hook(spec: bytes, policy: Path) -> bytes:
    """As root would make it, with the program that is installed beside Python."""
    command: Sequence[str] = (
        str(Path(sys.executable).with_name("boltseal")),
        *("hook", "print-config", "containerd", "--config", str(policy)),
    )
    return subprocess.run(command, input=spec, capture_output=True, check=True).stdout
