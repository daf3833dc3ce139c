"""Let GnuPG open a message, and believe nothing of what it puts out before its verdict.

GnuPG's plaintext comes before it has seen the end of a message, and ``gpg --decrypt`` also puts out
what was never encrypted. So it gets messages of the one shape only (:mod:`.packet`), with the
session keys of the keys that are ours, and its status lines have to say that there was one
message, that it was not changed, and that it was read to its end (GnuPG's doc/DETAILS).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from boltseal.errors import KeyServiceError, LimitExceededError, MalformedError
from boltseal.keywrap import tries
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.pgp import gnupg, packet
from boltseal.keywrap.pgp.child import Bounds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boltseal.keywrap.pgp.child import Ended
    from boltseal.keywrap.pgp.gnupg import GnuPG
    from boltseal.keywrap.pgp.packet import Message, SessionKey

MAX_SECRET_BYTES = 64 * 1024  # of what a message wraps
MAX_TRIES = 32  # session keys of one message that GnuPG is asked about
_SECONDS = 600.0  # a human may have to find a card, and to type
_BOUNDS = Bounds(_SECONDS, output=MAX_SECRET_BYTES)

_ONCE = ("BEGIN_DECRYPTION", "PLAINTEXT", "DECRYPTION_OKAY", "GOODMDC", "END_DECRYPTION")
_NEVER = ("BADMDC", "DECRYPTION_FAILED", "NODATA", "UNEXPECTED", "FAILURE", "NEWSIG", "ERRMDC")
_AES = ("7", "8", "9")
_WITH_MDC = "2"

# libgpg-error: the lower 16 bits say what, the bits above 24 who.
_PINENTRY = 5
# checksum error, no secret key, wrong one, bad session key, bad integer, unusable key, bad data
_NO_SECRET = (10, 17, 18, 19, 30, 54, 79, 89)
_BAD_PASSPHRASE = (11, 31, 87)
_NO_TERMINAL = "pinentry cannot ask for the passphrase here"
_WHY = {
    **dict.fromkeys((99, 198), "the question for the passphrase was cancelled"),
    **dict.fromkeys(_BAD_PASSPHRASE, "the passphrase or PIN is wrong"),
    62: "nobody typed the passphrase in time",
    77: "its agent does not run",
    85: "there is no pinentry that could ask for the passphrase",
    86: _NO_TERMINAL,
    108: "the smart card reports an error",
    110: "the smart card was removed",
    112: "the smart card is not there",
    119: "its smart card daemon does not run",
    130: "the smart card's PIN is blocked",
    177: "the key has a passphrase",
    178: "the smart card has a PIN",
}
_HINTS = {
    "its agent does not run": "see what it says: gpg-connect-agent /bye",
    _WHY[85]: "install one: apt-get install pinentry-curses",
    _NO_TERMINAL: "on a terminal run: export GPG_TTY=$(tty); "
    "without one give an exported key: -k FILE:file=PATH",
    _WHY[112]: "insert the card and run it again",
}


class WrongPassphraseError(KeyServiceError):
    """The key is the right one, and its passphrase is not."""


def ours(message: Message, keys: Mapping[str, int]) -> list[SessionKey]:
    """The session keys that one of our ``keys`` (id and algorithm) may open.

    A hidden one may be anybody's: it comes back named for each of our keys, so that GnuPG tries no
    others. Raises NotMyKeyError when there are none, or when the layer has had its tries already;
    LimitExceededError over MAX_TRIES.
    """
    mine = [one for one in message.keys if one.key_id in keys]
    hidden = [one for one in message.keys if one.is_hidden]
    found = [one for one in mine if one.may_be_for(keys[one.key_id])]
    found += [
        one.named(key_id)
        for one in hidden
        for key_id, algorithm in keys.items()
        if one.may_be_for(algorithm)
    ]
    if not found:
        raise NotMyKeyError("it was wrapped for other OpenPGP keys")
    if len(found) > MAX_TRIES:
        raise LimitExceededError(
            f"{packet.WHAT} would have over {MAX_TRIES} session keys tried, which is the limit"
        )
    if tries.may_try(len(found)) < len(found):
        raise NotMyKeyError(
            f"GnuPG is asked about {tries.MAX_TRIES} session keys of a layer at most"
        )
    tries.tried(len(found))
    return found


def decrypt(
    program: GnuPG, message: bytes, arguments: Sequence[str] = (), passphrase: bytes | None = None
) -> bytes:
    """What is in a message of which GnuPG has the secret key.

    Raises NotMyKeyError when it has not, WrongPassphraseError, KeyServiceError for other refusals,
    MalformedError or LimitExceededError for a message that is not as it was written.
    """
    ended = program.run(
        *("--skip-verify", "--max-output", str(MAX_SECRET_BYTES + 1), *arguments, "--output", "-"),
        "--decrypt",
        given=message,
        passphrase=passphrase,
        bounds=_BOUNDS,
    )
    lines = list(gnupg.statuses(ended))
    seen = Counter(keyword for keyword, _ in lines)
    is_good = (
        ended.code == 0
        and all(seen[keyword] == 1 for keyword in _ONCE)
        and not any(seen[keyword] for keyword in _NEVER)
        and all(_is_allowed(rest) for keyword, rest in lines if keyword == "DECRYPTION_INFO")
    )
    if is_good:
        return ended.output
    raise _reason(ended, lines, seen)


def _is_allowed(info: list[str]) -> bool:
    """Whether it was AES with a modification detection code, and no other mode."""
    return info[0] == _WITH_MDC and info[1:2] != [] and info[1] in _AES and info[2:3] in ([], ["0"])


def _reason(ended: Ended, lines: list[tuple[str, list[str]]], seen: Counter[str]) -> Exception:
    if seen["DECRYPTION_INFO"]:  # there was a session key, so the rest is about the message
        return MalformedError(f"{packet.WHAT} was changed, or is not what the format has")
    errors = [
        int(rest[1])
        for keyword, rest in lines
        if keyword == "ERROR" and rest[0].startswith("pkdecrypt")
        if rest[1:2] and rest[1].isdigit()
    ]
    for error in errors:
        code, source = error & 0xFFFF, error >> 24
        why = _WHY.get(code) or (_NO_TERMINAL if source == _PINENTRY else None)
        if why is not None:
            kind = WrongPassphraseError if code in _BAD_PASSPHRASE else KeyServiceError
            return kind(f"GnuPG does not decrypt: {why}", hint=_HINTS.get(why))
    if all(error & 0xFFFF in _NO_SECRET for error in errors) and (errors or seen["NO_SECKEY"]):
        return NotMyKeyError("GnuPG has no secret key that opens it")
    return gnupg.failed("decrypt", ended)
