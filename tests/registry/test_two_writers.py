"""Two writers change the recipients of one tag at once: no change is lost without an error."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from boltseal import list_recipients
from boltseal.image.recipients import add_recipients
from boltseal.keywrap.generate import generate_key
from boltseal.transports.registry.options import RegistryOptions
from support.cli import boltseal
from support.images import GZIP, simple_image
from support.proxy import Fault, proxied
from support.writers import Job, writers

if TYPE_CHECKING:
    from pathlib import Path

    from support.registry import Registry
    from support.writers import Writer

ROUNDS = 200
AT_ONCE = 5  # tags, each with two writers of its own
# Seconds that one of two begins later: at once, within a request, within a claim, after it.
DELAYS = (0.0, 0.0, 0.003, 0.01, 0.05, 0.2, 0.4)

pytestmark = pytest.mark.usefixtures("own_home")


@dataclass
class Tag:
    """One image, and who can open it as far as the writers reported."""

    image: str
    members: set[str]
    succeeded: list[int] = field(default_factory=list)  # of two, in each round


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A key for each writer to add and remove: thumbprint to the public half's file."""
    folder = tmp_path_factory.mktemp("two")
    found = {}
    for name in ("left", "right"):
        generated = generate_key(str(folder / f"{name}.pem"), "p256")
        found[generated.thumbprint] = str(folder / f"{name}.pub.pem")
    return found


def members(image: str) -> set[str]:
    listed = list_recipients(image, registry=RegistryOptions(tls_verify=False))
    return {str(one.recipient) for one in listed.recipients}


def race(tags: list[Tag], pair: list[Writer], two: dict[str, str], key: Path, chance: random.Random,
         delays: tuple[float, ...]) -> None:  # fmt: skip
    """One round: each writer adds its key to each tag, or takes it out where it is in."""
    for tag in tags:
        late = chance.choice([0, 1])
        for number, (writer, name) in enumerate(zip(pair, two, strict=True)):
            action = "remove" if name in tag.members else "add"
            delay = chance.choice(delays) if number == late else 0.0
            writer.begin(Job(tag.image, action, two[name], str(key), delay))
    results = [writer.results() for writer in pair]
    for tag, outcomes in zip(tags, zip(*results, strict=True), strict=True):
        for name, outcome in zip(two, outcomes, strict=True):
            assert outcome == "done" or outcome.startswith("ConflictError: "), outcome
            if outcome == "done":
                tag.members ^= {name}
        assert members(tag.image) == tag.members, outcomes
        tag.succeeded.append(outcomes.count("done"))


def run_rounds(
    tmp_path: Path, keys: Path, two: dict[str, str], images: list[str], delays: tuple[float, ...]
) -> list[int]:
    source = simple_image(tmp_path / "src", (GZIP,)).reference()
    for image in images:
        run = boltseal("encrypt", source, image, "-r", f"jwe:{keys}/p256.pub.pem")
        assert run.code == 0, run.err
    tags = [Tag(image, members(image)) for image in images]
    chance = random.Random(0)
    with writers(tmp_path / "writers", 2) as pair:
        for _ in range(ROUNDS // len(images)):
            race(tags, pair, two, keys / "p256.pem", chance, delays)
    return [count for tag in tags for count in tag.succeeded]


@pytest.mark.slow
def test_on_a_registry(tmp_path: Path, plain: Registry, keys: Path, two: dict[str, str]) -> None:
    images = [plain.reference(f"two/writers:t{number}") for number in range(AT_ONCE)]
    succeeded = run_rounds(tmp_path, keys, two, images, DELAYS)
    assert len(succeeded) == ROUNDS
    # how often is a matter of how busy the machine is
    assert succeeded.count(2) < ROUNDS * 3 // 4, "they hardly ever met"
    assert sum(succeeded) > ROUNDS // 2, "they mostly kept each other from it"


@pytest.mark.slow
def test_in_a_layout(tmp_path: Path, keys: Path, two: dict[str, str]) -> None:
    delays = tuple(delay / 20 for delay in DELAYS)
    succeeded = run_rounds(tmp_path, keys, two, [f"oci:{tmp_path}/layout:v1"], delays)
    assert len(succeeded) == ROUNDS
    assert succeeded.count(1) > ROUNDS // 20, "they hardly ever met"
    assert succeeded.count(2) > 0
    assert succeeded.count(0) == 0


@pytest.mark.parametrize("claims", [False, True])
def test_the_worst_moment(
    tmp_path: Path, plain: Registry, keys: Path, two: dict[str, str], claims: bool
) -> None:
    """The second writer does all of it between the first one's look at the tag and its write."""
    source = simple_image(tmp_path / "src", (GZIP,)).reference()
    name = f"two/worst-{claims}:v1".lower()
    left, right = (f"jwe:{path}" for path in two.values())
    options = RegistryOptions(claims=claims)
    problems: list[str] = []

    def second() -> None:
        try:
            add_recipients(plain.reference(name), [right], [keys / "p256.pem"], registry=options)
        except Exception as error:
            problems.append(f"{type(error).__name__}: {error}")

    with proxied(plain) as proxy:
        image = proxy.reference(name)
        assert boltseal("encrypt", source, image, "-r", f"jwe:{keys}/p256.pub.pem").code == 0
        before = members(image)
        proxy.faults.append(Fault("PUT", "/manifests/v1$", ahead=second))
        add_recipients(image, [left], [keys / "p256.pem"], registry=options)
        assert proxy.faults[0].met == 1
        assert members(image) == before | {list(two)[0]}  # noqa: RUF015
    if claims:
        assert len(problems) == 1
        assert "ConflictError: " in problems[0]
        assert "somebody else is changing the tag v1 right now; nothing was changed" in problems[0]
    else:  # what this file would not see if it could not fail: a change that is lost
        assert problems == []
