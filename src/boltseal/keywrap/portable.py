"""Recipients as plain data, for a process on another machine.

Public keys travel as they are. What a recipient only names is found again over there: a key in
GnuPG's keyring, a key provider, a key service. Private keys have no such form.
"""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

from boltseal._io import b64
from boltseal.errors import KeyFileError, MalformedError, UsageError
from boltseal.jose import jwk
from boltseal.keywrap.parse import parse_recipient

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import rsa

    from boltseal.keywrap.base import Recipient
    from boltseal.keywrap.options import KeyOptions


def to_plain(recipient: Recipient) -> dict[str, Any]:
    """What :func:`from_plain` makes the same recipient of.

    One that is not Boltseal's own is taken as it is. Raises UsageError when that cannot be sent.
    """
    return {"name": recipient.describe(), **(_keys(recipient) or _names(recipient))}


def _keys(recipient: Recipient) -> dict[str, Any]:
    from boltseal.keywrap.broker import public
    from boltseal.keywrap.broker.keys import BrokerRecipient
    from boltseal.keywrap.jwe import JweRecipient
    from boltseal.keywrap.pkcs7.keys import Pkcs7Recipient
    from boltseal.keywrap.pkcs11.keys import Pkcs11Recipient
    from boltseal.keywrap.pq.keys import HybridRecipient

    if isinstance(recipient, JweRecipient):
        key = json.loads(recipient.key.jwk.export_public())
        key |= {"alg": recipient.key.algorithm} if recipient.key.algorithm else {}
        return {"kind": "jwe", "key": json.dumps(key), "with_kid": recipient.with_kid}
    if isinstance(recipient, HybridRecipient):
        return {
            "kind": "pq",
            "key": b64.encode(recipient.key.raw),
            "with_kid": recipient.with_kid,
        }
    if isinstance(recipient, BrokerRecipient):
        return {"kind": "broker", "key": public.build(recipient.public).decode()}
    if isinstance(recipient, Pkcs7Recipient):
        return {
            "kind": "pkcs7",
            "key": _spki(recipient.key),
            "issuer": b64.encode(recipient.subject.issuer),
            "serial": recipient.subject.serial,
            "certificate": recipient.name,
            "thumbprint": recipient.thumbprint,
        }
    if isinstance(recipient, Pkcs11Recipient):
        return {
            "kind": "pkcs11",
            "key": _spki(recipient.key),
            "thumbprint": recipient.thumbprint,
            "hash": recipient.hash,
            "with_kid": recipient.with_kid,
        }
    return {}


def _names(recipient: Recipient) -> dict[str, Any]:
    from boltseal.keywrap.keyprovider.keys import ProviderRecipient
    from boltseal.keywrap.kms.keys import ServiceRecipient
    from boltseal.keywrap.pgp.keys import PgpRecipient

    if isinstance(recipient, PgpRecipient):
        # the exclamation mark: this subkey and no other
        return {"kind": "text", "text": f"pgp:{recipient.subkey}!"}
    if isinstance(recipient, ProviderRecipient):
        name = recipient.wrapper.asking.provider.name
        return {"kind": "text", "text": f"provider:{name}:{recipient.parameter}"}
    if isinstance(recipient, ServiceRecipient):
        return {"kind": "text", "text": str(recipient.uri)}
    try:
        pickle.dumps(recipient)
    except Exception:  # noqa: BLE001  whatever its author did
        raise UsageError(
            f"{recipient.describe()} cannot be sent to another machine: it is a recipient of your "
            "own that cannot be pickled"
        ) from None
    return {"kind": "object", "object": recipient}


def from_plain(data: dict[str, Any], options: KeyOptions) -> Recipient:
    """The recipient again. Raises KeyFileError when another key is found under its name here."""
    found = _read(data, options)
    if found.describe() != data["name"]:
        raise KeyFileError(f"{data['name']} is another key here: {found.describe()}")
    return found


def _read(data: dict[str, Any], options: KeyOptions) -> Recipient:  # noqa: PLR0911  one a kind
    kind = data["kind"]
    if kind == "text":
        return parse_recipient(data["text"], options)
    if kind == "object":
        given: Recipient = data["object"]
        return given
    if kind == "jwe":
        from boltseal.keywrap.jwe import JweRecipient

        return JweRecipient(jwk.from_json(data["key"].encode()), data["with_kid"])
    if kind == "pq":
        from boltseal.keywrap.pq.hybrid import PublicKey
        from boltseal.keywrap.pq.keys import HybridRecipient

        return HybridRecipient(PublicKey(b64.decode(data["key"], "the key")), data["with_kid"])
    if kind == "broker":
        from boltseal.keywrap.broker import keys, public

        return keys.from_public(public.parse(data["key"].encode(), "the key"))
    if kind == "pkcs7":
        from boltseal.keywrap.pkcs7.certificates import Subject
        from boltseal.keywrap.pkcs7.keys import Pkcs7Recipient

        subject = Subject(b64.decode(data["issuer"], "the issuer"), data["serial"])
        key = _load(data["key"])
        return Pkcs7Recipient(key, subject, data["certificate"], data["thumbprint"])
    if kind == "pkcs11":
        from boltseal.keywrap.pkcs11.keys import Pkcs11Recipient

        key = _load(data["key"])
        return Pkcs11Recipient(key, data["thumbprint"], data["hash"], data["with_kid"])
    raise MalformedError(f"a recipient of the kind {str(kind)[:40]!r} is not known here")


def _spki(key: rsa.RSAPublicKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return b64.encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _load(text: str) -> rsa.RSAPublicKey:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    key = load_der_public_key(b64.decode(text, "the key"))
    if not isinstance(key, rsa.RSAPublicKey):
        raise MalformedError("the key is no RSA key")
    return key
