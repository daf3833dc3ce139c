"""``boltseal decrypt``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.cli import access, keys, options

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output

USAGE = "boltseal decrypt [options] SRC DST -k KEY …"
EXAMPLES = """\
examples:
  boltseal decrypt oci:sealed:v1 oci:plain:v1 -k prod.pem
  boltseal decrypt oci:sealed:v1 oci:plain:v1 -k prod.pem:file=/run/secrets/passphrase
  boltseal decrypt oci-archive:app.tar oci:plain:v1 -k prod.pem --check-content
  boltseal decrypt oci:sealed:v1 oci:plain:v1 -k /etc/keys      every key below that folder
  boltseal decrypt oci:sealed:v1 oci:plain:v1 -k pgp:           the keys that GnuPG holds
  boltseal decrypt docker://registry.example/app:v1 containers-storage:localhost/app:v1 -k prod.pem
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    options.add_source(parser)
    options.add_destination(parser)
    keys.add_identities(parser, "opens it")
    parser.add_argument(
        "--check-content",
        action="store_true",
        help="decompress every layer and compare it with the diff ids of the image's config",
    )
    options.add_platform(parser)
    options.add_output(parser)
    keys.add_options(parser)
    access.add_both(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Decrypt, and report."""
    from boltseal.cli.progress import Bar

    options.keep_stdout_free(args, output)
    from boltseal.cli.summary import layers, show
    from boltseal.image.decrypt import decrypt

    with Bar(quiet=output.quiet) as bar:
        outcome = decrypt(
            args.source,
            args.destination,
            args.keys,
            keys=keys.key_options(args),
            platforms=options.platforms(args),
            check_content=args.check_content,
            registry=access.both(args),
            jobs=args.jobs,
            progress=bar,
        )
    show(output, outcome, f"decrypted {layers(outcome.count('decrypted'))}")
    return 0
