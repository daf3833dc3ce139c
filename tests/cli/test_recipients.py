"""Recipients are listed, added, removed and set in the manifests alone."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

import boltseal as library
from boltseal.errors import ConflictError
from boltseal.image import recipients_change
from support.cli import Run, boltseal
from support.images import blobs, index_image, simple_image
from support.layouts import check, check_tree

if TYPE_CHECKING:
    from pathlib import Path

SCHEMES = ("jwe", "pkcs7", "pgp")
EVERYBODY = [f"-r{{keys}}/{name}.pub.pem" for name in ("p256", "p384", "rsa2048")]
RSA, CERTIFIED = "rsa2048", "rsa3072"


def ok(*arguments: object) -> Run:
    run = boltseal(*arguments)
    assert run.code == 0, run.err
    return run


def listed(image: str) -> dict[tuple[str, str | None], int]:
    document = json.loads(ok("recipients", "list", image, "--json").out)
    return {(one["scheme"], one["recipient"]): one["layers"] for one in document["recipients"]}


def opens(image: str, key: object, out: Path) -> bool:
    run = boltseal("decrypt", image, f"oci:{out}:v1", "-k", key, "--check-content")
    assert run.code in (0, 3), run.err
    return run.code == 0


@pytest.fixture
def sealed(tmp_path: Path, keys: Path) -> str:
    """An index of two platforms for three keys, one of them in a packet of its own."""
    source, image = index_image(tmp_path / "src"), f"oci:{tmp_path}/sealed:v1"
    who = [f"-rjwe:{keys}/{name}.pub.pem" for name in ("p256", "p384")]
    ok("encrypt", source.reference(), image, *who)
    ok("recipients", "add", image, "-r", f"jwe:{keys}/rsa2048.pub.pem", "-k", keys / "p256.pem")
    return image


def test_list(sealed: str) -> None:
    assert sorted(listed(sealed).values()) == [4, 4, 4]
    shown = ok("recipients", "list", sealed).out
    assert shown.count("4 of 4") == 3


@pytest.mark.parametrize("gone", ["p256", "p384", "rsa2048"])
def test_one_is_removed_and_the_others_stay(
    tmp_path: Path, sealed: str, keys: Path, gone: str
) -> None:
    before = blobs(tmp_path / "sealed")
    run = ok("recipients", "remove", sealed, "-r", keys / f"{gone}.pub.pem")
    assert "may have kept the layers' keys" in run.err
    check_tree(tmp_path / "sealed")
    new = blobs(tmp_path / "sealed") - before
    # an index and two manifests; without the last one added it is the image from before
    assert len(new) == (0 if gone == "rsa2048" else 3)
    assert len(listed(sealed)) == 2
    for name in ("p256", "p384", "rsa2048"):
        out = tmp_path / f"out-{name}"
        assert opens(sealed, keys / f"{name}.pem", out) == (name != gone)


def test_decrypting_gives_back_the_original(tmp_path: Path, sealed: str, keys: Path) -> None:
    ok("recipients", "remove", sealed, "-r", keys / "p256.pub.pem")
    ok("decrypt", sealed, f"oci:{tmp_path}/out:v1", "-k", keys / "p384.pem")
    source = ok("digest", f"oci:{tmp_path}/src:v1").out
    assert ok("digest", f"oci:{tmp_path}/out:v1").out == source


def test_who_is_there_is_not_added_again(tmp_path: Path, sealed: str, keys: Path) -> None:
    before = ok("digest", sealed).out
    who = ("-r", f"jwe:{keys}/p384.pub.pem")
    run = ok("recipients", "add", sealed, *who, "-k", keys / "p256.pem")
    assert run.out.startswith("nothing to change")
    assert ok("digest", sealed).out == before
    ok("recipients", "add", sealed, *who, "-r", f"jwe:{keys}/p521.pub.pem", "-k", keys / "p256.pem")
    assert sorted(listed(sealed).values()) == [4, 4, 4, 4]
    assert opens(sealed, keys / "p521.pem", tmp_path / "out")


def test_set_makes_the_list_exactly_that(tmp_path: Path, sealed: str, keys: Path) -> None:
    new = f"oci:{tmp_path}/new:v2"
    who = ("-r", f"jwe:{keys}/p521.pub.pem")
    ok("recipients", "set", sealed, new, *who, "-k", keys / "rsa2048.pem")
    assert list(listed(new).values()) == [4]
    assert opens(new, keys / "p521.pem", tmp_path / "out")
    assert not opens(new, keys / "p256.pem", tmp_path / "no")
    assert len(listed(sealed)) == 3  # the old name has the old image
    check_tree(tmp_path / "new")


def test_a_dry_run_writes_nothing(tmp_path: Path, sealed: str, keys: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "sealed").rglob("*")}
    gone = keys / "p256.pub.pem"
    run = ok("recipients", "remove", sealed, "-r", gone, "--dry-run", "--json")
    report = json.loads(run.out)
    assert report["after"] is None
    assert [len(one["removed"]) for one in report["changes"]] == [1, 1, 1, 1]
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "sealed").rglob("*")}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["remove"], 2, "nobody to remove"),
        (["remove", "-r", "{keys}/other.pub.pem"], 1, "is not named in the image"),
        (["remove", "-r", "bob"], 2, "names no recipient"),
        (
            ["remove", *[f"-r{{keys}}/{n}.pub.pem" for n in ("p256", "p384", "rsa2048")]],
            2,
            "nobody",
        ),
        (["add", "-r", "jwe:{keys}/p521.pub.pem"], 3, "no key was given"),
        (["add", "-r", "jwe:{keys}/p521.pub.pem", "-k", "{keys}/other.pem"], 3, "no key given"),
        (["add", "-k", "{keys}/p256.pem"], 2, "no recipient is named"),
        (["set", "-k", "{keys}/p256.pem"], 2, "no recipient is named"),
        (["list", "-r", "x"], 2, "unrecognized arguments: -r"),
    ],
)
def test_what_cannot_be_done_changes_nothing(
    tmp_path: Path, sealed: str, keys: Path, arguments: list[str], code: int, message: str
) -> None:
    before = (tmp_path / "sealed/index.json").read_bytes()
    action, *rest = [one.format(keys=keys) for one in arguments]
    run = boltseal("recipients", action, sealed, *rest)
    assert (run.code, message in run.err) == (code, True), run.err
    assert (tmp_path / "sealed/index.json").read_bytes() == before


def test_one_layer_that_stays_closed_stops_all(tmp_path: Path, keys: Path) -> None:
    source, image = simple_image(tmp_path / "src"), f"oci:{tmp_path}/s:v1"
    ok("encrypt", source.reference(), f"oci:{tmp_path}/s:half", "-r",
       f"jwe:{keys}/p256.pub.pem", "--layer", "0")  # fmt: skip
    ok("encrypt", f"oci:{tmp_path}/s:half", image, "-r", f"jwe:{keys}/p384.pub.pem")
    before = (tmp_path / "s/index.json").read_bytes()
    run = boltseal(
        "recipients", "add", image, "-r", f"jwe:{keys}/p521.pub.pem", "-k", keys / "p256.pem"
    )
    assert run.code == 3
    assert "linux/amd64 1" in run.err
    assert (tmp_path / "s/index.json").read_bytes() == before


def test_places_that_cannot_be_changed(tmp_path: Path, sealed: str, keys: Path) -> None:
    digest = ok("digest", sealed).out.strip()
    pinned = f"oci:{tmp_path}/sealed@{digest}"
    gone = ("-r", keys / "p256.pub.pem")
    assert "pinned by its digest" in boltseal("recipients", "remove", pinned, *gone).err
    untagged = f"oci:{tmp_path}/sealed"
    assert "without a tag" in boltseal("recipients", "remove", untagged, *gone).err
    ok("recipients", "remove", pinned, f"oci:{tmp_path}/other:v1", *gone)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_recipients_of_skopeo(tmp_path: Path, data: Path, scheme: str) -> None:
    """The image has one of each kind, and JWE without a name."""
    image = f"oci:{tmp_path}/img:v1"
    ok("copy", f"oci:{data}/images/all", image)
    keys = {"jwe": f"{RSA}.pem", "pkcs7": f"{CERTIFIED}.pem", "pgp": "pgp-rsa.sec.gpg"}
    who = {
        "jwe": data / "keys" / keys["jwe"],  # only the private key finds its own part
        "pkcs7": data / "keys" / f"{CERTIFIED}.crt.pem",
        "pgp": "5C8576E6B496A768",
    }
    ok("recipients", "remove", image, "-r", who[scheme])
    assert {one for one, _ in listed(image)} == set(SCHEMES) - {scheme}
    for other, key in keys.items():
        assert opens(image, data / "keys" / key, tmp_path / other) == (other != scheme)


@pytest.mark.parametrize(
    ("image", "gone", "stays"),
    [
        ("jwe-multi", "rsa2048.pem", "ec-prime256v1.pem"),
        ("jwe-multi", "ec-prime256v1.pem", "rsa3072.pem"),
        ("pkcs7-multi", "rsa2048.crt.pem", "rsa3072.pem"),
        ("pgp-multi", "64D91AA24725B3F7", "pgp-rsa.sec.gpg"),
    ],
)
def test_packets_that_several_share(
    tmp_path: Path, data: Path, image: str, gone: str, stays: str
) -> None:
    target = f"oci:{tmp_path}/img:v1"
    ok("copy", f"oci:{data}/images/{image}", target)
    count = sum(listed(target).values())
    whom = data / "keys" / gone if "." in gone else gone
    ok("recipients", "remove", target, "-r", whom)
    # without names all count as one
    assert sum(listed(target).values()) == count - (0 if image == "jwe-multi" else 3)
    assert opens(target, data / "keys" / stays, tmp_path / "out")
    if gone.endswith(".pem"):
        private = data / "keys" / gone.replace(".crt", "")
        assert not opens(target, private, tmp_path / "no")


def test_a_stranger_is_explained(sealed: str, keys: Path) -> None:
    run = boltseal("recipients", "remove", sealed, "-r", keys / "other.pub.pem")
    assert run.code == 1
    assert f"hint:  see who can open it with: boltseal recipients list {sealed}\n" in run.err


def test_a_name_that_is_missing_is_explained(tmp_path: Path, data: Path) -> None:
    image = f"oci:{tmp_path}/img:v1"
    ok("copy", f"oci:{data}/images/jwe-multi", image)
    run = boltseal("recipients", "remove", image, "-r", data / "keys/rsa2048.pub.pem")
    assert run.code == 1
    assert "9 wrapped keys do not tell whose they are: name the private key" in run.err


def test_somebody_else_was_faster(
    tmp_path: Path, sealed: str, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = recipients_change._write

    def interrupted(session: Any, edits: Any) -> str:
        monkeypatch.undo()
        ok("recipients", "remove", sealed, "-r", keys / "p384.pub.pem")
        return write(session, edits)

    monkeypatch.setattr(recipients_change, "_write", interrupted)
    run = boltseal("recipients", "remove", sealed, "-r", keys / "p256.pub.pem")
    assert run.code == 1
    assert "somebody else changed the image meanwhile" in run.err
    assert len(listed(sealed)) == 2  # theirs stands
    check_tree(tmp_path / "sealed")


def test_two_writers_lose_nothing(tmp_path: Path, keys: Path) -> None:
    """Each adds a recipient of its own; who was slower is told, and tries again."""
    source, image = simple_image(tmp_path / "src"), f"oci:{tmp_path}/s:v1"
    ok("encrypt", source.reference(), image, "-r", f"jwe:{keys}/p256.pub.pem")
    new = {name: f"jwe:{keys}/{name}.pub.pem" for name in ("p384", "p521")}
    ring = library.parse_keyring([keys / "p256.pem"])
    conflicts = []

    def change(name: str) -> None:
        for _ in range(50):
            try:
                library.add_recipients(image, [new[name]], ring)
            except ConflictError:
                conflicts.append(name)
            else:
                return

    for _ in range(20):
        ok("recipients", "set", image, "-r", f"jwe:{keys}/p256.pub.pem", "-k", keys / "p256.pem")
        threads = [threading.Thread(target=change, args=(name,)) for name in new]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(listed(image)) == 3
        check(tmp_path / "s")
