"""``boltseal keyprovider print-config``: what points other tools at this program or a service.

The file it makes is readable to others. So a secret is told by how the option is spelled, and not
by what is on the disk now: a key may be mounted later.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING

from boltseal.errors import BoltsealError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from boltseal.cli.output import Output

RECIPIENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})=(.+)", re.DOTALL)  # NAME=WHO
_FILE_SCHEMES = ("jwe", "pkcs7", "pkcs11", "pq")
_ENCRYPTED = (b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")


def print_config(args: argparse.Namespace, output: Output) -> int:
    """ocicrypt's configuration, for this program with the same options."""
    from boltseal.keywrap.keyprovider import address as addresses

    way: dict[str, object]
    if args.listen:
        way = {"grpc": str(addresses.parse(args.listen, "--listen"))}
    else:
        found = _Options()
        args.name = args.name or _own_name(args)
        arguments = found.all(args)
        program, *before = _this_program()
        way = {"cmd": {"path": program, "args": [*before, "keyprovider", "exec", *arguments]}}
        for note in found.notes(args):
            output.note(note)
    document = {"key-providers": {args.name or "boltseal": way}}
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
    return 0


def _own_name(args: argparse.Namespace) -> str | None:
    """A provider for a key broker alone has the name that images give it."""
    from boltseal.spec.annotations import BROKER

    given = [*args.keys, *args.recipients]
    named = [one for one in given if one.partition("=")[2].startswith("broker:")]
    brokers = [one for one in given if one.startswith("broker:")]
    if given and len(named) + len(brokers) == len(given):
        return BROKER.removeprefix("provider.")
    return None


def _this_program() -> list[str]:
    beside = os.path.join(os.path.dirname(sys.executable), "boltseal")
    return [beside] if os.path.exists(beside) else [sys.executable, "-m", "boltseal"]


class _Options:
    """The same options again, with full paths: other tools run elsewhere."""

    def __init__(self) -> None:
        self._files: dict[str, None] = {}  # that are to be there when somebody asks
        self._alone: dict[str, None] = {}  # keys without a word about their passphrase

    def all(self, args: argparse.Namespace) -> list[str]:
        """What ``exec`` is to be called with. Raises UsageError for what is a secret."""
        given: list[str] = ["--quiet"]
        for text in args.keys:
            given += ["--key", self._key(text)]
        for text in args.recipients:
            given += ["--recipient", self._recipient(text)]
        for flag in ("any_recipient", "no_kid", "allow_expired", "allow_classical"):
            given += [f"--{flag.replace('_', '-')}"] * getattr(args, flag)
        for flag in ("name", "oaep_hash", "provider_timeout"):
            if getattr(args, flag) is not None:
                given += [f"--{flag.replace('_', '-')}", str(getattr(args, flag))]
        if args.gnupg_home is not None:
            given += ["--gnupg-home", self._file(args.gnupg_home)]
        for flag in ("ca", "keyprovider_config"):
            for path in getattr(args, flag):
                given += [f"--{flag.replace('_', '-')}", self._file(path)]
        for alias in args.provider_alias:
            given += ["--provider-alias", alias]
        return [*given, *(["--replies", args.replies] if args.replies != "same" else [])]

    def notes(self, args: argparse.Namespace) -> Iterator[str]:
        """What will not work as it is now."""
        if not args.keys and not args.recipients and not args.any_recipient:
            yield "neither -k nor -r is given: this provider opens nothing and wraps for nobody"
        for path in self._files:
            if not os.path.exists(path):
                yield f"{path} is not there (yet)"
        for path in self._alone:
            if _needs_passphrase(path):
                yield (
                    f"{path} has a passphrase, and a provider cannot ask for it: name a file that "
                    f"has it, as {path}:file=PATH"
                )

    def _file(self, path: str) -> str:
        full = os.path.abspath(path)
        self._files[full] = None
        return full

    def _key(self, text: str) -> str:
        _refuse_secrets(text)
        scheme, colon, rest = text.partition(":")
        if colon and scheme == "pkcs11":
            return text if _is_uri(rest) else f"pkcs11:{self._key_file(rest)}"
        if colon and scheme in _FILE_SCHEMES:
            raise UsageError(
                f"private keys are named without {scheme}:", hint="write FILE or FILE:file=PATH"
            )
        if colon and scheme == "broker":
            return f"broker:{self._file(rest)}" if rest else text
        if colon and _is_special(scheme):
            return text
        return "pgp:" if text == "pgp" and not os.path.exists(text) else self._key_file(text)

    def _key_file(self, text: str) -> str:
        path, colon, how = text.partition(":")
        kind, equals, value = how.partition("=")
        full = self._file(path)
        if not colon:
            self._alone[full] = None
            return full
        if equals and kind == "file":
            return f"{full}:file={self._file(value)}"
        if equals and kind == "env":
            return f"{full}:{how}"
        if equals and kind == "fd":
            raise UsageError(
                "a descriptor is not there any more when other tools ask this provider",
                hint="name a file: FILE:file=PATH",
            )
        raise _readable()

    def _recipient(self, text: str) -> str:
        _refuse_secrets(text)
        named = RECIPIENT.fullmatch(text)
        name, who = (f"{named[1]}=", named[2]) if named else ("", text)
        scheme, colon, rest = who.partition(":")
        if not colon:
            scheme = ""
        if _is_special(scheme) or (scheme == "pkcs11" and _is_uri(rest)):
            return text
        if scheme == "broker" and rest.startswith(("http:", "https:")):
            return text
        if scheme in (*_FILE_SCHEMES, "broker"):
            if ":" in rest:
                raise _readable()
            return f"{name}{scheme}:{self._file(rest)}"
        from boltseal.keywrap.parse import RECIPIENT_KINDS

        raise UsageError("a recipient names no protocol", hint=f"write {RECIPIENT_KINDS}")


def _is_uri(rest: str) -> bool:
    """Whether what is behind ``pkcs11:`` is a URI and no file; nothing in it is relative."""
    from boltseal.keywrap.pkcs11 import uri as uris

    return uris.looks_like(rest)


def _is_special(scheme: str) -> bool:
    """Whether what is behind it is neither a file nor a secret."""
    from boltseal.keywrap.parse import KEY_SERVICES

    return scheme in ("pgp", "provider", *KEY_SERVICES)


def _refuse_secrets(text: str) -> None:
    if ":pass=" in text or "pin-value" in text:
        raise _readable()


def _readable() -> UsageError:
    return UsageError(
        "a passphrase or PIN would stand readable in the configuration",
        hint="put it into a file: FILE:file=PATH, pin-source=PATH; a file's own name has no colon",
    )


def _needs_passphrase(path: str) -> bool:
    from boltseal.keywrap.identity_files import read_key_file

    try:
        raw = read_key_file(path) if os.path.isfile(path) else b""
    except BoltsealError:
        return False
    return any(mark in raw for mark in _ENCRYPTED)
