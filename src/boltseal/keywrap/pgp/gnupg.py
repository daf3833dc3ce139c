"""GnuPG's program: where it is, what it is started with, and what it says on its status lines.

Nothing of the user's ``gpg.conf`` counts, so that what is written has the format's one shape; the
agent, pinentry and smart cards have files of their own, which do count. Nothing is fetched from
anywhere, and no trust database is kept: whoever names a key trusts it.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from boltseal.errors import KeyFileError, KeyServiceError
from boltseal.keywrap.pgp import child
from boltseal.keywrap.pgp.child import Bounds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltseal.keywrap.options import KeyOptions
    from boltseal.keywrap.pgp.child import Ended

_PROGRAMS = ("gpg", "gpg2")
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
_MAX_WORDS = 200  # characters of what GnuPG said
_STATUS = "[GNUPG:] "
_COMPLAINTS = ("error", "failed", "can't")  # in English: LC_MESSAGES is C

# What GnuPG, its agent and pinentry look at. Other variables may hold secrets and are not theirs.
_VARIABLES = (
    *("HOME", "USER", "LOGNAME", "PATH", "LD_LIBRARY_PATH", "GNUPGHOME", "TMPDIR", "TZ"),
    *("GPG_TTY", "TERM", "COLORTERM", "INSIDE_EMACS", "PINENTRY_USER_DATA"),
    *("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XMODIFIERS", "GTK_IM_MODULE", "QT_IM_MODULE"),
    *("XDG_RUNTIME_DIR", "XDG_SESSION_TYPE", "XDG_CONFIG_HOME", "DBUS_SESSION_BUS_ADDRESS"),
    *("QT_QPA_PLATFORM", "SSH_TTY", "SSH_CONNECTION", "LANG", "LC_CTYPE"),
)
_OPTIONS = (
    "--no-options",
    "--batch",
    "--no-tty",
    "--display-charset=utf-8",
    "--trust-model=always",
    "--no-auto-check-trustdb",
    "--no-auto-key-locate",
    "--no-auto-key-retrieve",
    "--disable-dirmngr",
    "--no-random-seed-file",
    "--exit-on-status-write-error",
)
QUICK = Bounds(seconds=60, output=8 * 1024 * 1024, status=1024 * 1024)


@dataclass(frozen=True, slots=True)
class GnuPG:
    """A program and the home that it is to use; None for the one it finds by itself."""

    program: str
    home: str | None = None
    environment: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def run(
        self,
        *arguments: str,
        given: bytes = b"",
        passphrase: bytes | None = None,
        public_key: bytes | None = None,
        bounds: Bounds = QUICK,
    ) -> Ended:
        """Run it; ``public_key`` is a further recipient, outside of any keyring.

        Raises KeyServiceError or LimitExceededError; how it ended is for the caller to judge.
        """
        pipes: list[tuple[str, bytes]] = []
        if passphrase is not None:
            pipes.append(("--passphrase-fd={}", passphrase + b"\n"))
        if public_key is not None:
            pipes.append(("--recipient-file=/dev/fd/{}", public_key))
        home = ("--homedir", self.home) if self.home is not None else ()
        return child.run(
            self.program,
            (*home, *_OPTIONS, *arguments),
            given,
            environment=dict(self.environment),
            bounds=bounds,
            pipes=pipes,
        )


def find(options: KeyOptions, *, home: str | None = None) -> GnuPG:
    """GnuPG as the user has it, or with a ``home`` of ours. Raises KeyServiceError."""
    environment = options.child_environment()
    path = environment.get("PATH") or _DEFAULT_PATH
    for name in _PROGRAMS:
        program = shutil.which(name, path=path)
        if program is not None:
            break
    else:
        raise KeyServiceError(
            "OpenPGP keys need GnuPG, and there is no program gpg on the PATH",
            hint="install it: apt-get install gnupg, dnf install gnupg2 or apk add gnupg",
        )
    passed = {name: environment[name] for name in _VARIABLES if name in environment}
    passed["PATH"] = path
    if "LC_ALL" in environment:  # passphrases keep their encoding, messages are in English
        passed["LC_CTYPE"] = environment["LC_ALL"]
    passed["LC_MESSAGES"] = "C"
    if home is not None:
        passed.pop("GNUPGHOME", None)
    elif options.gnupg_home is not None:
        home = os.path.abspath(options.gnupg_home)
        if not os.path.isdir(home):
            raise KeyFileError(f"GnuPG's home {options.gnupg_home} is not a folder")
    if options.ask is not None and "GPG_TTY" not in passed and (terminal := _terminal()):
        passed["GPG_TTY"] = terminal
    return GnuPG(program, home, tuple(sorted(passed.items())))


def statuses(ended: Ended) -> Iterator[tuple[str, list[str]]]:
    """Keywords and arguments of the status lines."""
    for line in ended.status.decode("utf-8", "replace").split("\n"):
        if line.startswith(_STATUS):
            keyword, _, rest = line[len(_STATUS) :].partition(" ")
            yield keyword, rest.split(" ")


def words(ended: Ended) -> str:
    """What GnuPG said for people, short and printable: its first complaint, or its last line."""
    lines = ended.notes.decode("utf-8", "replace").strip().splitlines()
    if not lines:
        return f"it ended with code {ended.code} and no word"
    complaints = [line for line in lines if any(word in line for word in _COMPLAINTS)]
    return printable((complaints or lines[-1:])[0].removeprefix("gpg: ").strip())[:_MAX_WORDS]


def printable(text: str) -> str:
    """Text from a key or a program, without anything that moves a terminal's cursor."""
    return "".join(char if char.isprintable() else "?" for char in text)


def failed(doing: str, ended: Ended) -> KeyServiceError:
    """GnuPG did not do it, for a reason that is not the caller's to know."""
    return KeyServiceError(f"GnuPG does not {doing}: {words(ended)}")


def _terminal() -> str | None:
    """The terminal on which pinentry can ask, when whoever calls is there to be asked."""
    for number in (0, 1, 2):
        try:
            return os.ttyname(number)
        except OSError:
            continue
    return None
