"""What the gate decides by: a small file of TOML, strictly read.

::

    keys = ["/etc/containerd/ocicrypt/keys"]  # as boltseal check -k; and key providers
    plain = "accept"          # images without any encrypted layer; or "refuse"
    unreachable = "refuse"    # when it cannot be told: the registry is down; or "accept"
    seconds = 8               # that one look may take
    exempt = ["registry.k8s.io/*"]  # names of images that are not looked at
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, cast

from boltseal._io import files
from boltseal.errors import IntegrityError, NotFoundError, StorageError, UsageError

PATH = "/etc/boltseal/image-verifier.toml"
MAX_POLICY_BYTES = 64 * 1024
MAX_ENTRIES = 256  # of one list
MAX_SECONDS = 300.0
DEFAULT_SECONDS = 8.0  # containerd gives a verifier 10
_MAX_DOTS = 200  # of one line: the library's memory grows with the square of a key's parts
_LISTS = ("keys", "exempt")
_TEXTS = ("keyprovider-config", "authfile", "cert-dir")
_CHOICES = ("plain", "unreachable")
_NAMES = (*_LISTS, *_TEXTS, *_CHOICES, "seconds", "tls-verify")
_ANSWERS = ("accept", "refuse")

Answer = Literal["accept", "refuse"]


@dataclass(frozen=True, slots=True)
class Policy:
    """Paths are whole ones: whoever calls us has any folder as its own."""

    keys: tuple[str, ...] = ()
    plain: Answer = "accept"
    unreachable: Answer = "refuse"
    seconds: float = DEFAULT_SECONDS
    exempt: tuple[str, ...] = ()
    keyprovider_config: str | None = None
    authfile: str | None = None
    cert_dir: str | None = None
    tls_verify: bool | None = None

    def is_exempt(self, name: str) -> bool:
        """Whether an image of this name is not looked at."""
        return any(fnmatchcase(name, pattern) for pattern in self.exempt)


def read(path: str) -> Policy:
    """The policy in a file. Raises UsageError, NotFoundError or StorageError.

    A file that somebody else may write decides nothing.
    """
    try:
        fd = files.open_regular(path, follow=True)
    except FileNotFoundError:
        raise NotFoundError(f"configuration {path} does not exist") from None
    except IntegrityError as error:
        raise UsageError(error.message) from None
    except OSError as error:
        raise StorageError(f"{path}: {os.strerror(error.errno or 0).lower()}") from None
    try:
        info = os.fstat(fd)
        with files.storage_errors(f"reading {path}"):
            raw = files.read_bounded(fd, path, max_bytes=MAX_POLICY_BYTES)
    except IntegrityError as error:
        raise UsageError(error.message) from None
    finally:
        os.close(fd)
    if info.st_mode & 0o022 or info.st_uid not in (0, os.geteuid()):
        raise UsageError(
            f"somebody else may change {path}", hint=f"chown root {path}; chmod 0644 {path}"
        )
    return parse(raw, path)


def parse(raw: bytes, path: str) -> Policy:
    """Raises UsageError for anything that is not known."""
    document = _document(raw, path)
    unknown = sorted(document.keys() - set(_NAMES))
    if unknown:
        raise UsageError(f"{path} has the unknown name {unknown[0][:80]!r}", hint=_known())
    found: dict[str, Any] = {}
    for name in _LISTS:
        found[name] = _list(document.get(name, []), f"{path}: {name}")
    for name in _TEXTS:
        value = document.get(name)
        if value is not None and (not isinstance(value, str) or not os.path.isabs(value)):
            raise UsageError(f"{path}: {name} is not a whole path")
        found[name.replace("-", "_")] = value
    for name in _CHOICES:
        if name in document:
            if document[name] not in _ANSWERS:
                raise UsageError(f"{path}: {name} is neither accept nor refuse")
            found[name] = cast("Answer", document[name])
    if not found["keys"]:
        raise UsageError(
            f"{path} names no keys", hint='write keys = ["/etc/containerd/ocicrypt/keys"]'
        )
    verify = document.get("tls-verify")
    if not isinstance(verify, bool | None):
        raise UsageError(f"{path}: tls-verify is neither true nor false")
    return Policy(**found, seconds=_seconds(document, path), tls_verify=verify)


def _seconds(document: dict[str, Any], path: str) -> float:
    seconds = document.get("seconds", DEFAULT_SECONDS)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise UsageError(f"{path}: seconds is not a number")
    if not 0 < seconds <= MAX_SECONDS:
        raise UsageError(f"{path}: seconds is between 0 and {MAX_SECONDS:g}")
    return float(seconds)


def _document(raw: bytes, path: str) -> dict[str, Any]:
    if any(line.count(b".") > _MAX_DOTS for line in raw.split(b"\n")):
        raise UsageError(f"{path} has a line with over {_MAX_DOTS} dots")
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):  # of either library, or a number that is too long
        raise UsageError(f"{path} is not valid TOML") from None


def _list(value: Any, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise UsageError(f"{what} is not a list of texts")
    if len(value) > MAX_ENTRIES:
        raise UsageError(f"{what} has more than {MAX_ENTRIES} entries")
    return tuple(value)


def _known() -> str:
    return f"known are {', '.join(sorted(_NAMES))}"
