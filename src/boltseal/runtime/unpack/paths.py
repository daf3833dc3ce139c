"""Names in an archive, taken apart: nothing but plain components of bounded length is left."""

from __future__ import annotations

from boltseal.errors import LimitExceededError, MalformedError

MAX_DEPTH = 128  # folders inside folders
MAX_COMPONENT_BYTES = 255  # bytes of one name; what Linux's file systems take

Path = tuple[bytes, ...]


def split(name: str, what: str = "a name") -> Path:
    """The components of a name, from the root of the tree.

    A slash in front means that root, as it does for every reader; ``..`` is never right.
    Raises MalformedError or LimitExceededError.
    """
    parts = name.encode("utf-8", "surrogateescape").split(b"/")
    path = tuple(part for part in parts if part not in (b"", b"."))
    if b".." in path:
        raise MalformedError(f"the archive has {what} that leads out of the tree: {name[:200]!r}")
    check(path, name)
    return path


def check(path: Path, name: str) -> None:
    """Raises LimitExceededError for what is too deep or too long."""
    if len(path) > MAX_DEPTH:
        raise LimitExceededError(
            f"the archive has a folder deeper than the limit of {MAX_DEPTH}: {name[:200]!r}"
        )
    for part in path:
        if len(part) > MAX_COMPONENT_BYTES:
            raise LimitExceededError(
                f"the archive has a name longer than the limit of {MAX_COMPONENT_BYTES} bytes: "
                f"{name[:200]!r}"
            )
        if b"\0" in part:
            raise MalformedError(f"the archive has a name with a zero byte: {name[:200]!r}")


def shown(path: Path) -> str:
    """A path for messages."""
    return "/" + b"/".join(path).decode("utf-8", "replace")[:200]
