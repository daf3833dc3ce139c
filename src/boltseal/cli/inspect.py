"""``boltseal inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.cli import access, options, shared
from boltseal.cli.output import size

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output
    from boltseal.image.inspect import ImageReport, LayerReport, ManifestReport
    from boltseal.transports.registry.options import RegistryOptions

USAGE = "boltseal inspect [options] IMAGE …"
EXAMPLES = """\
examples:
  boltseal inspect oci:sealed:v1
  boltseal inspect oci-archive:app.tar --json
  boltseal inspect docker://registry.example/app:v1
  boltseal inspect oci:sealed:v1 oci:sealed:v2         and what they share
"""
_LAYER_PREFIXES = ("application/vnd.oci.image.layer.v1.", "application/vnd.oci.image.layer.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    options.add_sources(parser)
    options.add_platform(parser)
    options.add_output(parser)
    access.add_one(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Inspect, and print; 4 when a layer has something that a reader would refuse."""
    from boltseal.image.inspect import inspect, inspect_all

    platforms, registry = options.platforms(args), _access(args)
    if len(args.sources) == 1:
        report = inspect(args.sources[0], platforms=platforms, registry=registry)
        _image(output, report)
        output.document(report.to_json)
        return _problems(output, report)
    several = inspect_all(args.sources, platforms=platforms, registry=registry)
    for one in several.images:
        _image(output, one)
        output.line()
    shared.show(output, several.sharing)
    output.document(several.to_json)
    return max(_problems(output, one, f"{one.image}, ") for one in several.images)


def _access(args: argparse.Namespace) -> RegistryOptions | None:
    # only a registry needs them, and a layout is to be looked at quickly
    far = any(one.startswith("docker:") for one in args.sources)
    return access.one(args) if far else None


def _problems(output: Output, report: ImageReport, where: str = "") -> int:
    for problem in report.problems:
        output.failure(where + problem)
    return 4 if report.problems else 0


def _image(output: Output, report: ImageReport) -> None:
    output.line(report.image, style="bold")
    output.line(f"{report.media_type}  {size(report.size)}")
    output.line(report.digest)
    for manifest in report.manifests:
        output.line()
        _manifest(output, manifest)


def _manifest(output: Output, manifest: ManifestReport) -> None:
    name = manifest.platform or ("attestation" if manifest.attestation else "no platform")
    output.line(f"{name}  {manifest.digest}", style="bold")
    if not manifest.layers:
        return
    keys = [row for layer in manifest.layers for row in _keys(layer)]
    rows = [["LAYER", "STATE", "SIZE", "TYPE", "DIGEST", *(["CIPHER"] if keys else [])]]
    rows += [
        [
            str(layer.layer),
            "encrypted" if layer.encrypted else "clear",
            size(layer.size),
            _short(layer.media_type),
            layer.digest[:19],
            *([_cipher(layer)] if keys else []),
        ]
        for layer in manifest.layers
    ]
    output.table(rows)
    if keys:
        output.table([["LAYER", "OPENED BY", "ALGORITHM", "RECIPIENT"], *keys])


def _cipher(layer: LayerReport) -> str:
    return (layer.cipher or "unknown") if layer.encrypted else ""


def _keys(layer: LayerReport) -> list[list[str]]:
    return [
        [
            str(layer.layer),
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
