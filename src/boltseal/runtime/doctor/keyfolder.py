"""A folder of keys that a runtime reads: who may look into it, and what its files are good for."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal.errors import BoltsealError, KeyFileError, LimitExceededError
from boltseal.keywrap import identity_files, keydir
from boltseal.keywrap.options import KeyOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography import x509

    from boltseal.keywrap.base import Identity
    from boltseal.runtime.doctor.finding import Finding, Subject
    from boltseal.runtime.doctor.host import Host

MAX_TOLD = 40  # files of one folder that something is told about
_CHECK = "keys folder"


def checks(host: Host, subject: Subject, folder: str, *, takes_links: bool) -> Iterator[Finding]:
    """The folder and every file in it. ``takes_links``: whoever reads it follows links inside."""
    place = host.place(folder)
    try:
        info = os.stat(place)
    except FileNotFoundError:
        yield subject.fail(
            _CHECK,
            f"{folder} does not exist",
            f"install -d -m 0700 {folder}, and put keys into it (boltseal keys sync)",
        )
        return
    except OSError as error:
        yield subject.fail(_CHECK, f"{folder}: {_reason(error)}", _AS_ROOT)
        return
    if not stat.S_ISDIR(info.st_mode):
        yield subject.fail(_CHECK, f"{folder} is not a folder", f"put the key into {folder}/")
        return
    yield from _folder(subject, folder, info)
    yield from _files(host, subject, folder, place, takes_links=takes_links)


_AS_ROOT = "run boltseal doctor as root, as the runtime runs"


def _folder(subject: Subject, folder: str, info: os.stat_result) -> Iterator[Finding]:
    check = f"{_CHECK}'s permissions"
    fix = f"chown root {folder}; chmod 0700 {folder}"
    if info.st_uid not in (0, os.geteuid()):
        yield subject.fail(check, f"{folder} belongs to the user {info.st_uid}", fix)
    elif info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield subject.fail(check, f"others may put keys into {folder}", fix)
    elif info.st_mode & 0o077:
        yield subject.warn(check, f"others may look into {folder}", fix)
    else:
        yield subject.ok(check, f"{folder} is for its owner alone")


@dataclass(slots=True)
class _Seen:
    """What was found so far in one folder."""

    keys: dict[str, Identity]
    certificates: dict[str, tuple[x509.Certificate, ...]]
    told: int = 0


def _files(
    host: Host, subject: Subject, folder: str, place: str, *, takes_links: bool
) -> Iterator[Finding]:
    seen = _Seen({}, {})
    try:
        for file in keydir.walk(place):
            name = _name(host, folder, place, file.path)
            for finding in _file(host, subject, name, file, seen, takes_links=takes_links):
                seen.told += 1
                if seen.told <= MAX_TOLD:
                    yield finding
    except LimitExceededError as error:
        yield subject.fail(_CHECK, error.message, f"leave nothing but keys in {folder}")
        return
    except BoltsealError as error:
        yield subject.fail(_CHECK, error.message, _AS_ROOT)
        return
    if seen.told > MAX_TOLD:
        yield subject.warn(
            _CHECK, f"and {seen.told - MAX_TOLD} more about files of {folder}", "mend these first"
        )
    yield from _certificates(host, subject, seen)
    if seen.keys:
        count = f"{len(seen.keys)} keys" if len(seen.keys) > 1 else "one key"
        yield subject.ok(_CHECK, f"{folder} has {count} that can be used")
    else:
        yield subject.fail(
            _CHECK,
            f"{folder} has no key that can be used",
            f"boltseal keys sync --source DIR --dest {folder}, or copy a private key into it",
        )


def first_link(place: str) -> str | None:
    """A link among the files of a folder: for it CRI-O and imgcrypt's program take none of them."""
    try:
        return next((one.path for one in keydir.walk(place) if os.path.islink(one.path)), None)
    except BoltsealError:
        return None  # told by whoever reads the folder


def _name(host: Host, folder: str, place: str, path: str) -> str:
    """How the host calls a file that we found below ``place``."""
    return os.path.join(folder, os.path.relpath(path, place)) if not host.is_here else path


def _file(
    host: Host,
    subject: Subject,
    name: str,
    file: keydir.Found,
    seen: _Seen,
    *,
    takes_links: bool,
) -> Iterator[Finding]:
    check = f"key {os.path.basename(name)}"
    if file.problem is not None:
        fix = f"copy the key itself to {name}" if "link" in file.problem else f"remove {name}"
        fix = _AS_ROOT if "permission" in file.problem else fix
        yield subject.fail(check, f"{name}: {file.problem}", fix)
        return
    if os.path.islink(file.path) and not takes_links:
        yield subject.fail(
            check,
            f"{name} is a symbolic link, which the program that reads the folder refuses",
            f"copy the key itself to {name} (boltseal keys sync does)",
        )
        return
    asked: list[str] = []

    def nobody() -> bytes | None:
        asked.append(name)  # a runtime has nobody to ask for a passphrase
        return None

    try:
        options = KeyOptions(environment=host.keys.environment)
        loaded = identity_files.load_bytes(file.content, name, nobody, options)
    except BoltsealError as error:
        yield _unusable(subject, check, name, file.content, None if asked else error)
        return
    if loaded.certificates:
        seen.certificates[name] = loaded.certificates
    if loaded.identity is not None:
        seen.keys[name] = loaded.identity
        yield from _permissions(subject, check, name, os.stat(file.path))


def _unusable(
    subject: Subject, check: str, name: str, content: bytes, error: BoltsealError | None
) -> Finding:
    """``error`` is why a file cannot be used; None for the lack of a passphrase."""
    if _is_public(content, name):
        return subject.fail(
            check,
            f"{name} is a public key, and opening takes the private one",
            f"put the private key there instead, and remove {name}",
        )
    if error is None:
        return subject.fail(
            check,
            f"{name} is locked with a passphrase, and nobody is there to be asked",
            "store it without one (openssl pkey -in KEY -out FILE), or use a token or key provider",
        )
    if not identity_files.looks_like_one(content):
        return subject.warn(
            check, f"{name} is no key", f"remove {name}: runtimes take every file for a key"
        )
    message = error.message.replace(f"{name}: ", "").replace(name, "it")
    return subject.fail(check, f"{name}: {message}", error.hint or f"replace or remove {name}")


def _is_public(content: bytes, name: str) -> bool:
    from boltseal.keywrap.keyfiles import load_public
    from boltseal.keywrap.pq import hybrid

    if hybrid.load_public(content) is not None:
        return True
    if content.startswith(b"-----BEGIN PGP PUBLIC KEY BLOCK-----"):
        return True
    if b"PRIVATE KEY" in content or b'"d"' in content:
        return False
    try:
        load_public(content, name)
    except KeyFileError:
        return False
    return True


def _permissions(
    subject: Subject, check: str, name: str, info: os.stat_result
) -> Iterator[Finding]:
    fix = f"chown root {name}; chmod 0600 {name} (for a mounted secret: defaultMode: 0400)"
    if info.st_uid not in (0, os.geteuid()):
        yield subject.fail(check, f"{name} belongs to the user {info.st_uid}", fix)
    elif info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield subject.fail(check, f"others may change {name}", fix)
    elif info.st_mode & (stat.S_IRGRP | stat.S_IROTH):
        yield subject.fail(check, f"others may read the private key {name}", fix)


def _certificates(host: Host, subject: Subject, seen: _Seen) -> Iterator[Finding]:
    for name, chain in seen.certificates.items():
        check = f"certificate {os.path.basename(name)}"
        first = chain[0]
        if host.now > first.not_valid_after_utc:
            yield subject.warn(
                check,
                f"the certificate in {name} expired on {first.not_valid_after_utc.date()}: nobody "
                "can encrypt for it any more",
                "put a renewed certificate of the same key there",
            )
        elif host.now < first.not_valid_before_utc:
            yield subject.warn(
                check,
                f"the certificate in {name} is valid from {first.not_valid_before_utc.date()} on",
                "see whether the clock is right",
            )
        if not any(_fits(key, first) for key in seen.keys.values()):
            yield subject.warn(
                check,
                f"{name} is a certificate, and no key in the folder is its own",
                "put its private key beside it, or remove it",
            )


def _fits(identity: Identity, certificate: x509.Certificate) -> bool:
    """Whether a certificate is of this key."""
    from cryptography.hazmat.primitives.serialization import Encoding

    from boltseal.keywrap.jwe import JweIdentity
    from boltseal.keywrap.keyfiles import load_public

    try:
        wanted = load_public(certificate.public_bytes(Encoding.DER), "the certificate").thumbprint
    except KeyFileError:
        return False
    members = getattr(identity, "members", (identity,))
    return any(isinstance(one, JweIdentity) and one.key.thumbprint == wanted for one in members)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()
