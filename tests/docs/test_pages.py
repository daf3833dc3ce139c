"""Every console example of the how-to pages about keys runs, and prints what the page says."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.pages import matches, run_page

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted((ROOT / "docs" / "how-to" / "keys").glob("*.md")),
    ROOT / "docs" / "broker" / "own-keys.md",
    ROOT / "docs" / "how-to" / "bulk.md",
    ROOT / "docs" / "how-to" / "choosing-layers.md",
    ROOT / "docs" / "how-to" / "cri-o.md",
    ROOT / "docs" / "how-to" / "hiding-more.md",
    ROOT / "docs" / "how-to" / "keys-on-a-host.md",
    ROOT / "docs" / "how-to" / "podman-and-buildah.md",
    ROOT / "docs" / "how-to" / "recipients.md",
    ROOT / "docs" / "how-to" / "refuse-starts.md",
    ROOT / "docs" / "how-to" / "reuse.md",
    ROOT / "docs" / "how-to" / "run-without-a-runtime.md",
]


@contextmanager
def nothing() -> Iterator[dict[str, str]]:
    """Most pages need no server."""
    yield {}


@contextmanager
def key_services() -> Iterator[dict[str, str]]:
    """Doubles of the four services, with a key in each."""
    from support.kms_services import environment

    with environment() as found:
        yield found


# Pages that need servers: a context manager that starts them and says what to export.
SERVERS = {"key-services": key_services}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_page(page: Path) -> None:
    with SERVERS.get(page.stem, nothing)() as environment:
        run_page(page, environment)


def test_there_is_a_page_for_each_kind_of_key() -> None:
    assert {page.stem for page in PAGES} >= {
        "rsa-and-ec",
        "x509",
        "openpgp",
        "pkcs11",
        "key-providers",
        "key-services",
        "post-quantum",
    }


def test_the_comparison_of_output() -> None:
    assert matches(["a", "b", "c"], ["a", "…", "c"])
    assert matches(["a"], ["a", "…"])
    assert not matches(["a", "x"], ["a"])
    assert not matches([], ["a"])
