"""Options about registries, in the spellings of skopeo and podman."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from boltseal.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from boltseal.transports.registry.options import RegistryOptions

_TRUE = ("true", "1", "t", "yes")
_FALSE = ("false", "0", "f", "no")


def add_one(parser: argparse.ArgumentParser) -> None:
    """For commands that speak to one registry."""
    _add(parser.add_argument_group("registries"), "", "the registry")


def add_source(parser: argparse.ArgumentParser) -> None:
    """For commands that read one image, and whose relatives have a source and a destination."""
    group = parser.add_argument_group("registries")
    _add(group, "", "the registry")
    _add(group, "src-", "the source's registry")


def add_pair(parser: argparse.ArgumentParser) -> None:
    """For commands that read two images."""
    group = parser.add_argument_group("registries")
    _add(group, "", "both registries")
    _add(group, "src-", "the first image's registry")
    _add(group, "dest-", "the second image's registry")


def add_both(parser: argparse.ArgumentParser) -> None:
    """For commands with a source and a destination."""
    group = parser.add_argument_group("registries")
    _add(group, "", "both registries")
    _add(group, "src-", "the source's registry")
    _add(group, "dest-", "the destination's registry")
    group.add_argument(
        "--jobs",
        type=int,
        default=3,
        metavar="N",
        help="layers at a time, with a registry on one side (default: %(default)s)",
    )


def _add(group: argparse._ArgumentGroup, prefix: str, whose: str) -> None:
    group.add_argument(
        f"--{prefix}creds", metavar="USER[:PASSWORD]", help=f"credentials for {whose}"
    )
    group.add_argument(
        f"--{prefix}tls-verify",
        metavar="BOOL",
        help=f"false: accept bad certificates and plain HTTP from {whose}",
    )
    group.add_argument(
        f"--{prefix}cert-dir", metavar="DIR", help=f"certificates for {whose}: *.crt, *.cert, *.key"
    )
    if not prefix:
        group.add_argument(
            "--authfile", metavar="FILE", help="logins, instead of those of podman and docker"
        )


def one(args: argparse.Namespace) -> RegistryOptions:
    """The options of a command that speaks to one registry."""
    return _options(args, "")


def source(args: argparse.Namespace) -> RegistryOptions:
    """The options for a source alone."""
    return _options(args, "src_")


def both(
    args: argparse.Namespace, environ: Mapping[str, str] | None = None
) -> tuple[RegistryOptions, RegistryOptions]:
    """The options for source and destination; ``environ`` in place of this process's."""
    return _options(args, "src_", environ), _options(args, "dest_", environ)


def _options(
    args: argparse.Namespace, prefix: str, environ: Mapping[str, str] | None = None
) -> RegistryOptions:
    from boltseal.transports.registry.options import RegistryOptions

    def value(name: str) -> str | None:
        own: str | None = getattr(args, f"{prefix}{name}")
        common: str | None = getattr(args, name)
        return own if own is not None else common

    return RegistryOptions.from_environ(
        os.environ if environ is None else environ,
        credentials=_credentials(value("creds")),
        auth_file=args.authfile,
        cert_dir=value("cert_dir"),
        tls_verify=_boolean(value("tls_verify")),
        claims=not getattr(args, "no_claim", False),
    )


def _credentials(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    user, colon, password = text.partition(":")
    if not colon:
        from boltseal.cli.options import ask_passphrase

        asked = ask_passphrase(user, what="password")
        if asked is None:
            raise UsageError("credentials have no password", hint="write USER:PASSWORD")
        password = asked.decode()
    return user, password


def _boolean(text: str | None) -> bool | None:
    if text is None:
        return None
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise UsageError(f"{text!r} is neither true nor false")
