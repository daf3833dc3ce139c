"""The host itself: its clock, the programs that start containers, room for layers, packages."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING

from boltseal.runtime.doctor.finding import Subject

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boltseal.runtime.doctor.finding import Finding
    from boltseal.runtime.doctor.host import Host

SUBJECT = Subject("host")
SPOOL = "/var/tmp"  # noqa: S108  where a large layer waits, encrypted, in a file without a name
MIN_FREE_BYTES = 2 * 1024**3  # below it a warning: a layer of that size is not unusual
_FIRST_DAY = datetime(2025, 1, 1, tzinfo=UTC)  # Boltseal is younger
_LAST_DAY = datetime(2100, 1, 1, tzinfo=UTC)
_TOLERANCE = timedelta(days=1)
_EXTRAS = {
    "grpc": ("grpc", "key providers that are gRPC services"),
    "aws": ("boto3", "keys in AWS KMS"),
    "gcp": ("google.cloud.kms", "keys in Google Cloud KMS"),
    "azure": ("azure.keyvault.keys", "keys in Azure Key Vault"),
    "vault": ("hvac", "keys in Vault"),
    "watch": ("watchfiles", "boltseal keys sync --watch"),
}


def checks(host: Host, witnesses: Sequence[str], *, has_runtime: bool) -> Iterator[Finding]:
    """``witnesses`` are files whose times say that it cannot be earlier."""
    yield _clock(host, witnesses)
    yield from _starters(host, has_runtime=has_runtime)
    yield _spool(host)
    if host.is_here:
        yield from _extras()


def _clock(host: Host, witnesses: Sequence[str]) -> Finding:
    set_it = "set the clock (timedatectl set-ntp true): certificates and logins depend on it"
    day = f"{host.now:%Y-%m-%d %H:%M} UTC"
    if not _FIRST_DAY <= host.now <= _LAST_DAY:
        return SUBJECT.fail("clock", f"it says {day}", set_it)
    for path in witnesses:
        try:
            changed = datetime.fromtimestamp(os.stat(path).st_mtime, UTC)
        except (OSError, ValueError, OverflowError):
            continue
        if changed > host.now + _TOLERANCE:
            return SUBJECT.fail(
                "clock", f"it says {day}, and {path} was changed on {changed:%Y-%m-%d}", set_it
            )
    return SUBJECT.ok("clock", day)


def _starters(host: Host, *, has_runtime: bool) -> Iterator[Finding]:
    found = {name: host.which(name) for name in ("runc", "crun")}
    for name, path in found.items():
        if path is not None:
            yield SUBJECT.ok(name, path)
    if not any(found.values()):
        message = "neither runc nor crun is there: nothing can start a container"
        install = "apt-get install runc, or crun"
        if has_runtime:
            yield SUBJECT.fail("runc", message, install)
        else:
            yield SUBJECT.absent("runc", message, install)


def _spool(host: Host) -> Finding:
    folder = (host.keys.environment.get("TMPDIR") if host.is_here else None) or SPOOL
    place = host.place(folder)
    check = "room for layers"
    try:
        info = os.stat(place)
        room = os.statvfs(place)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        return SUBJECT.fail(
            check, f"{folder}: {reason}", f"install -d -m 1777 {folder}, or set TMPDIR"
        )
    if not stat.S_ISDIR(info.st_mode):
        return SUBJECT.fail(check, f"{folder} is not a folder", "set TMPDIR to one")
    if info.st_mode & stat.S_IWOTH and not info.st_mode & stat.S_ISVTX:
        return SUBJECT.fail(
            check, f"in {folder} everybody may remove others' files", f"chmod 1777 {folder}"
        )
    free = room.f_bavail * room.f_frsize
    if free < MIN_FREE_BYTES:
        return SUBJECT.warn(
            check,
            f"{folder} has {free // 1024**2} MiB left, and layers wait there to be checked",
            "free some space, or set TMPDIR for the runtime",
        )
    return SUBJECT.ok(check, f"{folder} has {free // 1024**3} GiB left")


def _extras() -> Iterator[Finding]:
    for extra, (module, purpose) in _EXTRAS.items():
        if not _is_there(module):
            yield SUBJECT.absent(
                f"package for {extra}",
                f"not installed: {purpose} cannot be used",
                f"pip install 'boltseal[{extra}]'",
            )


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
