"""Buildah and Podman with a storage of their own, which both use."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from support.containerd import unmount
from support.peers import missing, require

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CONF = """\
[containers]
default_sysctls = []
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
# the default limits fail where CAP_SYS_RESOURCE is missing
_LIMITS = ("--ulimit", "nofile=1024:4096", "--ulimit", "nproc=1024:4096")


@dataclass(frozen=True)
class Storage:
    """A folder with a short name: Podman refuses long ones."""

    folder: Path

    @property
    def _place(self) -> list[str]:
        return ["--root", f"{self.folder}/s", "--runroot", f"{self.folder}/r",
                "--storage-driver", "overlay"]  # fmt: skip

    def buildah(
        self, *arguments: object, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return self._run([_buildah(), *self._place], arguments, environment)

    def pull(
        self, image: str, *options: object, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        policy = f"{self.folder}/policy.json"
        usual = ("--signature-policy", policy, "--tls-verify=false")
        return self.buildah("pull", *usual, *options, image, environment=environment)

    def podman(
        self, *arguments: object, hooks: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        extra = ["--hooks-dir", str(hooks)] if hooks is not None else []
        command = [require("podman"), *self._place, "--tmpdir", f"{self.folder}/t",
                   "--runtime", "runc", *extra]  # fmt: skip
        return self._run(command, arguments, None)

    def run(
        self, image: str, *command: object, hooks: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in an image that is there, without a network of its own."""
        usual = ("--rm", "--pull=never", "--network=host", *_LIMITS)
        return self.podman("run", *usual, image, *command, hooks=hooks)

    def _run(
        self,
        command: list[str],
        arguments: tuple[object, ...],
        environment: Mapping[str, str] | None,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={
                **os.environ,
                "CONTAINERS_CONF": f"{self.folder}/containers.conf",
                **(environment or {}),
            },
        )


def _buildah() -> str:
    """Debian's, or another one."""
    return os.environ.get("BOLTSEAL_TEST_BUILDAH") or require("buildah")


def _wait_for_cleanup(folder: str) -> None:
    """A container's monitor cleans up when Podman has ended already, and mounts the storage."""
    for _ in range(200):
        if not any(folder in line for line in _command_lines()):
            return
        time.sleep(0.05)


def _command_lines() -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                yield (entry / "cmdline").read_text(errors="replace")


@contextmanager
def storage() -> Iterator[Storage]:
    """Nothing is left of it."""
    if os.geteuid() != 0:
        missing("containers with overlay file systems need root")
    with tempfile.TemporaryDirectory(prefix="bs", dir="/tmp") as name:
        folder = Path(name)
        (folder / "policy.json").write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
        (folder / "containers.conf").write_text(_CONF)
        try:
            yield Storage(folder)
        finally:
            _wait_for_cleanup(name)
            unmount(name)
