"""``boltseal inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.cli import access, options
from boltseal.cli.output import size

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output
    from boltseal.image.inspect import LayerReport, ManifestReport
    from boltseal.transports.registry.options import RegistryOptions

EXAMPLES = """\
examples:
  boltseal inspect oci:sealed:v1
  boltseal inspect oci-archive:app.tar --json
  boltseal inspect docker://registry.example/app:v1
"""
_LAYER_PREFIXES = ("application/vnd.oci.image.layer.v1.", "application/vnd.oci.image.layer.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    options.add_source(parser, "IMAGE")
    options.add_platform(parser)
    options.add_output(parser)
    access.add_one(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Inspect, and print; 4 when a layer has something that a reader would refuse."""
    from boltseal.image.inspect import inspect

    report = inspect(args.source, platforms=options.platforms(args), registry=_access(args))
    output.line(report.image, style="bold")
    output.line(f"{report.media_type}  {size(report.size)}")
    output.line(report.digest)
    for manifest in report.manifests:
        output.line()
        _manifest(output, manifest)
    output.document(report.to_json)
    for problem in report.problems:
        output.failure(problem)
    return 4 if report.problems else 0


def _access(args: argparse.Namespace) -> RegistryOptions | None:
    # only a registry needs them, and a layout is to be looked at quickly
    return access.one(args) if args.source.startswith("docker:") else None


def _manifest(output: Output, manifest: ManifestReport) -> None:
    name = manifest.platform or ("attestation" if manifest.attestation else "no platform")
    output.line(f"{name}  {manifest.digest}", style="bold")
    if not manifest.layers:
        return
    rows = [["LAYER", "STATE", "SIZE", "TYPE", "DIGEST"]]
    rows += [
        [
            str(layer.layer),
            "encrypted" if layer.encrypted else "clear",
            size(layer.size),
            _short(layer.media_type),
            layer.digest,
        ]
        for layer in manifest.layers
    ]
    output.table(rows)
    keys = [row for layer in manifest.layers for row in _keys(layer)]
    if keys:
        output.table([["LAYER", "CIPHER", "OPENED BY", "ALGORITHM", "RECIPIENT"], *keys])


def _keys(layer: LayerReport) -> list[list[str]]:
    return [
        [
            str(layer.layer),
            layer.cipher or "unknown",
            key.scheme,
            key.algorithm or "not told",
            key.recipient or "not told",
        ]
        for key in layer.keys
    ]


def _short(media_type: str) -> str:
    for prefix in _LAYER_PREFIXES:
        if media_type.startswith(prefix):
            return media_type.removeprefix(prefix)
    return media_type
