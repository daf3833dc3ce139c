"""``make demo``: encrypt a real image, look at it, fail to open it, open it, compare.

Every command is printed before it runs, so that it can be typed again by hand.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import build_image

DEMO = Path(".demo")
BOLTSEAL = str(Path(sys.executable).with_name("boltseal"))
DOCKER = "application/vnd.docker."


def main() -> int:
    parser = argparse.ArgumentParser(description="Try Boltseal on a real image.")
    parser.add_argument("--image", help="your own image instead: oci:PATH:TAG")
    given = parser.parse_args().image
    work = DEMO / "yours" if given else DEMO
    if given:
        _check_suitable(given, work)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    _show(given or _build(work), work, is_ours=not given)
    _say(f"Done. Everything is in {work}/ to look at; boltseal itself is {BOLTSEAL}")
    return 0


def _check_suitable(image: str, work: Path) -> None:
    """What the demo cannot show with an image is said before anything is done."""
    if Path(image.partition(":")[2].partition(":")[0]).absolute().is_relative_to(work.absolute()):
        raise SystemExit(f"{image} lies in {work}/, which this demo writes anew: copy it first")
    layers = _layers(_inspect(image))
    if not layers:
        raise SystemExit(f"{image} has no layer to encrypt: give another image")
    if all(layer["encrypted"] for layer in layers):
        raise SystemExit(f"{image} is encrypted already: give one that is not")


def _show(image: str, work: Path, *, is_ours: bool) -> None:
    key, stranger, sealed, opened = (
        f"{work}/team.pem",
        f"{work}/stranger.pem",
        f"oci:{work}/sealed:v1",
        f"oci:{work}/opened:v1",
    )

    _say("A key pair for the team, and one for a stranger.")
    _run("keygen", key)
    _run("keygen", "--algorithm", "p256", "--quiet", stranger)

    _say("Encrypt the image for the team. This takes the public key alone.")
    _run("encrypt", image, sealed, "--recipient", f"jwe:{work}/team.pub.pem")

    _say("Anyone can see what it is and for whom, nobody what is in it.")
    _run("inspect", sealed)

    _say("The stranger's key does not open it, and nothing is left behind.")
    _run("decrypt", sealed, opened, "--key", stranger, expect=3)
    _check(not (work / "opened").exists(), "no output was written")

    _say("The team's key does.")
    _run("decrypt", sealed, opened, "--key", key, "--check-content")

    _say("What came out is what went in.")
    _compare(image, sealed, opened, work)
    if is_ours:
        _show_secret(sealed, opened, work)


def _build(work: Path) -> str:
    _say("Build an image: Python's standard library as the base, a small secret app on top.")
    build_image.build(work / "image", "v1")
    image = f"oci:{work}/image:v1"
    _run("inspect", image)
    return image


def _compare(image: str, sealed: str, opened: str, work: Path) -> None:
    """Manifest and layers by digest, and every opened blob read again from disk."""
    before, hidden, after = (_inspect(one) for one in (image, sealed, opened))
    if before["media_type"].startswith(DOCKER):
        print("    (a Docker image becomes an OCI image, so its manifest is a new one)", flush=True)
    else:
        _check(before["digest"] == after["digest"], f"the same manifest: {after['digest']}")
    for old, secret, new in zip(_layers(before), _layers(hidden), _layers(after), strict=True):
        same = old["digest"] == new["digest"] and old["size"] == new["size"]
        _check(
            same and _on_disk(new["digest"], work),
            f"the same layer {new['layer']}: {new['digest']}",
        )
        if not old["encrypted"]:
            _check(
                secret["encrypted"] and secret["digest"] != old["digest"],
                f"which was {secret['digest']} while it was sealed",
            )


def _on_disk(digest: str, work: Path) -> bool:
    algorithm, _, digits = digest.partition(":")
    with (work / "opened" / "blobs" / algorithm / digits).open("rb") as blob:
        return hashlib.file_digest(blob, algorithm).hexdigest() == digits


def _show_secret(sealed: str, opened: str, work: Path) -> None:
    """Look for the secret itself, in the blobs as they are on disk."""
    for image, name, expected in ((sealed, "sealed", False), (opened, "opened", True)):
        digest = _layers(_inspect(image))[-1]["digest"].partition(":")[2]
        raw = (work / name / "blobs" / "sha256" / digest).read_bytes()
        try:
            found = build_image.SECRET in gzip.decompress(raw)
        except (gzip.BadGzipFile, EOFError):
            found = build_image.SECRET in raw
        _check(
            found == expected, f"the secret can{'' if found else 'not'} be read in the {name} image"
        )


def _layers(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [layer for manifest in report["manifests"] for layer in manifest["layers"]]


def _inspect(image: str) -> dict[str, Any]:
    done = subprocess.run(
        [BOLTSEAL, "inspect", "--json", image], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _run(*arguments: str, expect: int = 0) -> None:
    print(f"$ {shlex.join(('boltseal', *arguments))}", flush=True)
    code = subprocess.run([BOLTSEAL, *arguments], check=False).returncode
    if expect:
        print(f"(exit code {code})", flush=True)
    if code != expect:
        raise SystemExit(f"the command ended with {code}, {expect} was expected")


def _say(text: str) -> None:
    print(f"\n# {text}", flush=True)


def _check(condition: bool, text: str) -> None:
    if not condition:
        raise SystemExit(f"NOT TRUE: {text}")
    print(f"ok  {text}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
