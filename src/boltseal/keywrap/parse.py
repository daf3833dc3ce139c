"""The spellings of keys on a command line, shared with skopeo, podman, buildah and ctr-enc."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, cast

from boltseal.errors import UsageError
from boltseal.keywrap.options import KeyOptions
from boltseal.spec.reference import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from boltseal.keywrap.base import Identity, Recipient
    from boltseal.keywrap.keyring import Keyring

    MakeRecipient = Callable[[str, KeyOptions], Recipient]
    MakeIdentity = Callable[[str, KeyOptions], Identity]

KEY_SERVICES = ("awskms", "gcpkms", "azurekms", "hashivault")

# Where each spelling is understood. A module is imported when its spelling is met: every kind of
# key has libraries of its own, and nobody pays for the others'.
_ROOM = "boltseal.keywrap."
_RECIPIENTS = {
    "jwe": "jwe_files",
    "pkcs7": "pkcs7.keys",
    "pgp": "pgp.keys",
    "pkcs11": "pkcs11.keys",
    "provider": "keyprovider.keys",
    "broker": "broker.keys",
    "pq": "pq.keys",
    **dict.fromkeys(KEY_SERVICES, "kms.keys"),
}
_IDENTITIES = {
    "pgp": "pgp.keys",
    "pkcs11": "pkcs11.keys",
    "provider": "keyprovider.keys",
    "broker": "broker.keys",
    **dict.fromkeys(KEY_SERVICES, "kms.keys"),
}
RECIPIENT_KINDS = (
    "jwe:FILE, pkcs7:CERT, pgp:WHO, pkcs11:FILE, pq:FILE, provider:NAME, broker:URL, "
    "awskms:///…, gcpkms://…, azurekms://… or hashivault://KEY"
)


def parse_recipient(text: str, options: KeyOptions | None = None) -> Recipient:
    """``jwe:FILE``, ``pkcs7:FILE``, ``pgp:WHO``, ``pkcs11:FILE``, ``provider:NAME[:PARAMETER]``,
    ``pq:FILE``, ``broker:https://BROKER/NAME``, ``broker:FILE``, or the URI of a key
    service (``awskms:``, ``gcpkms:``, ``azurekms:``, ``hashivault:``).

    Raises UsageError, KeyFileError, NotFoundError, KeyServiceError or MissingExtraError.
    """
    scheme, _, rest = text.partition(":")
    home = _RECIPIENTS.get(scheme)
    if home is None:
        raise UsageError(
            f"recipient {shown(text)!r} names no protocol",
            hint=_advice(text) or f"write {RECIPIENT_KINDS}",
        )
    if not rest:
        raise UsageError(f"recipient {text!r} names nobody", hint=f"write {RECIPIENT_KINDS}")
    make = cast("MakeRecipient", import_module(_ROOM + home).recipient)
    return make(text if scheme in KEY_SERVICES else rest, options or KeyOptions())


def parse_identity(text: str, options: KeyOptions | None = None) -> Identity:
    """``FILE``, ``FILE:PASSPHRASE``, ``FILE:pass=TEXT``, ``FILE:file=PATH``, ``FILE:fd=N``,
    ``FILE:env=NAME``; ``pgp:[WHO]`` for GnuPG's own keys, ``pkcs11:FILE`` or ``pkcs11:URI``,
    ``provider:NAME[:PARAMETER]``, ``broker:[SETTINGS]``, or the URI of a key service.

    The one identity serves every protocol that the key can be used with. Raises UsageError,
    KeyFileError, NotFoundError, KeyServiceError or MissingExtraError.
    """
    options = options or KeyOptions()
    special = special_identity(text, options)
    if special is not None:
        return special
    from boltseal.keywrap import identity_files

    loaded = identity_files.load(text, options)
    if loaded.identity is None:
        raise identity_files.only_a_certificate(loaded.label)
    return loaded.identity


def parse_keyring(
    values: Iterable[str | os.PathLike[str] | Identity], options: KeyOptions | None = None
) -> Keyring:
    """All of a caller's keys, in order: texts as :func:`parse_identity` reads them, folders with
    keys below them, certificates beside their keys, and Identity objects as they are.

    The keyring's ``notes`` say which files of a folder were no keys.
    """
    from boltseal.keywrap.base import Identity
    from boltseal.keywrap.collect import Collection

    options = options or KeyOptions()
    found = Collection(options)
    for value in values:
        if isinstance(value, (str, os.PathLike)):
            text = os.fspath(value)
            special = special_identity(text, options)
            found.add(special) if special is not None else found.add_path(text)
        elif isinstance(value, Identity):
            found.add(value)
        else:
            raise UsageError(f"{value!r} is not an identity", hint="give a private key's file")
    return found.keyring()


def _advice(path: str) -> str | None:
    """How to name a file that was named without a protocol."""
    if not os.path.isfile(path):
        return f"write awskms:///{path}" if path.startswith("arn:aws") else None
    from boltseal.keywrap import advice, identity_files

    return advice.for_recipient(identity_files.read_key_file(path), path)


def special_identity(text: str, options: KeyOptions) -> Identity | None:
    """An identity that is named by its kind; None when the text is the name of a file."""
    scheme, colon, rest = text.partition(":")
    home = _IDENTITIES.get(scheme)
    if text == "pgp" and not os.path.exists(text):
        home, colon = _IDENTITIES["pgp"], ":"
    if home is not None and colon:
        make = cast("MakeIdentity", import_module(_ROOM + home).identity)
        return make(text if scheme in KEY_SERVICES else rest, options)
    if scheme in _RECIPIENTS and colon and not os.path.exists(scheme):
        raise UsageError(
            f"private keys are named without {scheme}:", hint="write FILE or FILE:pass=TEXT"
        )
    return None
