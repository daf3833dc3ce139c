"""Where keys come from: a folder, or a program that knows them.

A listing is whole or it is an error. Half of one would look like keys that were withdrawn.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal._io import b64, program, strictjson
from boltseal.errors import (
    KeyServiceError,
    LimitExceededError,
    MalformedError,
    StorageError,
    UsageError,
)
from boltseal.keywrap import identity_files, keydir
from boltseal.spec.limits import MAX_KEY_FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

COMMAND = "command:"
MAX_ANSWER_BYTES = 16 * 1024 * 1024  # of a program's list of keys
MAX_COMPLAINT_BYTES = 8 * 1024  # kept of what it says on standard error
MAX_SECONDS = 60.0  # that a program is waited for
MAX_NAME_BYTES = 200
_NAME = re.compile(r"[\w@+=,-][\w.@+=, -]*")
_FORM = 'it prints {"keys": {"prod.pem": "BASE64 OF THE FILE"}}'
_PATH_MARK = "__"  # stands for a slash


@dataclass(frozen=True, slots=True)
class Listing:
    """The keys by the name of their file, and files that are none, with the reason."""

    keys: Mapping[str, bytes]
    skipped: tuple[tuple[str, str], ...] = ()


def read(source: str, environment: Mapping[str, str]) -> Listing:
    """Every key of ``DIR`` or ``command:PROGRAM``.

    Raises StorageError or KeyServiceError when anything of it cannot be read.
    """
    if source.startswith(COMMAND):
        return _of_program(source.removeprefix(COMMAND), environment)
    return _of_folder(source)


def _of_folder(folder: str) -> Listing:
    """Links inside the folder are followed: Kubernetes mounts a secret as nothing else."""
    if not os.path.isdir(folder):
        raise StorageError(f"there is no folder {folder} to take keys from")
    found: list[tuple[str, bytes]] = []
    for one in keydir.walk(folder):
        name = os.path.relpath(one.path, folder)
        if one.problem is not None:
            raise StorageError(f"{one.path} cannot be read as a key: {one.problem}")
        if not name.startswith(".."):  # what Kubernetes' links lead to
            found.append((name.replace(os.sep, _PATH_MARK), one.content))
    return _sorted_out(found)


def _of_program(path: str, environment: Mapping[str, str]) -> Listing:
    """It answers ``{"keys": {NAME: BASE64}}`` and exits with 0; anything else is a failure."""
    if not os.path.isabs(path):
        raise UsageError("a program that knows keys is named with its whole path")
    try:
        ended = program.run(
            [path],
            b"",
            environment=environment,
            seconds=MAX_SECONDS,
            output=program.Bound(MAX_ANSWER_BYTES),
            errors=program.Bound(MAX_COMPLAINT_BYTES, is_cut=True),
        )
    except program.NotStartedError as error:
        raise KeyServiceError(f"{path} cannot be started: {error.reason}") from None
    except program.TooSlowError:
        raise KeyServiceError(f"{path} did not answer within {MAX_SECONDS:g} seconds") from None
    except program.TooMuchError as error:
        raise KeyServiceError(f"{path} answered with over {error.limit} bytes") from None
    if ended.code != 0:
        said = ended.errors.decode("utf-8", "replace").strip()[:300]
        raise KeyServiceError(f"{path} failed with code {ended.code}: {said or 'it says nothing'}")
    what = f"the answer of {path}"
    try:
        document = strictjson.load_object(ended.output, what, max_bytes=MAX_ANSWER_BYTES)
    except MalformedError as error:
        raise MalformedError(error.message, hint=_FORM) from None
    keys = document.get("keys")
    if not isinstance(keys, dict) or not all(isinstance(one, str) for one in keys.values()):
        raise MalformedError(f"{what} has no object of keys in base64", hint=_FORM)
    return _sorted_out([(name, b64.decode(text, what)) for name, text in keys.items()])


def _sorted_out(found: Iterable[tuple[str, bytes]]) -> Listing:
    keys: dict[str, bytes] = {}
    skipped: list[tuple[str, str]] = []
    for name, content in found:
        if not _NAME.fullmatch(name) or len(name.encode()) > MAX_NAME_BYTES:
            skipped.append((name, "its name is not one that every runtime reads"))
        elif len(content) > MAX_KEY_FILE_BYTES:
            skipped.append((name, f"it is larger than {MAX_KEY_FILE_BYTES} bytes"))
        elif not identity_files.looks_like_one(content):
            skipped.append((name, "it is neither a private key nor a certificate"))
        elif name in keys:
            raise MalformedError(f"two files would both be called {name}")
        else:
            keys[name] = content
        if len(keys) > keydir.MAX_FILES:
            raise LimitExceededError(f"there are more than the limit of {keydir.MAX_FILES} keys")
    return Listing(keys, tuple(skipped))
