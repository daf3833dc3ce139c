"""``boltseal keyprovider``: other tools use the keys that Boltseal can use."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from boltseal.cli import keyprovider_config, keys, options
from boltseal.cli.output import printable
from boltseal.errors import BoltsealError, NoMatchingKeyError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from boltseal.cli.output import Output
    from boltseal.keyprovider_server.provider import Event, Provider
    from boltseal.keyprovider_server.rpc import ServerTls
    from boltseal.keywrap.base import Recipient
    from boltseal.keywrap.keyprovider.address import Address
    from boltseal.keywrap.options import KeyOptions

EXAMPLES = """\
examples:
  boltseal keyprovider print-config -k prod.pem -r jwe:prod.pub.pem > keyprovider.json
  OCICRYPT_KEYPROVIDER_CONFIG=keyprovider.json skopeo copy \\
    --decryption-key provider:boltseal docker://one.example/app:v1 oci:app:v1
  boltseal keyprovider print-config -k broker: > keyprovider.json
  OCICRYPT_KEYPROVIDER_CONFIG=keyprovider.json skopeo copy oci:app:v1 oci:sealed:v1 \\
    --encryption-key provider:boltseal-broker:https://broker.example/prod-eu
  boltseal keyprovider exec -k prod.pem < request.json
  boltseal keyprovider serve --listen unix:/run/boltseal/keys.sock -k /etc/boltseal/keys
  boltseal keyprovider serve --listen 10.0.0.7:7443 --tls-cert server.crt --tls-key server.key \\
    --client-ca clients.crt -k prod.pem -r team=jwe:team.pub.pem
"""
_MAX_REASONS = 3  # of keys that were tried, in one line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    modes = parser.add_subparsers(dest="mode", metavar="MODE", required=True)
    for name, summary in (
        ("exec", "answer one request: from standard input to standard output"),
        ("serve", "answer requests as a gRPC service, until it is stopped"),
        ("print-config", "print what OCICRYPT_KEYPROVIDER_CONFIG is to hold, for these options"),
    ):
        mode = modes.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        _add_keys(mode)
        if name != "exec":
            mode.add_argument(
                "--listen",
                metavar="ADDRESS",
                required=name == "serve",
                help="unix:PATH (for its owner alone) or HOST:PORT",
            )
        if name == "serve":
            _add_tls(mode)
        if name == "exec":  # its standard output is the answer's alone
            mode.add_argument(
                "-q", "--quiet", action="store_true", help="print errors and warnings only"
            )
            mode.set_defaults(json=False)
        else:
            options.add_output(mode)
        keys.add_wrapping_options(mode)
        keys.add_options(mode)


def _add_keys(parser: argparse.ArgumentParser) -> None:
    keys.add_identities(parser, "opens what others ask for")
    parser.add_argument(
        "-r",
        "--recipient",
        dest="recipients",
        action="append",
        default=[],
        metavar="[NAME=]WHO",
        help="who is wrapped for when the parameter is Enabled (as in provider:boltseal), NAME or "
        "WHO; named as in boltseal encrypt (repeatable)",
    )
    parser.add_argument(
        "--any-recipient",
        action="store_true",
        help="a parameter may be any recipient, such as jwe:FILE",
    )
    parser.add_argument(
        "--name",
        metavar="NAME",
        help="how clients call this provider; needed where they encrypt with several at once",
    )
    parser.add_argument(
        "--replies",
        choices=("same", "text", "numbers"),
        default="same",
        help="bytes in replies as base64 text, as arrays of numbers (for image-rs of Confidential "
        "Containers), or as in the request (default)",
    )


def _add_tls(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("TLS, which HOST:PORT needs unless it is this machine")
    group.add_argument("--tls-cert", metavar="FILE", help="the server's certificate, in PEM")
    group.add_argument("--tls-key", metavar="FILE", help="its private key, in PEM")
    group.add_argument(
        "--client-ca", metavar="FILE", help="clients need a certificate of one of these roots"
    )


def run(args: argparse.Namespace, output: Output) -> int:
    """Answer, serve or print."""
    kinds = keys.key_options(args)
    if args.mode == "exec":
        return _exec(args, output, kinds)
    if args.mode == "serve":
        return _serve(args, output, kinds)
    return keyprovider_config.print_config(args, output)


def _exec(args: argparse.Namespace, output: Output, kinds: KeyOptions) -> int:
    """One request. Nothing but the answer ever goes to standard output."""
    from boltseal._io.files import read_bounded
    from boltseal.keyprovider_server import question
    from boltseal.keywrap.keyprovider.protocol import MAX_MESSAGE_BYTES, WRAP

    try:
        raw = read_bounded(sys.stdin.fileno(), "the request", max_bytes=MAX_MESSAGE_BYTES)
        asked = question.parse(raw)
        # keys may be on another machine than the one that encrypts, and the other way round
        wrapping = asked.operation == WRAP
        provider = _provider(args, kinds, recipients=wrapping, identities=not wrapping)
        answer, event = provider.answer(asked)
    except BoltsealError as error:
        output.failure(_on_one_line(error))
        return NoMatchingKeyError.exit_code if isinstance(error, NoMatchingKeyError) else 1
    _Log(output).record(event)
    sys.stdout.write(answer.decode("ascii") + "\n")
    return 0


def _serve(args: argparse.Namespace, output: Output, kinds: KeyOptions) -> int:
    """Until a signal comes; being stopped is how a service ends well."""
    from boltseal.cli.signals import TerminatedError
    from boltseal.keyprovider_server.provider import shared
    from boltseal.keyprovider_server.rpc import serving
    from boltseal.keywrap.keyprovider import address as addresses

    address = addresses.parse(args.listen, "--listen")
    tls = _tls(args, address)
    _check_exposure(args, address, tls)
    provider = _provider(args, kinds, recipients=True, identities=True)
    provider = replace(provider, keyring=shared(provider.keyring))
    if not provider.keyring.identities and not provider.recipients and not args.any_recipient:
        raise UsageError(
            "there is nothing to serve", hint="name keys with -k or recipients with -r"
        )
    for note in provider.keyring.notes:
        output.note(note)
    if address.path is None and args.keys and (tls is None or tls.client_ca is None):
        output.note(
            "every user of this machine can have keys unwrapped here; unix:PATH is for one alone"
        )
    with serving(provider, address, tls, _Log(output).record) as place:
        with suppress(KeyboardInterrupt, TerminatedError):
            output.result(f"listening on {place}")
            output.document(lambda: {"listening": place})
            sys.stdout.flush()
            threading.Event().wait()
    return 0


def _tls(args: argparse.Namespace, address: Address) -> ServerTls | None:
    from boltseal.keyprovider_server.rpc import ServerTls

    if bool(args.tls_cert) != bool(args.tls_key):
        raise UsageError("--tls-cert and --tls-key belong together", hint="give both, or none")
    if args.tls_cert:
        return ServerTls.read(args.tls_cert, args.tls_key, args.client_ca)
    if args.client_ca:
        raise UsageError("--client-ca needs --tls-cert and --tls-key")
    if not address.is_local:
        raise UsageError(
            f"{address} is not this machine alone, and layer keys would be sent in the clear",
            hint="give --tls-cert, --tls-key and --client-ca, or listen on unix:PATH",
        )
    return None


def _check_exposure(args: argparse.Namespace, address: Address, tls: ServerTls | None) -> None:
    """Whoever reaches the service can have layer keys unwrapped."""
    if args.any_recipient and address.path is None:
        raise UsageError(
            "--any-recipient lets clients name files to be read here",
            hint="listen on unix:PATH, or name the recipients with -r",
        )
    if args.keys and not address.is_local and (tls is None or tls.client_ca is None):
        raise UsageError(
            f"whoever reaches {address} could open every image that these keys open",
            hint="say with --client-ca whose certificates clients need",
        )


def _provider(
    args: argparse.Namespace, kinds: KeyOptions, *, recipients: bool, identities: bool
) -> Provider:
    from boltseal.keyprovider_server.provider import Provider
    from boltseal.keywrap.keyring import Keyring, check_mixture
    from boltseal.keywrap.parse import parse_keyring

    named: dict[str, Recipient] = {}
    if recipients:
        for text in args.recipients:
            _add_recipient(named, text, kinds)
        if not args.allow_classical:
            check_mixture(list(named.values()))
    return Provider(
        parse_keyring(args.keys, kinds) if identities else Keyring(),
        named,
        args.name,
        _others(args, kinds),
        args.allow_classical,
        None if args.replies == "same" else args.replies,
    )


def _others(args: argparse.Namespace, kinds: KeyOptions) -> Callable[[str], Recipient] | None:
    """What reads a parameter that no ``-r`` names: a broker's key as a URL, or with
    ``--any-recipient`` all kinds.

    Without that flag only brokers that the settings of a ``-k broker:`` name are asked: whoever
    uses this provider must not have it call other servers.
    """
    from boltseal.keyprovider_server.provider import NOT_NAMED
    from boltseal.keywrap.parse import parse_recipient

    brokers = [text.partition(":")[2] for text in args.keys if text.startswith("broker:")]
    if not brokers and not args.any_recipient:
        return None

    def read(text: str) -> Recipient:
        if not text.startswith(("https://", "http://")):
            if args.any_recipient:
                return parse_recipient(text, kinds)
            raise UsageError(NOT_NAMED)
        from boltseal.keywrap.broker import keys as broker
        from boltseal.keywrap.broker import settings

        named = broker.Named.parse(text)
        for rest in brokers:
            found = settings.load(rest, kinds)
            if named.address in found.addresses:
                return broker.fetch(named, found)
        if args.any_recipient:
            return parse_recipient(f"broker:{text}", kinds)
        raise UsageError(
            f"{named.address} is no broker that this key provider was started with",
            hint="it has to be among the addresses of the settings that -k broker: names",
        )

    return read


def _add_recipient(named: dict[str, Recipient], text: str, kinds: KeyOptions) -> None:
    """``[NAME=]WHO``; every WHO has a colon before it can have an equals sign."""
    from boltseal.keywrap.keyprovider.protocol import ENABLED
    from boltseal.keywrap.parse import parse_recipient

    found = keyprovider_config.RECIPIENT.fullmatch(text)
    name, who = found.groups() if found else (None, text)
    recipient = parse_recipient(who, kinds)
    bare = who.removeprefix("broker:") if who.startswith("broker:http") else None
    for one in filter(None, (name, who, bare)):
        if one == ENABLED:
            raise UsageError(f"{ENABLED} stands for all recipients: it cannot name one of them")
        if named.setdefault(one, recipient).describe() != recipient.describe():
            raise UsageError(f"two recipients are called {one}")


class _Log:
    """One line on standard error for every key that was asked for."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._lock = threading.Lock()

    def record(self, event: Event) -> None:
        """Called by several threads."""
        from datetime import UTC, datetime

        if self._output.quiet:
            return
        if event.error is None:
            done = "wrapped for" if event.operation == "keywrap" else "released by"
            outcome = f"{','.join(event.schemes)} {done} {event.who}"
        else:
            outcome = f"refused: {_on_one_line(event.error)}"
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with self._lock, suppress(OSError):
            sys.stderr.write(f"{now} {event.operation} {printable(outcome)}\n")
            sys.stderr.flush()


def _on_one_line(error: BoltsealError) -> str:
    """The message, and what the first keys said."""
    reasons = [f"{one.identity}: {one.reason}" for one in error.attempts[:_MAX_REASONS]]
    return "; ".join([error.message, *reasons, *([error.hint] if error.hint else [])])
