"""The processes that decide, by themselves: what they are given, and what becomes of it when they
end, hang or talk nonsense. The process is ``support.pool_worker``.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from boltseal.broker.model import Action, Presented
from boltseal.broker.release import pool as pools
from boltseal.broker.release.jobs import Job
from boltseal.broker.release.pool import MAX_BODY, Patience, Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from boltseal.broker.release.verdicts import Verdict

MODULE = "support.pool_worker"
SECONDS = 30  # that anything here may take
QUICK = Patience(start=SECONDS, hung=SECONDS, again=0.01, again_most=0.05, look=0.05, end=SECONDS)


class Bench:
    """A pool and all that was heard of it."""

    def __init__(self, count: int, told: Any = ("work",), patience: Patience = QUICK) -> None:
        self.told = told
        self.decided: list[tuple[Job, Verdict | None]] = []
        self.lost: list[Job] = []
        self.events: list[str] = []
        self._changed = threading.Condition()
        self.pool = Pool(
            count, MODULE, lambda: self.told, self._decided, self.events.append, patience=patience
        )

    def _decided(self, decided: list[tuple[Job, Verdict | None]], lost: list[Job]) -> None:
        with self._changed:
            self.decided += decided
            self.lost += lost
            self._changed.notify_all()

    def ready(self, count: int = 1) -> list[int]:
        """The processes, once there are so many."""
        self.pool.hire()
        self.until(lambda: len(self.pool.pids) >= count)
        return self.pool.pids

    def until(self, holds: Callable[[], bool]) -> None:
        until = time.monotonic() + SECONDS
        while not holds():
            assert time.monotonic() < until, (self.events, len(self.decided), len(self.lost))
            time.sleep(0.005)

    def over(self, count: int) -> None:
        """Wait until so many jobs are decided or lost."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: len(self.decided) + len(self.lost) >= count, SECONDS
            ), (self.events, len(self.decided), len(self.lost))

    def verdicts(self, *bodies: bytes) -> list[Verdict]:
        """What a process says to these."""
        before = len(self.decided)
        assert self.pool.put([job(one) for one in bodies]) == []
        self.over(before + len(self.lost) + len(bodies))
        found = {each.body: one for each, one in self.decided[before:]}
        return [one for body in bodies if (one := found[body]) is not None]


def job(body: bytes, **more: Any) -> Job:
    return Job(Action.UNWRAP, Presented(bearer="somebody", **more), 1000, body=body)


def is_gone(pid: int) -> bool:
    """Ended, and not a zombie either."""
    return not Path(f"/proc/{pid}").exists()


@contextmanager
def benched(count: int, *rest: Any) -> Iterator[Bench]:
    """Nothing may be left of it."""
    descriptors = len(os.listdir("/proc/self/fd"))
    made = Bench(count, *rest)
    started: set[int] = set()
    start = made.pool._start

    def note(hello: bytes) -> None:
        start(hello)
        started.add(made.pool._processes[-1].popen.pid)

    made.pool._start = note  # type: ignore[method-assign]
    try:
        yield made
    finally:
        made.pool.stop()
    assert all(is_gone(one) for one in started)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert "boltseal-pool" not in [one.name for one in threading.enumerate()]


@pytest.fixture(autouse=True)
def _found_by_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.fixture
def bench() -> Iterator[Bench]:
    with benched(1) as made:
        yield made


def test_without_a_process_that_is_ready_everything_stays_here(bench: Bench) -> None:
    jobs = [job(b"a"), job(b"b")]
    assert bench.pool.put(iter(jobs)) == jobs
    assert bench.pool.pids == []
    bench.ready()
    assert bench.pool.put(jobs) == []
    bench.over(2)


def test_a_pool_of_none_starts_nothing() -> None:
    with benched(0) as bench:
        bench.pool.hire()
        jobs = [job(b"a")]
        assert bench.pool.put(jobs) == jobs
    with benched(1, None) as bench:  # nothing to tell them yet
        bench.pool.hire()
        time.sleep(5 * QUICK.look)
        assert bench.pool._processes == []
        assert not bench.events
        bench.told = ("work",)
        bench.ready()


def test_what_is_no_release_stays_here(bench: Bench) -> None:
    bench.ready()
    asked = [Job(one, Presented(bearer="somebody"), 1000) for one in Action]
    releases = [one for one in asked if one.action is Action.UNWRAP]
    assert bench.pool.put(asked) == [one for one in asked if one not in releases]
    bench.over(1)
    assert [one for one, _ in bench.decided] == releases


def test_large_bodies_and_evidence_stay_here(bench: Bench) -> None:
    bench.ready()
    large = job(b"a" * (MAX_BODY + 1))
    proven = job(b"b", evidence=(("tpm", b""),), nonce=b"n" * 32)
    fits = job(b"c" * MAX_BODY)
    assert bench.pool.put([large, proven, fits]) == [large, proven]
    bench.over(1)
    assert [one for one, _ in bench.decided] == [fits]


def test_all_of_many_are_shared_out_and_come_back_once_with_their_own_verdict() -> None:
    with benched(2) as bench:
        pids = bench.ready(2)
        jobs = [job(b"%d" % number) for number in range(400)]
        for at in range(0, 400, 25):
            assert bench.pool.put(jobs[at : at + 25]) == []
        bench.over(400)
        assert {id(one) for one, _ in bench.decided} == {id(one) for one in jobs}
        assert len(bench.decided) == 400
        assert all(found is not None and found.answer == one.body for one, found in bench.decided)
        shares = Counter(found.actor for _, found in bench.decided if found is not None)
        assert shares.keys() == {str(one) for one in pids}
        assert min(shares.values()) >= pools._AT_ONCE
        assert bench.pool.open_keys == 2
    assert not bench.events
    assert not bench.lost


def test_one_has_no_more_than_its_share_and_the_others_get_the_rest() -> None:
    with benched(2) as bench:
        bench.ready(2)
        held = pools._HELD
        assert bench.pool.put([job(b"hang")]) == []
        assert bench.pool.put([job(b"%d" % number) for number in range(5 * held)]) == []
        bench.over(4 * held + 1)  # the one that hangs keeps what it was given, and no more
        bench.until(lambda: sum(bool(one.jobs) for one in bench.pool._processes) == 1)
        (hung,) = [one for one in bench.pool._processes if one.jobs]
        assert len(hung.jobs) <= held
        os.kill(hung.popen.pid, signal.SIGKILL)
        bench.over(5 * held + 1)
        assert len(bench.lost) == len(hung.jobs)


def test_what_it_cannot_decide_comes_back_without_a_verdict(bench: Bench) -> None:
    bench.ready()
    asked = job(b"elsewhere")
    assert bench.pool.put([asked]) == []
    bench.over(1)
    assert bench.decided == [(asked, None)]


def test_what_one_that_dies_had_is_lost_and_another_one_comes(bench: Bench) -> None:
    (first,) = bench.ready()
    asked = [job(b"before"), job(b"die"), *(job(b"after") for _ in range(6))]
    assert bench.pool.put(asked) == []
    bench.over(8)
    answered = [one for one, _ in bench.decided]
    assert answered in ([], asked[:1])  # it may have had no time to say so
    assert bench.lost == asked[len(answered) :]
    assert bench.events == [f"{first} ended (-9)"]
    assert is_gone(first)
    (second,) = bench.ready()
    assert second != first
    assert bench.verdicts(b"again")[0].actor == str(second)


def test_what_waits_when_the_last_one_dies_is_for_the_threads(bench: Bench) -> None:
    """It met no process, so nothing of it made one end."""
    bench.ready()
    held = pools._HELD
    asked = [job(b"hang"), *(job(b"%d" % number) for number in range(2 * held))]
    assert bench.pool.put(asked) == []
    os.kill(bench.pool.pids[0], signal.SIGKILL)
    bench.over(len(asked))
    assert len(bench.lost) <= held
    assert bench.decided
    assert all(found is None for _, found in bench.decided)
    assert {id(one) for one in bench.lost} | {id(one) for one, _ in bench.decided} == {
        id(one) for one in asked
    }


def test_one_that_hangs_is_ended(bench: Bench) -> None:
    (first,) = bench.ready()
    bench.pool._patience = Patience(hung=0.2, again=0.01, look=0.05)
    asked = job(b"hang")
    assert bench.pool.put([asked]) == []
    bench.over(1)
    assert bench.lost == [asked]
    assert is_gone(first)
    assert bench.ready() != [first]
    # one that only has nothing to do is left alone
    (second,) = bench.pool.pids
    time.sleep(0.5)
    assert bench.pool.pids == [second]


def test_one_that_never_becomes_ready_is_ended_and_tried_again() -> None:
    short = Patience(start=0.2, again=0.01, again_most=0.01, look=0.05)
    with benched(1, ("mute",), short) as bench:
        bench.pool.hire()
        bench.until(lambda: len(bench.events) >= 2)
        assert all(one.endswith("ended (-9)") for one in bench.events)
        assert bench.pool.pids == []
        jobs = [job(b"a")]
        assert bench.pool.put(jobs) == jobs
        bench.told = ("work",)
        bench.pool._patience = QUICK
        bench.ready()


def test_those_that_cannot_start_are_tried_less_and_less_often() -> None:
    with benched(1, ("leave",), Patience(again=0.02, again_most=0.1, look=0.01)) as bench:
        times: list[float] = []  # before which there is no other try
        bench.pool._event = lambda what: (
            bench.events.append(what),
            times.append(bench.pool._not_before),
        )
        bench.pool.hire()
        bench.until(lambda: len(times) >= 5)
        assert all(one.endswith("ended (3)") for one in bench.events)
        pauses = [after - before for before, after in pairwise(times[:5])]
        assert all(is_ >= at for is_, at in zip(pauses, (0.04, 0.08, 0.1, 0.1), strict=True))
        bench.told = ("work",)
        bench.ready()
        assert bench.pool._failed == 0


@pytest.mark.parametrize("body", [b"unasked", b"short"])
def test_one_that_talks_nonsense_is_ended_with_what_it_had(bench: Bench, body: bytes) -> None:
    (first,) = bench.ready()
    asked = job(body)
    assert bench.pool.put([asked]) == []
    bench.over(1)
    assert bench.lost == [asked]
    assert not bench.decided
    assert f"{first} said what is no verdict" in bench.events[0]
    assert is_gone(first)
    assert bench.ready() != [first]


def test_one_that_says_nothing_that_is_a_message_is_ended() -> None:
    with benched(1, ("babble",)) as bench:
        bench.pool.hire()
        bench.until(lambda: bool(bench.events))
        assert "said what is no verdict: ValueError" in bench.events[0]


def test_neither_side_waits_for_the_other_to_read() -> None:
    """More in both directions than sockets hold: whoever sends must not keep who reads waiting."""
    with benched(1) as bench:
        (pid,) = bench.ready()
        (process,) = bench.pool._processes
        process.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        os.kill(pid, signal.SIGSTOP)
        stat = Path(f"/proc/{pid}/stat")
        bench.until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
        padding = b" " * (MAX_BODY - 20)
        asked = [job(b"swell 500000" + padding) for _ in range(pools._HELD)]
        for one in asked:  # this thread is an event loop's: it has to come back
            assert bench.pool.put([one]) == []
        assert process.unsent
        os.kill(pid, signal.SIGCONT)
        bench.over(len(asked))
        assert all(found is not None and len(found.answer) == 500_000 for _, found in bench.decided)
        assert len(bench.decided) == len(asked)


def test_what_changes_is_told_to_those_that_run(bench: Bench) -> None:
    (pid,) = bench.ready()
    assert bench.verdicts(b"before")[0].detail == repr(("work",))
    bench.told = ("work", "another data key")
    seen = []
    while not seen or seen[-1] == repr(("work",)):
        seen.append(bench.verdicts(b"%d" % len(seen))[0].detail)
    assert seen[-1] == repr(bench.told)
    assert bench.pool.pids == [pid]


def test_what_cannot_be_told_leaves_those_that_run_alone() -> None:
    with benched(1) as bench:
        bench.ready()

        def fail() -> object:
            raise OSError("the root key is away")

        bench.pool._hello = fail
        bench.until(lambda: bool(bench.events))
        assert bench.events[0] == "cannot be started: OSError"
        assert bench.verdicts(b"a")[0].answer == b"a"


def test_after_its_end_it_takes_nothing(bench: Bench) -> None:
    (pid,) = bench.ready()
    bench.pool.stop()
    assert is_gone(pid)
    assert not bench.events
    jobs = [job(b"a")]
    assert bench.pool.put(jobs) == jobs
    bench.pool.hire()
    assert bench.pool.pids == []
    assert "boltseal-pool" not in [one.name for one in threading.enumerate()]


def test_what_is_under_way_at_its_end_is_told() -> None:
    """Either decided or lost: nobody is left waiting."""
    patience = Patience(look=0.05, end=0.3)
    with benched(1, ("work",), patience) as bench:
        bench.ready()
        held = pools._HELD
        asked = [job(b"hang"), *(job(b"%d" % number) for number in range(2 * held))]
        assert bench.pool.put(asked) == []
        bench.pool.stop()
        assert len(bench.lost) + len(bench.decided) == len(asked)


def test_an_end_while_they_begin() -> None:
    with benched(2) as bench:
        bench.pool.hire()
    assert not bench.events
