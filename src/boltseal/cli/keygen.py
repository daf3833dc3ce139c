"""``boltseal keygen``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.cli import options
from boltseal.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output

USAGE = "boltseal keygen [options] FILE"
EXAMPLES = """\
examples:
  boltseal keygen prod.pem                    writes prod.pem and prod.pub.pem, RSA 3072
  boltseal keygen -a p256 edge.pem
  boltseal keygen --passphrase file=secret.txt prod.pem
  boltseal keygen --passphrase ask prod.pem
  boltseal keygen -a xwing archive.pem        for what has to outlive quantum computers
  boltseal keygen --certificate alice alice.pem
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    from boltseal.keywrap.generate import ALGORITHMS

    parser.add_argument("file", metavar="FILE", help="private key to write (mode 0600)")
    parser.add_argument(
        "-a",
        "--algorithm",
        choices=ALGORITHMS,
        default=ALGORITHMS[0],
        help="kind of key (default: %(default)s)",
    )
    parser.add_argument(
        "--passphrase",
        metavar="ask|file=…|fd=N|pass=…",
        help="encrypt the private key (skopeo cannot read an encrypted PKCS#8 key)",
    )
    parser.add_argument(
        "--certificate",
        metavar="NAME",
        help="also write a self-signed certificate with this common name, for pkcs7: recipients",
    )
    parser.add_argument(
        "--days",
        type=int,
        default=365,
        metavar="N",
        help="how long the certificate is valid (default: %(default)s)",
    )
    options.add_output(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Generate, and say where the files are."""
    from dataclasses import asdict

    from boltseal.keywrap.generate import generate_key

    pair = generate_key(
        args.file,
        args.algorithm,
        _passphrase(args.passphrase, args.file),
        certificate=args.certificate,
        days=args.days,
    )
    output.line(f"private key  {pair.private_file}  (keep it secret)")
    output.line(f"public key   {pair.public_file}")
    if pair.certificate_file is not None:
        output.line(f"certificate  {pair.certificate_file}  (self-signed, for {args.days} days)")
    output.line(f"{pair.kind}, thumbprint {pair.thumbprint}")
    output.document(lambda: asdict(pair))
    return 0


def _passphrase(text: str | None, name: str) -> bytes | None:
    if text is None:
        return None
    if text != "ask":
        import os

        from boltseal.keywrap.secrets import read

        return read(text, os.environ, bare=False)
    first = options.ask_passphrase(name)
    if first is None:
        raise UsageError("there is no terminal to ask for a passphrase on", hint="use file= or fd=")
    if options.ask_passphrase(f"{name}, again") != first:
        raise UsageError("the two passphrases differ")
    return first
