"""The Helm chart: what it makes of its values, by the part of the template language it uses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml", reason="PyYAML comes with boltseal[pkcs11]")

CHART = Path(__file__).parents[3] / "deploy" / "helm" / "boltseal-broker"
CONTAINERFILE = CHART.parents[1] / "Containerfile"
_ACTION = re.compile(r"\{\{(-)?\s*(.*?)\s*(-)?\}\}")


def render(text: str, values: dict[str, Any], dot: Any = None) -> str:
    """Values, ``quote``, ``if`` and ``range``; a test that meets anything else fails."""
    out, rest = "", text
    while (found := _ACTION.search(rest)) is not None:
        before = rest[: found.start()]
        out += before.rstrip() if found[1] else before
        rest = rest[found.end() :]
        words = found[2].split()
        if words[0] in ("if", "range"):
            inner, rest = _block(rest)
            value = _value(words[1], values, dot)
            items = value if words[0] == "range" else [dot] if value else []
            out += "".join(render(inner, values, one) for one in items)
        else:
            value = _value(words[0], values, dot)
            quoted = words[1:] == ["|", "quote"]
            assert quoted or len(words) == 1, found[0]
            out += json.dumps(str(value)) if quoted else str(value)
    return out + rest


def _block(text: str) -> tuple[str, str]:
    depth = 1
    for found in _ACTION.finditer(text):
        word = found[2].split()[0]
        depth += word in ("if", "range")
        depth -= word == "end"
        if not depth:
            inner = text[: found.start()]
            return inner.rstrip() if found[1] else inner, text[found.end() :]
    raise AssertionError("a block has no end")


def _value(name: str, values: dict[str, Any], dot: Any) -> Any:
    if name == ".":
        return dot
    if name == ".Release.Name":
        return "keys"
    assert name.startswith(".Values."), name
    return values[name.removeprefix(".Values.")]


def defaults() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return found


def rendered(**changes: Any) -> dict[str, Any]:
    """The objects by kind."""
    values = {**defaults(), **changes}
    found = {}
    for path in sorted((CHART / "templates").iterdir()):
        document = yaml.safe_load(render(path.read_text(), values))
        found[document["kind"]] = document
    return found


def test_pods_run_without_rights_and_end_tls_themselves() -> None:
    found = rendered()
    assert found.keys() == {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}
    pod = found["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
    assert pod["volumes"][0]["secret"]["secretName"] == "boltseal-broker"
    (port,) = found["Service"]["spec"]["ports"]
    assert port["targetPort"] == "https"


def test_selectors_find_the_pods() -> None:
    found = rendered()
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        found["Deployment"]["spec"]["selector"]["matchLabels"],
        found["Service"]["spec"]["selector"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()


def test_the_network_policy_names_clients_and_ports() -> None:
    everybody = rendered()["NetworkPolicy"]["spec"]["ingress"]
    assert everybody == [{"ports": [{"port": 8443, "protocol": "TCP"}]}]
    spec = rendered(clientCidrs=["10.0.0.0/8", "192.0.2.0/24"], egressPorts=[6432])
    policy = spec["NetworkPolicy"]["spec"]
    blocks = [one["ipBlock"]["cidr"] for one in policy["ingress"][0]["from"]]
    assert blocks == ["10.0.0.0/8", "192.0.2.0/24"]
    assert [one["port"] for one in policy["egress"][0]["ports"]] == [53, 53, 6432]


def test_values_hold_no_secret_and_their_schema_knows_all_of_them() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = defaults()
    assert schema["additionalProperties"] is False
    assert schema["properties"].keys() - {"global"} == values.keys()
    kinds = {"string": str, "integer": int, "array": list}
    for name, value in values.items():
        rule = schema["properties"][name]
        assert value in rule["enum"] if "enum" in rule else isinstance(value, kinds[rule["type"]])
    assert not re.search("password|token|key:", "\n".join(values))


def test_the_container_runs_as_nobody_and_names_no_registry() -> None:
    lines = CONTAINERFILE.read_text().splitlines()
    assert "USER 65532:65532" in lines
    sources = [line.split()[1] for line in lines if line.startswith(("FROM", "ARG BASE"))]
    assert sources == ["BASE=python:3.13-slim", "${BASE}", "${BASE}"]
