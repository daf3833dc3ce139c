"""Every console example of the README runs, and prints what the README says; so does its Python."""

from __future__ import annotations

import random
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from support.cli import boltseal
from support.images import GZIP, Layout, add_manifest, tar_bytes

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"```(console|python)\n(.*?)```", re.DOTALL)
# What differs from run to run: digests and thumbprints; and sizes, with the zlib that compressed.
_MASKS = (
    (re.compile(r"sha256:[0-9a-f]+"), "sha256:…"),
    (re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])"), "THUMBPRINT"),
    (re.compile(r"\b[0-9.]+ [KM]?i?B\b"), "SIZE"),
    (re.compile(r" {2,}"), "  "),
)


def blocks(kind: str) -> list[str]:
    return [text for name, text in _BLOCK.findall((ROOT / "README.md").read_text()) if name == kind]


def masked(text: str) -> list[str]:
    for pattern, mask in _MASKS:
        text = pattern.sub(mask, text)
    return [line.rstrip() for line in text.strip().splitlines()]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the image `app` in which all examples run, in order."""
    monkeypatch.chdir(tmp_path)
    base = {f"usr/lib/base{n}": random.Random(n).randbytes(1 << 20) for n in range(7)}
    app = {"srv/app/model.bin": random.Random("model").randbytes(300_000), "srv/app/run": b"#!"}
    layout = Layout(Path("app"))
    entry = add_manifest(layout, [tar_bytes(base), tar_bytes(app)], [GZIP, GZIP])
    layout.tag(entry["mediaType"], entry["digest"], entry["size"])
    return tmp_path


def run_console(text: str) -> None:
    for example in text.split("$ ")[1:]:
        command, _, expected = example.partition("\n")
        program, *arguments = shlex.split(command)
        assert program == "boltseal", command
        run = boltseal(*arguments)
        assert run.code == 0, run.err
        assert masked(run.out) == masked(expected), command


def test_readme_examples(workplace: Path) -> None:
    console = blocks("console")
    assert len(console) >= 4
    for text in console:
        run_console(text)
    (python,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", python], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "linux/amd64 0 True" in done.stdout
    assert re.search(r"sha256:[0-9a-f]{64} 2\n", done.stdout)
    assert (workplace / "again" / "index.json").exists()


def test_links_between_documents_lead_somewhere() -> None:
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_command_and_option_is_in_the_reference() -> None:
    reference = (ROOT / "docs" / "reference.md").read_text()
    help_text = boltseal("--help").out
    for command in re.findall(r"^    ([a-z]+)", help_text, re.MULTILINE):
        assert f"### `boltseal {command}" in reference, command
        for option in re.findall(
            r"--[a-z-]+", boltseal(command, "--help").out.split("examples:")[0]
        ):
            assert option == "--help" or option in reference, f"{command} {option}"
