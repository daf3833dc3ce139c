"""No plaintext byte has a name in the destination before size, digest and HMAC were right."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from support.cli import command
from support.images import MANIFEST, TAR, Layout, add_manifest, simple_image, tar_bytes
from support.tamper import Sealed, flip

if TYPE_CHECKING:
    from pathlib import Path

MARK = b"PLAINTEXT-THAT-NOBODY-VOUCHES-FOR "


def final_names(target: Path) -> list[Path]:
    """What a reader of the layout can find by name."""
    return [*target.glob("blobs/*/*"), *target.glob("index.json")]


def hidden_bytes(target: Path) -> int:
    """The largest file in the writer's hidden folder, which nobody else can enter."""
    try:
        (hidden,) = target.glob(".boltseal-*")
        assert hidden.stat().st_mode & 0o077 == 0
        return max(path.stat().st_size for path in hidden.iterdir())
    except (ValueError, FileNotFoundError):
        return 0  # not there yet, or not any more


def test_corrupt_last_byte_releases_nothing(tmp_path: Path, keys: Path) -> None:
    """48 MiB, wrong in the last byte, digests made to fit; the destination is watched."""
    plain = Layout(tmp_path / "plain")
    tar = tar_bytes({"f": MARK * ((48 << 20) // len(MARK))})
    entry = add_manifest(plain, [tar], [TAR])
    plain.tag(MANIFEST, entry["digest"], entry["size"])
    sealed = Sealed.__new__(Sealed)
    sealed.layout = Layout.__new__(Layout)
    sealed.layout.path = tmp_path / "sealed"
    subprocess.run(
        command(
            "encrypt",
            plain.reference(),
            sealed.layout.reference(),
            "-r",
            f"jwe:{keys}/p256.pub.pem",
        ),
        check=True,
        capture_output=True,
    )
    sealed.replace_blob(0, lambda raw: flip(raw, -1))

    target = simple_image(tmp_path / "target", tag="old").path
    before = {path: path.read_bytes() for path in final_names(target)}
    opening = ["-k", f"{keys}/p256.pem"]
    most, looks = 0, 0
    with subprocess.Popen(
        command("decrypt", sealed.layout.reference(), f"oci:{target}:new", *opening),
        stderr=subprocess.PIPE,
    ) as process:
        while process.poll() is None:
            looks += 1
            assert set(final_names(target)) == set(before)
            most = max(most, hidden_bytes(target))
        assert process.stderr is not None
        assert b"the HMAC over the ciphertext is wrong" in process.stderr.read()
    assert process.returncode == 4
    assert looks > 10
    assert most > 1 << 20, "the plaintext was never on its way: nothing was tested"
    assert {path: path.read_bytes() for path in final_names(target)} == before
    assert MARK not in b"".join(path.read_bytes() for path in target.rglob("*") if path.is_file())
