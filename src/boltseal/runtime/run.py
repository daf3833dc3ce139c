"""Run an image once: unpack it, start runc or crun on it, and take everything away again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from boltseal._io import files
from boltseal._io.removal import remove_tree, sweep_trees
from boltseal.errors import NotFoundError, StorageError, UsageError
from boltseal.runtime.unpack.image import unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltseal.image.arguments import Identities
    from boltseal.image.report import Progress
    from boltseal.keywrap.options import KeyOptions
    from boltseal.runtime.bundle import Process
    from boltseal.runtime.unpack.image import UnpackReport
    from boltseal.spec.platform import Platform
    from boltseal.spec.reference import Reference
    from boltseal.transports.registry.options import RegistryOptions

RUNTIMES = ("runc", "crun")
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"  # which users do not have, and runc is in
STOP_SECONDS = 10.0  # how long a container may take to end when it is asked to
_KILL_SECONDS = 5.0  # … and when it is not asked any more
_PREFIX = "boltseal-run-"
_LOCK = "lock"  # a file: a folder that runtimes leave open is a way out of the container


def find_runtime(wanted: str | None, path: str | None, also: str = SYSTEM_PATH) -> str:
    """The program that runs containers, of those on ``path`` (like ``PATH``), then on ``also``.

    Raises NotFoundError when there is none.
    """
    for name in (wanted,) if wanted else RUNTIMES:
        found = shutil.which(name, path=path or "/") or shutil.which(name, path=also)
        if found is not None:
            return found
    if wanted:
        raise NotFoundError(f"there is no program {wanted} to run containers with")
    raise NotFoundError(
        "neither runc nor crun is here, and one of them has to run the container",
        hint="install one: apt-get install runc",
    )


def run(
    source: str | Reference,
    identities: Identities,
    process: Process,
    *,
    runtime: str,
    folder: str,
    platform: str | Platform | None = None,
    rootless: bool = False,
    keys: KeyOptions | None = None,
    registry: RegistryOptions | None = None,
    jobs: int = 3,
    progress: Callable[[Progress], None] | None = None,
    ready: Callable[[UnpackReport], object] | None = None,
) -> int:
    """Unpack an image below ``folder`` and run it with our standard streams; its exit code.

    ``runtime`` is the program; ``ready`` is called before it starts. Container and bundle are
    removed however this ends; what a killed process left is removed by the next run. Raises what
    :func:`unpack` raises.
    """
    with _Home(folder) as home:
        bundle = os.path.join(home.path, "bundle")
        report = unpack(
            source,
            bundle,
            identities,
            platform=platform,
            rootless=rootless,
            process=process,
            keys=keys,
            registry=registry,
            jobs=jobs,
            progress=progress,
        )
        if ready is not None:
            ready(report)
        return _Container(runtime, home, bundle).run()


class _Home:
    """A private folder for one run, locked while anything of it is alive.

    This process holds the lock of the folder, and with the runtime that of a file in it.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.name = files.temporary_name(_PREFIX)
        self.path = os.path.join(os.path.realpath(folder), self.name)
        self._parent_fd = self._fd = self.lock_fd = -1

    def __enter__(self) -> Self:
        try:
            with files.storage_errors(f"making a temporary folder in {self._folder}"):
                try:
                    self._parent_fd = files.open_directory(self._folder, follow=True)
                except (FileNotFoundError, NotADirectoryError):
                    raise UsageError(f"there is no folder {self._folder}") from None
                self._sweep()
                self._fd = files.create_temporary_directory(self.name, self._parent_fd)
                self.lock_fd = files.create_temporary(_LOCK, self._fd)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *details: object) -> None:
        if self._parent_fd < 0:
            return
        try:
            with files.storage_errors(f"removing {self.path}"):
                remove_tree(self.name.encode(), self._parent_fd)
        finally:
            os.close(self._parent_fd)
            self._parent_fd = -1
            for fd in (self.lock_fd, self._fd):
                if fd >= 0:
                    os.close(fd)
            self._fd = self.lock_fd = -1

    def _sweep(self) -> None:
        """Remove what is left of runs that were killed, ours alone."""
        sweep_trees(_PREFIX, self._parent_fd, is_in_use=_is_in_use)


def _is_in_use(fd: int) -> bool:
    """Whether a runtime holds the lock in a folder of a run."""
    try:
        lock_fd = files.open_regular(_LOCK, dir_fd=fd)
    except FileNotFoundError:
        return False
    try:
        return not files.try_lock(lock_fd)
    finally:
        os.close(lock_fd)


class _Container:
    """One container, from its start until nothing is left of it."""

    def __init__(self, runtime: str, home: _Home, bundle: str) -> None:
        # its state lies with the bundle, where no other program looks for it
        self._command = [runtime, "--root", os.path.join(home.path, "state")]
        self._home = home
        self._bundle = bundle
        self._name = home.name

    def run(self) -> int:
        """Start it and wait; the exit code, as a shell counts."""
        command = [*self._command, "run", "--bundle", self._bundle, self._name]
        process: subprocess.Popen[bytes] | None = None
        try:
            try:
                # the runtime keeps the lock as long as it lives, whatever becomes of this process
                process = subprocess.Popen(command, pass_fds=(self._home.lock_fd,))  # noqa: S603
            except OSError as error:
                reason = os.strerror(error.errno or 0).lower()
                raise StorageError(f"{self._command[0]} cannot be started: {reason}") from error
            code = process.wait()
        except BaseException:
            if process is not None:
                self._stop(process)
            raise
        finally:
            self._quietly("delete", "--force", self._name)
        return code if code >= 0 else 128 - code

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        """Ask it to end; then do not ask any more. A second Ctrl-C does not wait."""
        try:
            process.send_signal(signal.SIGTERM)  # which the runtime hands on
            process.wait(STOP_SECONDS)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._quietly("kill", self._name, "KILL")
            with suppress(subprocess.TimeoutExpired):
                process.wait(_KILL_SECONDS)
        finally:
            process.kill()
            process.wait()

    def _quietly(self, *arguments: str) -> None:
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(  # noqa: S603  the program that the user named
                [*self._command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
                timeout=30,
            )
