"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

import boltseal

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "boltseal"
MODULES = sorted(SOURCE.rglob("*.py"))


def test_public_names_are_the_documented_ones() -> None:
    assert sorted(boltseal.__all__) == [
        "BoltsealError",
        "BulkReport",
        "DaskExecutor",
        "Executor",
        "Identity",
        "IntegrityError",
        "Job",
        "KeyOptions",
        "Keyring",
        "NoMatchingKeyError",
        "Outcome",
        "Progress",
        "Recipient",
        "RegistryOptions",
        "add_recipients",
        "check",
        "copy",
        "decrypt",
        "diff",
        "encrypt",
        "encrypt_many",
        "generate_key",
        "inspect",
        "inspect_all",
        "lint",
        "list_recipients",
        "parse_identity",
        "parse_keyring",
        "parse_recipient",
        "plan",
        "remove_recipients",
        "set_recipients",
        "show_key",
        "unpack",
        "verify",
    ]
    for name in boltseal.__all__:
        assert getattr(boltseal, name) is not None
        assert name in dir(boltseal)
    with pytest.raises(AttributeError):
        boltseal.nothing  # noqa: B018


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_modules_stay_small_and_say_what_they_are_for(module: Path) -> None:
    text = module.read_text()
    assert text.count("\n") <= 400
    assert ast.get_docstring(ast.parse(text))


def test_only_the_command_line_prints_exits_and_reads_the_environment() -> None:
    for module in MODULES:
        if module.is_relative_to(SOURCE / "cli") or module.name == "__main__.py":
            continue
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Name):
                assert node.id not in {"print", "input", "exit"}, module
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                used = f"{node.value.id}.{node.attr}"
                assert used not in {"os.environ", "os.getenv", "sys.argv", "sys.stdout", "sys.exit"}


def test_only_jose_imports_the_jose_library() -> None:
    for module in MODULES:
        if not module.is_relative_to(SOURCE / "jose"):
            assert "jwcrypto" not in module.read_text(), module


def test_nothing_in_the_project_names_a_place_outside_it() -> None:
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    hosts = ("pypi" + ".org", "python" + "hosted", "deb." + "debian", "npm" + "js")
    for name in filter(None, names):
        path = ROOT / name
        if path.is_symlink() or not path.is_file() or "vectors/data" in name:
            continue
        text = path.read_text(errors="replace")
        for forbidden in (*hosts, "/wo" + "rk/", "../sha" + "red", "/ro" + "ot/"):
            assert forbidden not in text, f"{name} names {forbidden}"
