"""Take secrets out of the process list: what was on the command line, other users can read.

``FILE:pass=…`` and ``--creds USER:PASSWORD`` are there for scripts of other tools, which have them.
Between the start and this there is a moment in which they can be seen, so a file, a descriptor or
the environment stays the better place.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_KEYS = (b"-k", b"--key", b"--decryption-key")
_CREDENTIALS = (b"--creds", b"--src-creds", b"--dest-creds")
_PASSPHRASE = (b"--passphrase",)
# Ways to name a passphrase that hold none, and keys that are not files.
_HARMLESS = (b"file=", b"fd=", b"env=")
_NOT_FILES = re.compile(rb"(?:provider|pgp|pkcs11|awskms|gcpkms|azurekms|hashivault):")
_NAMED = b":pass="
_PIN = re.compile(rb"pin-value=([^&;]+)")
_MAX_ARGUMENTS = 4 << 20  # bytes


def hide_secrets(arguments: Sequence[str]) -> None:
    """Overwrite the secrets among the arguments of this process, where the system allows it."""
    if not any(":" in one or "pass=" in one for one in arguments):
        return
    try:
        with open("/proc/self/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
        start, end = int(fields[45]), int(fields[46])  # arg_start, arg_end (proc(5))
        if not 0 < end - start <= _MAX_ARGUMENTS:
            return
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            raw = memory.read(end - start)
            for at, length in _secrets(raw):
                memory.seek(start + at)
                memory.write(b"x" * length)
    except (OSError, ValueError, IndexError):
        return  # not Linux, or /proc is not there: nothing more can be done


def _secrets(raw: bytes) -> Iterator[tuple[int, int]]:
    """Where in the arguments, which zeros end, a secret is, and how long it is."""
    position = 0
    option = b""
    for word in raw.split(b"\0"):
        name, equals, value = word.partition(b"=")
        if word.startswith(b"--") and equals:
            found = _secret(name, value)
            offset = len(name) + 1
        elif word.startswith(b"-k") and len(word) > 2:
            found, offset = _secret(b"-k", word[2:]), 2
        else:
            found, offset = _secret(option, word), 0
        if found is not None:
            yield position + offset + found[0], found[1]
        option = word
        position += len(word) + 1


def _secret(option: bytes, value: bytes) -> tuple[int, int] | None:
    """Offset and length of the secret in an option's value."""
    if option in _CREDENTIALS:
        at = value.find(b":") + 1
        return (at, len(value) - at) if at else None
    if option in _PASSPHRASE:
        return (5, len(value) - 5) if value.startswith(b"pass=") else None
    return _in_key(value) if option in _KEYS else None


def _in_key(value: bytes) -> tuple[int, int] | None:
    pin = _PIN.search(value)
    if pin is not None:
        return pin.start(1), len(pin.group(1))
    named = value.find(_NAMED)
    if named >= 0:
        return named + len(_NAMED), len(value) - named - len(_NAMED)
    at = value.find(b":") + 1
    if not at or _NOT_FILES.match(value) or value[at:].startswith(_HARMLESS):
        return None
    return at, len(value) - at
