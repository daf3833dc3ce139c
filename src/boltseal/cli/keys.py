"""Options about keys: recipients, identities, and what each kind of key needs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from boltseal.cli.options import ask_passphrase
from boltseal.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from boltseal.keywrap.options import KeyOptions

_WHO = """\
jwe:FILE           an RSA or EC public key, or a certificate
pkcs7:FILE         an X.509 certificate
pgp:WHO            a key in GnuPG's keyring: address, name, key id or fingerprint
pkcs11:FILE        a token's key: YAML, or its public key in a file; or pkcs11:URI
provider:NAME      a key provider
broker:URL         a key broker's key, https://BROKER/NAME; broker:FILE its pinned public half
pq:FILE            an X-Wing public key, which withstands quantum computers
awskms:///alias/X, gcpkms://…, azurekms://VAULT/KEY, hashivault://KEY
                   a key in a cloud's key service
"""
_KEYS = """\
FILE               a private key of any kind; DIR: every key below a folder
FILE:file=PATH     … with its passphrase in a file; :fd=N, :env=NAME, :pass=TEXT
pgp:               GnuPG's own keys, agents and smart cards; pgp:WHO one of them
broker:            the key broker of the configuration; broker:FILE that of these settings
pkcs11:FILE, pkcs11:URI, provider:NAME, awskms:///… and so on, as above
"""


def add_recipients(parser: argparse.ArgumentParser, purpose: str) -> None:
    """``--recipient``."""
    parser.add_argument(
        "-r",
        "--recipient",
        "--encryption-key",
        dest="recipients",
        action="append",
        default=[],
        metavar="WHO",
        help=f"{purpose} (repeatable)",
    )
    parser.add_argument_group("WHO is one of", _WHO)


def add_identities(parser: argparse.ArgumentParser, purpose: str) -> None:
    """``--key``, with every way to name its passphrase."""
    parser.add_argument(
        "-k",
        "--key",
        "--decryption-key",
        dest="keys",
        action="append",
        default=[],
        metavar="KEY",
        help=f"a key that {purpose} (repeatable, tried in order)",
    )
    parser.add_argument_group("KEY is one of", _KEYS)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What several commands need of the kinds of keys, for wrapping and unwrapping."""
    group = parser.add_argument_group("GnuPG, tokens and key providers")
    group.add_argument(
        "--keyprovider-config",
        action="append",
        default=[],
        metavar="FILE",
        help="JSON of key providers, before that of OCICRYPT_KEYPROVIDER_CONFIG (repeatable)",
    )
    group.add_argument(
        "--provider-alias",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="what the image calls OLD is opened by the key provider NEW (repeatable)",
    )
    group.add_argument(
        "--provider-timeout",
        type=float,
        metavar="SECONDS",
        help="how long a key provider or a token may take for an answer (default: 60)",
    )
    group.add_argument("--gnupg-home", metavar="DIR", help="GnuPG's home folder")


def add_wrapping_options(parser: argparse.ArgumentParser) -> None:
    """What is needed for recipients alone."""
    group = parser.add_argument_group("recipients")
    group.add_argument(
        "--no-kid", action="store_true", help="do not write recipients' thumbprints into the image"
    )
    group.add_argument(
        "--ca",
        action="append",
        default=[],
        metavar="FILE",
        help="root certificates that have to vouch for every pkcs7: recipient (repeatable)",
    )
    group.add_argument(
        "--allow-expired",
        action="store_true",
        help="take certificates that are out of their time or not meant for encryption",
    )
    group.add_argument(
        "--oaep-hash",
        choices=("sha1", "sha256"),
        help="hash for pkcs11: recipients (default: sha1, or what OCICRYPT_OAEP_HASHALG says)",
    )
    group.add_argument(
        "--allow-classical",
        action="store_true",
        help="let a pq: recipient share layers with others, which a quantum computer may open",
    )


def key_options(args: argparse.Namespace, environ: Mapping[str, str] | None = None) -> KeyOptions:
    """The options of every kind of key, from arguments and environment.

    ``environ`` is in place of this process's.
    """
    from boltseal.keywrap.options import KeyOptions

    given = vars(args)
    environment = dict(os.environ if environ is None else environ)
    # what gRPC itself writes to standard error helps nobody; its errors say the same
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    return KeyOptions.from_environ(
        environment,
        provider_files=tuple(args.keyprovider_config) or None,
        provider_aliases=_aliases(args.provider_alias),
        provider_timeout=args.provider_timeout,
        gnupg_home=args.gnupg_home,
        with_kid=not given.get("no_kid", False),
        authorities=tuple(given.get("ca", ())),
        allow_expired=given.get("allow_expired", False),
        oaep_hash=given.get("oaep_hash"),
        ask=ask_passphrase,
    )


def _aliases(texts: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        old, equals, new = text.partition("=")
        if not (old and equals and new):
            raise UsageError(f"{text!r} is no alias of a provider", hint="write OLD=NEW")
        if found.setdefault(old, new) != new:
            raise UsageError(f"the provider alias {old} is given twice, with different names")
    return found
