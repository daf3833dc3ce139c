"""The page about identities: its files are configurations, and its commands have these options."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from boltseal.broker.identity.trusts import validate_trust
from boltseal.cli import broker_trusts
from support.broker_identity import Signer, authority, key_set

PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "broker-identities.md").read_text()
COMMANDS = re.findall(r"^boltseal broker trust (add [^\n\\]*(?:\\\n[^\n\\]*)*)", PAGE, re.MULTILINE)
FILES = [
    json.loads(one) for one in re.findall(r"^```json\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL)
]
WHOLE: dict[str, dict[str, Any]] = {
    "x509": {"ca": authority("EU", 60).pem().decode()},
    "spiffe": {"trust_domain": "prod.example", "bundle": authority("EU", 60).pem().decode()},
    "oidc": {"issuer": "i", "audiences": ["a"], "jwks": key_set(Signer("one", place=1))},
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command: str) -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    broker_trusts.add_arguments(parser)
    args = parser.parse_args(shlex.split(command.replace("\\\n", " ")))
    assert args.step == "add"
    assert args.ca or args.issuer


@pytest.mark.parametrize("config", FILES, ids=[", ".join(one) for one in FILES])
def test_files(config: dict[str, Any]) -> None:
    kind = "x509" if "names" in config else "spiffe" if "paths" in config else "oidc"
    kept = validate_trust(kind, {**WHOLE[kind], **config}, [])
    for name, value in config.items():
        assert kept[name] == value or name == "require"  # single values become lists there


def test_there_are_some() -> None:
    assert (len(COMMANDS), len(FILES)) == (7, 6)
