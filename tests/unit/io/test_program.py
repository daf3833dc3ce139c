"""Programs that flood, hang, do not listen or leave others behind: bounded, and gone afterwards."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import boltseal
from boltseal._io import program
from boltseal._io.program import Bound, NotStartedError, TooMuchError, TooSlowError

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = 600.0  # seconds
SHORT = 0.3
BIG = b"0123456789abcdef" * 20_000  # more than a pipe holds
BOTH = pytest.mark.parametrize("own_session", [True, False])
HELPER = "sleep 600 & echo $! > $1; "


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No child and no descriptor, in whatever way a program ended."""
    before = descriptors(), children()
    yield
    assert (descriptors(), children()) == before


def descriptors() -> set[tuple[str, str]]:
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that listed them
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return found


def children() -> set[str]:
    """Those that nobody has waited for as well."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if path.read_text().rpartition(")")[2].split()[1] == str(os.getpid()):
                found.add(path.parent.name)
    return found


def run(
    script: str, *arguments: object, given: bytes = b"", seconds: float = LONG, **more: Any
) -> program.Ended:
    """A shell's script; it may write 1000 bytes unless told."""
    command = ["/bin/sh", "-c", script, "sh", *map(str, arguments)]
    return start(command, given, seconds=seconds, **more)


def start(command: list[str], given: bytes = b"", **more: Any) -> program.Ended:
    ours = {"environment": {"PATH": os.environ["PATH"]}, "seconds": LONG}
    bounds = {"output": Bound(1000), "errors": Bound(1000)}
    return program.run(command, given, **{**ours, **bounds, **more})


def in_python(folder: Path, text: str) -> str:
    """A program in a file: it gets the options for descriptors."""
    path = folder / "program"
    path.write_text(f"#!{sys.executable}\nimport os, sys\n{text}")
    path.chmod(0o755)
    return str(path)


def is_alive(mark: Path) -> bool:
    """Whether the process whose number is in a file runs."""
    with suppress(FileNotFoundError):
        state = Path(f"/proc/{int(mark.read_text())}/stat").read_text().rpartition(")")[2].split()
        return state[0] not in "ZX"
    return False


def wait_until_gone(mark: Path) -> None:
    while is_alive(mark):
        threading.Event().wait(0.02)


def end_what_was_left(mark: Path) -> None:
    """It is there, and it is not anybody's to wait for."""
    assert is_alive(mark)
    os.kill(int(mark.read_text()), signal.SIGKILL)


@BOTH
def test_what_goes_in_and_what_comes_out(own_session: bool) -> None:
    ended = run("cat; echo no >&2; exit 3", given=b"question", own_session=own_session)
    assert (ended.code, ended.output, ended.errors, ended.more) == (3, b"question", b"no\n", ())
    assert "question" not in repr(ended)
    assert run("kill -TERM $$", own_session=own_session).code == -signal.SIGTERM


def test_arguments_are_not_read_as_anything() -> None:
    """Neither by a shell nor as a place for a descriptor's number."""
    ended = start(["/usr/bin/printf", "%s|", "{}", "$HOME", "a b"])
    assert ended.output == b"{}|$HOME|a b|"
    command = ["/usr/bin/env", "sh", "-c", 'echo "$1"; cat "/dev/fd/$X"', "sh", "{}"]
    ended = start(command, more_given=[("X={}", b"{}")])
    assert (ended.code, ended.output) == (0, b"{}\n{}")


def test_it_gets_what_is_named_and_no_more(tmp_path: Path) -> None:
    path = in_python(
        tmp_path,
        "numbers = [int(one.partition('=')[2]) for one in sys.argv[1:5]]\n"
        "print([one.partition('=')[0] for one in sys.argv[1:5]], sys.argv[5:])\n"
        "for number in numbers[:2]:\n"
        "    content = b''.join(iter(lambda: os.read(number, 4096), b''))\n"
        "    os.write(numbers[2], b'%d,%s ' % (len(content), content[-3:]))\n"
        "os.write(numbers[3], b'last')\n"
        "found = [int(one) for one in os.listdir('/proc/self/fd')]\n"
        "print(len(found), set(numbers) < set(found), sorted(os.environ))\n",
    )
    with (tmp_path / "ours").open("w") as ours:
        os.set_inheritable(ours.fileno(), True)
        ended = start(
            [path, "own"],
            environment={"LC_ALL": "C.UTF-8"},
            more_given=[("--a={}", BIG), ("--b={}", b"")],
            more_outputs=[("--c={}", Bound(100)), ("--d={}", Bound(4))],
        )
    assert ended.errors == b""
    assert ended.output.decode().splitlines() == [
        "['--a', '--b', '--c', '--d'] ['own']",
        "8 True ['LC_ALL']",  # the three, the four, and the folder it lists
    ]
    assert ended.more == (b"%d,%s 0, " % (len(BIG), BIG[-3:]), b"last")


def test_feeding_and_reading_at_the_same_time() -> None:
    assert run("cat", given=BIG, output=Bound(len(BIG))).output == BIG
    assert run("cat >&2", given=BIG, errors=Bound(9, is_cut=True)).errors == BIG[:9]


@BOTH
@pytest.mark.parametrize("to", ["", ">&2"])
def test_more_than_its_bound(own_session: bool, to: str) -> None:
    bounds = {"output": Bound(70_000), "errors": Bound(70_000), "own_session": own_session}
    exactly = run(f"head -c 70000 /dev/zero {to}", **bounds)
    assert len(exactly.output + exactly.errors) == 70_000
    for script in (f"head -c 70001 /dev/zero {to}", f"exec yes {to}"):
        with pytest.raises(TooMuchError) as caught:
            run(script, **bounds)
        assert caught.value.limit == 70_000


def test_more_than_the_bound_of_a_further_output(tmp_path: Path) -> None:
    path = in_python(
        tmp_path, "while True:\n    os.write(int(sys.argv[1]), bytes(int(sys.argv[2])))\n"
    )
    with pytest.raises(TooMuchError) as caught:
        start([path, "10"], more_outputs=[("{}", Bound(55))])
    assert caught.value.limit == 55
    with pytest.raises(TooSlowError):
        start([path, "10"], more_outputs=[("{}", Bound(55, is_cut=True))], seconds=SHORT)


@BOTH
@pytest.mark.parametrize(
    "script",
    [
        "exec sleep 600",
        "exec sleep 600 <&- >&- 2>&-",
        "head -c 5000 > /dev/null; exec sleep 600",
        "exec yes >&2",
        "trap '' TERM INT HUP; while :; do read x; done 2> /dev/null",
    ],
    ids=["silent", "closed", "listening", "talking", "obstinate"],
)
def test_one_that_does_not_end(script: str, own_session: bool) -> None:
    cut = Bound(10, is_cut=True)
    with pytest.raises(TooSlowError):
        run(script, given=BIG, seconds=SHORT, errors=cut, own_session=own_session)


@pytest.mark.parametrize(
    "script", ["exec <&-; echo ok", "head -c 5 > /dev/null; echo ok", "echo ok"]
)
def test_one_that_does_not_listen(script: str) -> None:
    ended = run(script, given=BIG)
    assert (ended.code, ended.output) == (0, b"ok\n")


def test_one_that_listens_when_it_has_said_all() -> None:
    ended = run('exec >&- 2>&-; test "$(wc -c)" -eq $1 && exit 7', len(BIG), given=BIG)
    assert ended.code == 7


@BOTH
@pytest.mark.parametrize(
    "helper",
    [
        "sleep 600 &",
        "(trap '' PIPE; while kill -0 $PPID; do echo talking; done >&2) &",
        "setsid sleep 600 &",
    ],
    ids=["silent", "talking", "daemon"],
)
def test_what_it_leaves_behind_is_not_waited_for(
    tmp_path: Path, helper: str, own_session: bool
) -> None:
    """Nor killed; and what the program itself wrote is read."""
    mark = tmp_path / "mark"
    errors = Bound(10, is_cut=True)
    script = f"{helper} echo $! > $1; head -c 60000 /dev/zero"
    ended = run(script, mark, output=Bound(60_000), errors=errors, own_session=own_session)
    assert (ended.code, ended.output) == (0, bytes(60_000))
    end_what_was_left(mark)


def test_what_is_only_read_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended before it was looked at, and a helper holds the pipes."""
    has_ended = program._has_ended

    def at_last(process: subprocess.Popen[bytes]) -> bool:
        while not has_ended(process):
            threading.Event().wait(0.02)
        return True

    monkeypatch.setattr(program, "_has_ended", at_last)
    script = HELPER + "head -c 60000 /dev/zero"
    mark = tmp_path / "mark"
    assert run(script, mark, output=Bound(60_000)).output == bytes(60_000)
    end_what_was_left(mark)
    assert run(script, mark, output=Bound(9, is_cut=True)).output == bytes(9)
    end_what_was_left(mark)
    with pytest.raises(TooMuchError):
        run(script, mark, output=Bound(59_999))
    wait_until_gone(mark)


def test_its_helpers_are_killed_with_it(tmp_path: Path) -> None:
    """Not what has left for a session of its own, as GnuPG's agent does."""
    helper, daemon = tmp_path / "helper", tmp_path / "daemon"
    script = HELPER + "setsid sh -c 'echo $$ > $0; exec sleep 600' $2 & "
    with pytest.raises(TooMuchError):
        run(script + "until test -s $2; do :; done; exec yes", helper, daemon)
    wait_until_gone(helper)
    end_what_was_left(daemon)


def test_without_a_session_of_its_own_it_is_killed_alone(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(TooMuchError):
        run(HELPER + "exec yes", mark, own_session=False)
    end_what_was_left(mark)


def test_one_that_is_not_ours_to_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has other rights than we have; without its pipes it has no reason to go on."""

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "killpg", refuse)
    with pytest.raises(TooMuchError):
        run("exec yes")


@BOTH
def test_whose_session_it_is_in(own_session: bool, tmp_path: Path) -> None:
    path = in_python(tmp_path, "print(os.getsid(0) == os.getpid() == os.getpgid(0))")
    assert start([path], own_session=own_session).output == b"%s\n" % str(own_session).encode()


class StoppedError(BaseException):
    """What a signal is made into."""


@BOTH
def test_an_exception_in_between(tmp_path: Path, own_session: bool) -> None:
    def stop(*_: object) -> None:
        raise StoppedError

    mark = tmp_path / "mark"
    script = "echo $$ > $1; read line; kill -USR1 $PPID; exec yes >&2"  # it is fed: it is known
    before = signal.signal(signal.SIGUSR1, stop)
    try:
        with pytest.raises(StoppedError):
            run(
                script,
                mark,
                given=b"go\n",
                errors=Bound(10, is_cut=True),
                own_session=own_session,
            )
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not is_alive(mark)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["/absent/program"], "no such file or directory"),
        (["/etc/passwd"], "permission denied"),
        (["/"], "permission denied"),
        (["/bin/sh", "a\0b"], "embedded null byte"),
    ],
)
def test_one_that_cannot_be_started(command: list[str], reason: str) -> None:
    with pytest.raises(NotStartedError) as caught:
        start(command, more_given=[("{}", BIG)])
    assert caught.value.reason == reason
    assert caught.value.__suppress_context__


def test_no_descriptors_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, calls = os.pipe, iter(range(9))

    def few() -> tuple[int, int]:
        if next(calls) == 3:
            raise OSError(errno.EMFILE, "")
        return pipe()

    monkeypatch.setattr(os, "pipe", few)
    with pytest.raises(NotStartedError, match="too many open files"):
        run("exit 0", more_given=[("{}", b"")])


def test_a_process_without_standard_streams(tmp_path: Path) -> None:
    """Its numbers are free for pipes, and each pipe still gets to where it belongs."""
    inner = in_python(
        tmp_path,
        "numbers = [int(one) for one in sys.argv[1:3]]\n"
        "os.write(2, os.read(numbers[0], 9))\n"
        "os.write(numbers[1], b'more')\n"
        "sys.stdout.write(sys.stdin.read())\n",
    )
    outer = (
        "import os, sys\n"
        "from boltseal._io.program import Bound, run\n"
        "os.closerange(0, 3)\n"
        "b = Bound(99)\n"
        "found = run([sys.argv[1]], b'in', environment={}, seconds=600, output=b, errors=b,\n"
        "            more_given=[('{}', b'given')], more_outputs=[('{}', b)])\n"
        "with open(sys.argv[2], 'w') as file:\n"
        "    print(found.code, found.output, found.errors, found.more, file=file)\n"
    )
    answer = tmp_path / "answer"
    subprocess.run(
        [sys.executable, "-c", outer, inner, answer],
        env={"PYTHONPATH": str(Path(boltseal.__file__).parents[1])},
        check=True,
    )
    assert answer.read_text() == "0 b'in' b'given' (b'more',)\n"


def test_whoever_ignores_that_children_end(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert run("cat", given=BIG, output=Bound(len(BIG))).output == BIG
        with pytest.raises(TooSlowError):
            run("exec sleep 600", seconds=SHORT)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_several_at_the_same_time() -> None:
    with ThreadPoolExecutor(8) as threads:
        texts = [b"%d" % number for number in range(32)]
        found = list(threads.map(lambda text: run("cat", given=text).output, texts))
    assert found == texts
