"""The words of ``boltseal recipients``: help for each action, and options before and behind it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from boltseal.cli.main import build_parser
from boltseal.cli.recipients import FLAGS, arrange
from support.cli import boltseal
from support.images import simple_image

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

ACTIONS = ("list", "add", "remove", "set")


def below(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of a parser's commands."""
    (found,) = [one.choices for one in parser._actions if isinstance(one.choices, dict)]
    return found


def options(action: str) -> set[str]:
    return set(re.findall(r"--[a-z-]+", boltseal("recipients", action, "--help").out))


def test_each_action_offers_what_it_uses() -> None:
    shown = {action: options(action) for action in ACTIONS}
    assert not shown["list"] & {"--recipient", "--key", "--dry-run", "--jobs", "--dest-creds"}
    assert "--creds" in shown["list"]
    assert "--key" not in shown["remove"]
    assert "--no-kid" not in shown["remove"]
    assert [action for action in ACTIONS if "--check-content" in shown[action]] == ["set"]
    assert {"--recipient", "--key", "--dry-run", "--check-content"} <= shown["set"]
    for action in ACTIONS:
        assert boltseal("recipients", action, "--help").out.startswith(
            f"usage: boltseal recipients {action} [options] IMAGE"
        )


def test_every_option_without_a_value_is_known_as_one() -> None:
    flags = {
        name
        for parser in below(below(build_parser(["recipients"]))["recipients"]).values()
        for action in parser._actions
        if action.nargs == 0
        for name in action.option_strings
    }
    assert flags - {"-h", "--help"} == FLAGS


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("list X", "list X"),
        ("--json list X", "list --json X"),
        ("-q --dry-run set X", "set -q --dry-run X"),
        ("-r add remove X", "remove -r add X"),
        ("-rset add X", "add -rset X"),
        ("-qr set add X", "add -qr set X"),
        ("-r=x add X", "add -r=x X"),
        ("--recipient add -k list set X", "set --recipient add -k list X"),
        ("--creds=a:b list X", "list --creds=a:b X"),
        ("X list", "X list"),
        ("nothing", "nothing"),
        ("", ""),
    ],
)
def test_options_may_stand_before_the_action(before: str, after: str) -> None:
    assert arrange(["recipients", *before.split()]) == ["recipients", *after.split()]


def test_the_orders_work(tmp_path: Path, keys: Path) -> None:
    image = f"oci:{tmp_path}/s:v1"
    who = f"jwe:{keys}/p256.pub.pem"
    source = simple_image(tmp_path / "src").reference()
    assert boltseal("encrypt", source, image, "-r", who).code == 0
    new = f"jwe:{keys}/p384.pub.pem"
    key = keys / "p256.pem"
    for words in (
        ["--json", "list", image],
        ["list", image, "--src-tls-verify", "false"],
        ["--encryption-key", new, "add", image, "--decryption-key", key],
        ["set", "--dry-run", image, f"{image}2", f"--recipient={new}", f"-k{key}"],
        ["-r", keys / "p384.pub.pem", "-q", "remove", image],
    ):
        run = boltseal("recipients", *words)
        assert run.code == 0, (words, run.err)
    assert boltseal("recipients", "list", image).out.count("jwe") == 1


def test_a_key_for_remove_is_not_needed_and_that_is_said(tmp_path: Path, keys: Path) -> None:
    image = f"oci:{tmp_path}/s:v1"
    who = [f"-rjwe:{keys}/{name}.pub.pem" for name in ("p256", "p384")]
    assert boltseal("encrypt", simple_image(tmp_path / "src").reference(), image, *who).code == 0
    run = boltseal("recipients", "remove", image, "-r", keys / "p384.pub.pem", "-k", "/nowhere")
    assert run.code == 0
    assert "note: remove takes no key" in run.err


@pytest.mark.parametrize("words", [[], ["nothing"], ["list"], ["list", "oci:a:v1", "oci:b:v1"]])
def test_what_is_no_command(words: list[str]) -> None:
    run = boltseal("recipients", *words)
    assert run.code == 2
    assert "see boltseal recipients " in run.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_the_actions(shell: str) -> None:
    script = boltseal("completion", shell).out
    for word in (*ACTIONS, "rotate"):
        assert word in script
