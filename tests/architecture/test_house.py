"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import boltseal

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "boltseal"
MODULES = sorted(SOURCE.rglob("*.py"))

# What must not be loaded on a path that has to start quickly.
HEAVY = (
    "cryptography",
    "jwcrypto",
    "rich",
    "shtab",
    "asyncio",
    "tempfile",
    "urllib",
    "http",
    "zstd",
)
PRINTS = {"print"}


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


@pytest.mark.parametrize(
    ("arguments", "forbidden"),
    [
        (["--version"], (*HEAVY, "argparse", "json", "dataclasses")),
        (["inspect", "{image}"], HEAVY),
        (["inspect", "--help"], HEAVY),
    ],
)
def test_start_up_loads_nothing_heavy(
    arguments: list[str], forbidden: tuple[str, ...], data: Path
) -> None:
    image = f"oci:{data}/images/all"
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "from boltseal.cli.main import main\n"
        f"code = main({[one.format(image=image) for one in arguments]!r})\n"
        "print('\\n'.join(sorted(set(sys.modules) - before)), file=sys.stderr)\n"
        "raise SystemExit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert not loaded & set(forbidden)


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


# What a node would pay for with every layer: beyond JWE, ciphers and the interpreter's own.
NOT_FOR_A_LAYER = (
    *(one for one in HEAVY if one not in ("cryptography", "jwcrypto", "zstd")),
    *("argparse", "socket", "subprocess", "email", "grpc", "tomllib", "yaml", "google"),
)


def test_the_stream_processor_loads_nothing_heavy(data: Path) -> None:
    from support import ctd

    descriptor, blob = ctd.layer_of(data / "images" / "jwe-rsa2048")
    keys = {"privkeys": [(data / "keys" / "rsa2048.pem").read_bytes()]}
    program = [sys.executable, "-X", "importtime", ctd.PROGRAM]
    done = ctd.decode(ctd.payload(descriptor, keys), blob, program=program)
    assert done.code == 0
    assert len(done.out) == len(blob)
    bare = subprocess.run(
        [*program[:-1], "-c", "pass"], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = _imported(done.err) - _imported(bare.stderr)
    assert "jwcrypto" in loaded
    assert not loaded & set(NOT_FOR_A_LAYER)


def _imported(importtime: str) -> set[str]:
    """Top-level modules in what ``-X importtime`` prints."""
    lines = [line for line in importtime.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
