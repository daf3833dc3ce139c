"""Take secrets out of the process list: what was on the command line, other users can read.

``FILE:pass=…`` and ``--creds USER:PASSWORD`` are there for scripts of other tools, which have them.
Between the start and this there is a moment in which they can be seen, so a file, a descriptor or
the environment stays the better place. Where it is not clear whether something is a secret, it is
taken for one: all that is lost is a word that ``ps`` could have shown.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_KEYS = (b"-k", b"--key", b"--decryption-key")
_RECIPIENTS = (b"-r", b"--recipient", b"--encryption-key")
_CREDENTIALS = (b"--creds", b"--src-creds", b"--dest-creds")
_NO_KEYS = (*_CREDENTIALS, b"--image")  # options of key show whose values may have a colon
_PASSPHRASE = (b"--passphrase",)
_GLUED = re.compile(rb"-q*([kr])(?=.)", re.DOTALL)  # -kKEY, and -qkKEY
# Ways to name a passphrase that hold none, and keys that are not files.
_HARMLESS = (b"file=", b"fd=", b"env=")
_NOT_FILES = re.compile(rb"(?:provider|broker|pgp|awskms|gcpkms|azurekms|hashivault):")
_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,63}=")  # of a recipient of a key provider
_FILES = re.compile(rb"(?:jwe|pkcs7|pkcs11|pq):")  # what goes before a file
_URI = re.compile(rb"[a-z-]+=|\?")  # behind pkcs11:
# These are secrets wherever they are.
_ANYWHERE = re.compile(rb":pass=(.+)|pin-value=([^&]+)", re.DOTALL)
_MAX_ARGUMENTS = 4 << 20  # bytes


def hide_secrets(arguments: Sequence[str]) -> None:
    """Overwrite the secrets among the arguments of this process, where the system allows it."""
    if not any(":" in one or "pass=" in one or "pin-value=" in one for one in arguments):
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
            for at, length in secrets_in(raw):
                memory.seek(start + at)
                memory.write(b"x" * length)
    except (OSError, ValueError, IndexError):
        return  # not Linux, or /proc is not there: nothing more can be done


def secrets_in(raw: bytes) -> Iterator[tuple[int, int]]:
    """Where in the arguments, which zeros end, secrets are, and how long they are."""
    position = 0
    option = b""
    words = raw.split(b"\0")
    shows_key = _key_show(words)
    for number, word in enumerate(words):
        for found in _ANYWHERE.finditer(word):
            at, behind = found.span(found.lastindex or 0)
            yield position + at, behind - at
        name, equals, _ = word.partition(b"=")
        glued = _GLUED.match(word)
        if word.startswith(b"--") and equals:
            at = len(name) + 1
        elif glued:
            name, at = b"-" + glued[1], glued.end()
        else:
            name, at = option, 0
        is_option = word.startswith(b"-") and b"--" not in words[:number]
        if number > shows_key and not is_option and name not in _NO_KEYS:
            name = b"--key"  # key show FILE:TEXT
        begin = _secret(name, word[at:])
        if begin is not None:
            yield position + at + begin, len(word) - at - begin
        bundle = re.fullmatch(rb"-q+([kr])", word)  # -qk KEY
        option = b"-" + bundle[1] if bundle else word
        position += len(word) + 1


def _key_show(words: Sequence[bytes]) -> int:
    """Behind which word the positional argument of ``key show`` comes; the end if it does not."""
    for number, word in enumerate(words):
        if word == b"show" and b"key" in words[:number]:
            return number
    return len(words)


def _secret(option: bytes, value: bytes) -> int | None:
    """Where in an option's value the secret begins, which ends with it."""
    if option in _CREDENTIALS:
        return value.find(b":") + 1 or None
    if option in _PASSPHRASE:
        return len(b"pass=") if value.startswith(b"pass=") else None
    if option in _KEYS:
        return _in_key(value, 0)
    if option in _RECIPIENTS:
        named = _NAME.match(value)
        return _in_key(value, named.end() if named else 0)
    return None


def _in_key(value: bytes, begin: int) -> int | None:
    """The same for what a key or a recipient is called, which begins at ``begin``."""
    if _NOT_FILES.match(value, begin):
        return None
    kind = _FILES.match(value, begin)
    begin = kind.end() if kind else begin
    if kind and kind[0] == b"pkcs11:" and _URI.match(value, begin):
        return None
    at = value.find(b":", begin) + 1
    if not at or value.startswith((*_HARMLESS, b"pass="), at):  # the latter is hidden anywhere
        return None
    return at
