"""Globs over paths mean what they mean in .gitignore, checked against git itself."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boltseal.errors import UsageError
from boltseal.layer.globs import Glob, Path, Search

if TYPE_CHECKING:
    from pathlib import Path as Folder

PATHS = [
    "a", "ab", "abc", "a/b", "a/b/c", "a/x/b", "a/x/y/b", "x/a/b", "key.pem", "srv/app/key.pem",
    "srv/app/run", "srv/application", "usr/lib/x86_64/libz.so.1", "etc/[x]", "etc/!x", "etc/a]b",
    "etc/a-b", "etc/a\\b", "A", "läd/öl", "etc/*", "a b/c ",
]  # fmt: skip
GLOBS = [
    "a", "/a", "a/", "/a/b", "a/b", "a/*", "a/**", "**/b", "a/**/b", "**", "*", "?", "*.pem",
    "/*.pem", "srv/app", "srv/app*", "srv/*/run", "**/app/", "usr/**/*.so.*", "[ab]", "[!a]",
    "[^a]b", "a?c", "a*c*", "**b", "a**", "etc/[[]x]", r"etc/\[x]", r"\!x", "etc/!x", "etc/a[]]b",
    "etc/a[a\\-z]b", "etc/a[!-~]b", r"etc/a\\b", r"etc/\*", "?/?", "[a-c]", "/[a-c]/**/[!x]",
    "x/**/", "/**/b", "a/**/**/b",
]  # fmt: skip


def ours(glob: str, path: str, *, is_folder: bool = False) -> bool:
    found = Path.of_entry(path, is_folder)
    if found is None:
        return False
    search = Search([Glob.parse(glob)])
    search.add(found)
    return search.found == {0}


def test_git_says_the_same(repository: Folder) -> None:
    for glob in GLOBS:
        assert {path for path in PATHS if ours(glob, path)} == ignored(repository, glob, PATHS)


PART = st.text("ab*?[]!^-\\", min_size=1, max_size=6)
NAME = st.text("ab-^!]", min_size=1, max_size=5)


def ignored(folder: Folder, glob: str, paths: list[str]) -> set[str]:
    """Those of the paths that git ignores by this one glob."""
    (folder / ".git" / "info" / "exclude").write_text(f"{glob}\n")
    ask = subprocess.run(
        ["git", "check-ignore", "--no-index", "-z", "--stdin"],
        cwd=folder, input="\0".join(paths).encode(), capture_output=True, check=False,
    )  # fmt: skip
    assert ask.returncode in (0, 1), ask.stderr
    return set(ask.stdout.decode().split("\0")) - {""}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = tmp_path_factory.mktemp("globs")
    subprocess.run(["git", "init", "-q", folder], check=True)
    return folder


@settings(max_examples=150, deadline=None)
@given(glob=st.lists(PART, min_size=1, max_size=4).map("/".join), names=st.lists(NAME, max_size=9))
def test_git_says_the_same_of_anything(glob: str, names: list[str], repository: Folder) -> None:
    try:
        Glob.parse(glob)
    except UsageError:
        return
    paths = sorted({"/".join(names[at : at + 3]) for at in range(len(names))})
    if paths:
        assert {path for path in paths if ours(glob, path)} == ignored(repository, glob, paths)


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        ("./srv/app/run", ("srv", "app", "run")),
        ("/srv//app/./run", ("srv", "app", "run")),
        ("srv/app/", ("srv", "app")),
        ("x/../srv/app", ("srv", "app")),
        ("../../srv", ("srv",)),
        ("srv/.wh.app", ("srv", "app")),
    ],
)
def test_a_path_is_the_one_that_a_runtime_unpacks(entry: str, names: tuple[str, ...]) -> None:
    found = Path.of_entry(entry, False)
    assert found is not None
    assert found.names == names


@pytest.mark.parametrize("entry", ["", "./", "/", "srv/.wh..wh..opq", ".wh.", ".wh..wh.plnk/x/.."])
def test_what_names_no_path(entry: str) -> None:
    assert Path.of_entry(entry, True) is None


def test_folders() -> None:
    assert ours("srv/app/", "srv/app/run")
    assert ours("srv/app/", "srv/app", is_folder=True)
    assert not ours("srv/app/", "srv/app")  # a file of that name
    assert ours("srv/app/", "srv/.wh.app")  # what was taken away may have been a folder
    assert not ours("srv/app/**", "srv/app", is_folder=True)
    assert not ours("srv/app/x", "srv/.wh.app")


@pytest.mark.parametrize(
    ("glob", "message"),
    [
        ("", "names no path"),
        ("//", "names no path"),
        ("!secret", "take paths out"),
        ("../secret", "has . or .."),
        ("srv/./app", "has . or .."),
        ("[a-", "without its ]"),
        ("[", "without its ]"),
        ("a[/]b", "without its ]"),
        ("[z-a]", "ends before it begins"),
        ("[[:alpha:]]", "class by name"),
        ("a\\", "nothing behind it"),
        ("[a\\", "nothing behind it"),
    ],
)
def test_what_is_refused(glob: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Glob.parse(glob)
    assert message in str(caught.value)


@pytest.mark.timeout(30)
def test_no_path_makes_matching_dear() -> None:
    """What backtracks takes longer than the world exists."""
    assert not ours("*a*a*a*a*a*a*a*a*a*a*b", "a" * 4000)
    assert not ours("**/a/**/a/**/a/**/a/**/a/**/b", "/".join("a" * 2000))


@given(
    globs=st.lists(st.sampled_from(GLOBS), max_size=4),
    paths=st.lists(st.tuples(st.sampled_from(PATHS), st.booleans()), max_size=12),
)
def test_the_order_of_paths_does_not_matter(
    globs: list[str], paths: list[tuple[str, bool]]
) -> None:
    search = Search([Glob.parse(glob) for glob in globs])
    for path, is_folder in paths:
        found = Path.of_entry(path, is_folder)
        assert found is not None
        search.add(found)
    assert search.found == {
        place
        for place, glob in enumerate(globs)
        if any(ours(glob, path, is_folder=is_folder) for path, is_folder in paths)
    }
