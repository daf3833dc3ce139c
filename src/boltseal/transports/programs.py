"""``docker-daemon:NAME[:TAG]`` and ``containers-storage:NAME[:TAG]``, by docker and podman.

Their stores are theirs to know: ``save`` and ``load`` are the interface that stays.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from boltseal.errors import NotFoundError, StorageError, UnsupportedError
from boltseal.transports import archive_file
from boltseal.transports.docker_archive import DockerArchiveDestination, DockerArchiveSource

if TYPE_CHECKING:
    from typing import Self

    from boltseal.spec.reference import Reference

PROGRAMS = {"docker-daemon": "docker", "containers-storage": "podman"}
_SAVE = {"docker": ("save",), "podman": ("save", "--format", "docker-archive")}
_MAX_WORDS = 300  # characters of what a program said


def _program(reference: Reference) -> str:
    name = PROGRAMS[reference.transport]
    path = shutil.which(name)
    if path is None:
        raise UnsupportedError(
            f"{reference.transport}: needs {name}, which is not installed",
            hint=f"install {name}, or bring the image by an archive: oci-archive:FILE",
        )
    return path


class ProgramSource(DockerArchiveSource):
    """An image that a program saves."""

    def __enter__(self) -> Self:
        self._fd = archive_file.spool()
        try:
            self._save()
            self._members = self._scan()
            self._check()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _save(self) -> None:
        program = _program(self._reference)
        name = full_name(self._reference)
        command = [program, *_SAVE[os.path.basename(program)], "--", name]
        done = subprocess.run(  # noqa: S603  the user asked for it
            command, stdin=subprocess.DEVNULL, stdout=self._fd, stderr=subprocess.PIPE, check=False
        )
        if done.returncode:
            raise NotFoundError(
                f"{program} does not save {name}: {_words(done.stderr)}",
                hint=f"see what is there: {os.path.basename(program)} images",
            )

    def _chosen(self) -> dict[str, object]:
        return self._images()[0] if len(self._images()) == 1 else super()._chosen()


class ProgramDestination(DockerArchiveDestination):
    """An image that a program loads when it is complete."""

    def __init__(self, reference: Reference) -> None:
        super().__init__(as_archive(reference))
        self._target = LoadTarget(reference)


class LoadTarget:
    """A spool that ends up in a program's standard input."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self.fd = -1

    def open(self) -> None:
        _program(self._reference)
        self.fd = archive_file.spool()

    def finish(self, length: int) -> None:
        os.ftruncate(self.fd, length)
        os.lseek(self.fd, 0, os.SEEK_SET)
        program = _program(self._reference)
        done = subprocess.run(  # noqa: S603  the user asked for it
            [program, "load"], stdin=self.fd, capture_output=True, check=False
        )
        if done.returncode:
            raise StorageError(f"{program} does not load the image: {_words(done.stderr)}")

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def full_name(reference: Reference) -> str:
    """``NAME:TAG`` as both programs take it."""
    return f"{reference.location}:{reference.tag or 'latest'}"


def as_archive(reference: Reference) -> Reference:
    """The archive that is handed on: its image has the whole name."""
    from boltseal.spec.reference import Reference

    return Reference("docker-archive", archive_file.STANDARD, full_name(reference))


def _words(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace").strip().splitlines()
    return text[-1][:_MAX_WORDS] if text else "it does not say why"
