"""What programs hand to the public functions: mistakes end in errors of the tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import boltseal
from boltseal.errors import UsageError
from support.images import simple_image

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "options",
    [
        {"scrub": True},
        {"scrub": [True]},
        {"layers": None},
        {"layers": [None]},
        {"layers": [1.0]},
        {"layers_containing": [b"etc"]},
    ],
    ids=str,
)
def test_what_is_no_list_of_texts(tmp_path: Path, keys: Path, options: dict[str, Any]) -> None:
    source, who = simple_image(tmp_path / "app").reference(), [f"jwe:{keys}/p256.pub.pem"]
    with pytest.raises(UsageError, match="is no"):
        boltseal.encrypt(source, f"oci:{tmp_path}/sealed:v1", who, **options)
    assert not (tmp_path / "sealed").exists()


def test_a_number_is_a_selection(tmp_path: Path, keys: Path) -> None:
    source, who = simple_image(tmp_path / "app").reference(), [f"jwe:{keys}/p256.pub.pem"]
    layers: Any = [-1]
    outcome = boltseal.encrypt(source, f"oci:{tmp_path}/sealed:v1", who, layers=layers)
    assert outcome.count("encrypted") == 1
