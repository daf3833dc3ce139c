"""Temporary folders whose owner and whose sweepers meet at every moment."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Any

import pytest

from boltseal._io import files
from boltseal._io.files import create_temporary_directory, open_directory, sweep_temporaries
from boltseal.errors import StorageError
from boltseal.keywrap.pgp import home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "boltseal-gpg-0123"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    fd = open_directory(str(tmp_path))
    yield fd
    os.close(fd)


def once(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> Callable[[Any, Any], None]:
    """Do something before and after the first call of a function."""
    real = getattr(module, name)

    def meet(before: Callable[[], None], after: Callable[[], None]) -> None:
        def call(*args: Any, **more: Any) -> Any:
            monkeypatch.setattr(module, name, real)
            before()
            result = real(*args, **more)
            after()
            return result

        monkeypatch.setattr(module, name, call)

    return meet


def nothing() -> None:
    """The other side of a moment."""


@pytest.mark.parametrize("moment", ["made", "opened"])
def test_a_folder_that_is_swept_before_it_is_locked(
    tmp_path: Path, folder: int, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def sweep() -> None:
        sweep_temporaries("boltseal-gpg-", folder)
        assert not (tmp_path / NAME).exists(), "the test sweeps in the right moment"

    if moment == "made":
        once(monkeypatch, os, "mkdir")(nothing, sweep)
    else:
        once(monkeypatch, fcntl, "flock")(sweep, nothing)
    fd = create_temporary_directory(NAME, folder)
    (tmp_path / NAME / "inside").write_bytes(b"")
    sweep_temporaries("boltseal-gpg-", folder)
    assert os.listdir(fd) == ["inside"], "it is there, it is ours, and it is locked"
    os.close(fd)
    sweep_temporaries("boltseal-gpg-", folder)
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize("sweeper", ["files", "gnupg"])
def test_a_sweeper_that_comes_late(
    tmp_path: Path, folder: int, monkeypatch: pytest.MonkeyPatch, sweeper: str
) -> None:
    """What it has opened is swept by another, and made again by its owner, before it locks."""
    (tmp_path / NAME).mkdir(mode=0o700)
    made: list[int] = []

    def again() -> None:
        sweep_temporaries("boltseal-gpg-", folder)
        made.append(create_temporary_directory(NAME, folder))

    once(monkeypatch, fcntl, "flock")(again, nothing)
    if sweeper == "files":
        sweep_temporaries("boltseal-gpg-", folder)
    else:
        home._sweep(str(tmp_path), folder, "/nowhere/gpg")
    assert made
    assert files.is_named(NAME, made[0], folder)
    os.close(made[0])
    home._sweep(str(tmp_path), folder, "/nowhere/gpg")
    assert not (tmp_path / NAME).exists()


def test_somebody_elses_folder_is_not_entered(
    tmp_path: Path, folder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    once(monkeypatch, os, "mkdir")(nothing, lambda: (tmp_path / NAME).chmod(0o755))
    with pytest.raises(StorageError, match="somebody else replaced"):
        create_temporary_directory(NAME, folder)
