"""GnuPG, for OpenPGP keys: the program, its version, its agent and its home."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from boltseal.runtime.doctor.finding import Subject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltseal.runtime.doctor.finding import Finding
    from boltseal.runtime.doctor.host import Host

SUBJECT = Subject("gnupg")
_VERSION = re.compile(r"\(GnuPG[^)]*\) (\d+)\.(\d+)\.(\d+)")
_FIRST = (2, 1)  # the version that has an agent of today's kind
_INSTALL = "install it: apt-get install gnupg, dnf install gnupg2 or apk add gnupg"


def checks(host: Host) -> Iterator[Finding]:
    """Not there is no failure: only OpenPGP keys need it."""
    program = host.which("gpg") or host.which("gpg2")
    if program is None:
        yield SUBJECT.absent("gpg", "there is no gpg: OpenPGP keys cannot be used", _INSTALL)
        return
    yield _version(host, program)
    agent = host.which("gpg-agent")
    if agent is None:
        yield SUBJECT.fail("agent", "there is no gpg-agent, and it has the secret keys", _INSTALL)
    else:
        yield SUBJECT.ok("agent", agent)
    yield from _home(host)


def _version(host: Host, program: str) -> Finding:
    said = host.run([program, "--version"])
    if said is None and not host.is_here:
        return SUBJECT.ok("gpg", f"{program} (not started)")
    found = _VERSION.search(said.out) if said is not None and said.code == 0 else None
    if found is None:
        return SUBJECT.fail("gpg", f"{program} does not say which version it is", _INSTALL)
    text = ".".join(found.groups())
    if (int(found.group(1)), int(found.group(2))) < _FIRST:
        return SUBJECT.fail("gpg", f"{program} is GnuPG {text}, which is too old", _INSTALL)
    return SUBJECT.ok("gpg", f"{program} {text}")


def _home(host: Host) -> Iterator[Finding]:
    environment = host.keys.environment
    home = host.keys.gnupg_home or (environment.get("GNUPGHOME") if host.is_here else None)
    if not home:
        user = environment.get("HOME") if host.is_here else None
        home = os.path.join(user or "/root", ".gnupg")
        if not os.path.isdir(host.place(home)):
            yield SUBJECT.absent("home", f"{home} does not exist: there is no keyring yet")
            return
    place = host.place(home)
    try:
        info = os.stat(place)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        yield SUBJECT.fail("home", f"{home}: {reason}", "name another one with --gnupg-home")
        return
    if info.st_mode & 0o077:
        yield SUBJECT.fail("home", f"others may look into {home}", f"chmod 0700 {home}")
    elif info.st_uid not in (0, os.geteuid()):
        yield SUBJECT.fail(
            "home", f"{home} belongs to the user {info.st_uid}", "name another with --gnupg-home"
        )
    else:
        yield SUBJECT.ok("home", f"{home} is for its owner alone")
