"""Every console example of the README runs, and prints what the README says; so does its Python."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from support.cli import boltseal
from support.pages import Example, blocks, examples, make_app, masked

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
ACTIONS = {
    "recipients": ("list", "add", "remove", "set"),
    "keyprovider": ("exec", "serve", "print-config"),
    "hook": ("check", "print-config"),
    "broker": (
        *("init", "serve", "key", "tenant", "project", "trust", "policy", "revoke", "unrevoke"),
        *("revocations", "limits", "admin", "releases", "audit", "root", "certificate"),
        *("backup", "restore"),
        *("migrate", "openapi"),
    ),
}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the image `app` in which all examples run, in order."""
    monkeypatch.chdir(tmp_path)
    make_app(Path("app"))
    return tmp_path


def run_console(example: Example) -> None:
    program, *arguments = shlex.split(example.command)
    assert program == "boltseal", example.command
    run = boltseal(*arguments)
    assert run.code == 0, run.err
    assert masked(run.out.splitlines()) == masked(example.expected), example.command


def test_readme_examples(workplace: Path) -> None:
    console = examples(README)
    assert len(console) >= 4
    for example in console:
        run_console(example)
    (python,) = blocks(README, "python")
    done = subprocess.run(
        [sys.executable, "-c", python], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "linux/amd64 0 True" in done.stdout
    assert re.search(r"sha256:[0-9a-f]{64} 2\n", done.stdout)
    assert (workplace / "again" / "index.json").exists()


def test_the_example_of_changing_recipients_in_python(workplace: Path) -> None:
    (python,) = blocks(ROOT / "docs" / "reference.md", "python")
    done = subprocess.run(
        [sys.executable, "-c", python], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    first, is_good, same, last = done.stdout.splitlines()
    assert (is_good, same) == ("True", "True")
    assert first.startswith("2 layers have new keys: whoever could open the image until now")
    assert last == "jwe True 2"


def test_links_between_documents_lead_somewhere() -> None:
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_command_and_option_is_in_the_reference() -> None:
    reference = (ROOT / "docs" / "reference.md").read_text()
    help_text = boltseal("--help").out
    for command in re.findall(r"^    ([a-z-]+)", help_text, re.MULTILINE):
        assert f"### `boltseal {command}" in reference, command
        for words in ([command], *([command, one] for one in ACTIONS.get(command, ()))):
            shown = boltseal(*words, "--help").out
            assert shown.startswith(f"usage: boltseal {' '.join(words)}"), words
            for option in re.findall(r"--[a-z-]+", shown.split("examples:")[0]):
                assert option == "--help" or option in reference, f"{command} {option}"
