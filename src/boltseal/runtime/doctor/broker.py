"""The key broker that this host asks: settings, what it shows there, addresses, and both clocks.

Nothing is released and nothing comes into the broker's audit: each address is asked for its empty
answer (/healthz). Whether the broker knows this host beyond its certificate, and what policies say,
shows when an image is opened.
"""

from __future__ import annotations

import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from boltseal._io import strictjson
from boltseal.errors import BoltsealError, IntegrityError
from boltseal.keywrap.broker import protocol
from boltseal.keywrap.broker import settings as settings_files
from boltseal.runtime.doctor import credentials
from boltseal.runtime.doctor.host import others_may_write

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boltseal.keywrap.broker.settings import Settings
    from boltseal.keywrap.broker.wire import Answer, Wire
    from boltseal.runtime.doctor.finding import Finding
    from boltseal.runtime.doctor.host import Host

SUBJECT = credentials.SUBJECT
PATH = "/etc/boltseal/config.toml"
MAX_SECONDS = 5.0  # that an address may take for an answer here
_MAX_ANSWER_BYTES = 64 * 1024
_NOT_ASKED = "not asked: "
_UNWANTED = (
    "it answers, and not to this host's certificate: that has expired, or no tenant trusts its "
    "authority"
)
_TRUST = (
    "renew the certificate, or have the broker trust its authority (boltseal broker trust add); "
    "its log has the reason, under refused-early"
)
_PAGE = "docs/broker/clients.md has an example"


def checks(host: Host) -> Iterator[Finding]:
    """That there is no broker is no failure."""
    try:
        found = _settings(host)
    except BoltsealError as error:
        yield SUBJECT.failed("settings", error, f"correct it: {_PAGE}")
        return
    if found is None:
        yield SUBJECT.absent("settings", "no configuration has a table [broker]")
        return
    if others_may_write(found.source):
        yield SUBJECT.fail(
            "settings",
            f"somebody else than root may change {found.source}, which says who is asked for keys",
            f"chown root {found.source}; chmod 0644 {found.source}",
        )
    else:
        count = len(found.addresses)
        yield SUBJECT.ok("settings", f"{found.source}: {count} address{'es' * (count > 1)}")
    yield from credentials.checks(host, found)
    if not host.is_here:
        yield SUBJECT.ok("addresses", f"{', '.join(found.addresses)} (not asked)")
        return
    files = (found.ca_file, found.cert_file, found.key_file, found.key_passphrase_file)
    for path in (*files, found.token_file):
        if path is not None and os.path.exists(path) and not os.path.isfile(path):
            yield SUBJECT.fail("addresses", f"not asked: {path} is no file", "correct the settings")
            return
    asked = _ask_all(found)
    yield from _answers(found, asked)
    yield _clock(asked)


def _settings(host: Host) -> Settings | None:
    """What the user named, or the configuration that counts. Raises BoltsealError."""
    named = host.files.get("broker")
    if named is not None:
        host.read(named, "broker settings")  # which takes no pipe that nobody writes into
        found: Settings | None = settings_files.load(named, host.keys)
    else:
        files = host.keys.settings_files if host.is_here else (host.place(PATH),)
        for path in files:
            if os.path.lexists(path):
                host.read(path, "configuration")
        found = settings_files.configured(replace(host.keys, settings_files=files))
    return found if found is None or host.is_here else _placed(host, found)


def _placed(host: Host, found: Settings) -> Settings:
    """Settings of a host below another root, with paths for us."""
    root = os.path.realpath(host.root).rstrip("/")
    folder = os.path.dirname(os.path.abspath(found.source))

    def place(path: str | None) -> str | None:
        if path is None:
            return None
        if path.startswith(f"{root}/"):  # what was relative to the settings is below it already
            return host.place(path.removeprefix(root))
        return path if path.startswith(f"{folder}/") else host.place(path)

    return replace(
        found,
        ca_file=place(found.ca_file),
        cert_file=place(found.cert_file),
        key_file=place(found.key_file),
        key_passphrase_file=place(found.key_passphrase_file),
        token_file=place(found.token_file),
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """One address: what is wrong with it and how to mend that, or by how much its clock is off.

    ``ahead`` is in seconds, positive when it is ahead of ours; None when it does not tell.
    """

    address: str
    problem: str | None = None
    fix: str = ""
    ahead: float | None = None
    unsure: float = 0.0


def _ask_all(found: Settings) -> list[_Asked]:
    from boltseal.keywrap.broker.wire import Wire

    wire = Wire(found)
    try:
        with ThreadPoolExecutor(settings_files.AT_ONCE) as pool:
            return list(pool.map(lambda one: _ask(wire, found, one), found.addresses))
    finally:
        wire.close()


def _ask(wire: Wire, found: Settings, address: str) -> _Asked:
    from boltseal.keywrap.broker.wire import BROKEN, ExchangeError

    def ask(*, identified: bool) -> _Asked:
        began, seconds = time.time(), min(found.timeout, MAX_SECONDS)
        try:
            answer = wire.exchange(address, protocol.HEALTH, seconds=seconds, identified=identified)
        except ExchangeError as error:
            return _failed(address, str(error))
        except BoltsealError as error:  # of a file, which has a finding of its own
            return _Asked(address, _NOT_ASKED + error.message, "correct the settings")
        return _compared(address, answer, began, time.time())

    one = ask(identified=True)
    reason = one.problem or ""
    is_file = reason.startswith(_NOT_ASKED)
    if not is_file and not (found.cert_file and reason.startswith((*BROKEN, "TLS failed"))):
        return one
    unknown = ask(identified=False)
    if unknown.problem is not None:
        return one
    return unknown if is_file else _Asked(address, _UNWANTED, _TRUST)


def _failed(address: str, reason: str) -> _Asked:
    if "certificate is not valid for" in reason:
        fix = "call the broker by a name that its certificate has, or have one made for this name"
    elif "certificate is not trusted" in reason:
        fix = "name the authority of its certificate in ca-file; see this machine's clock as well"
    else:
        fix = "see that the broker runs there, and that it can be reached from here"
    return _Asked(address, reason, fix)


def _compared(address: str, answer: Answer, began: float, ended: float) -> _Asked:
    """The clocks, too: an answer's time (RFC 9110 section 6.6.1) is in whole seconds."""
    try:
        said = strictjson.load_object(answer.body, "it", max_bytes=_MAX_ANSWER_BYTES).get("status")
    except IntegrityError:
        said = None
    if answer.status != 200 or said != "ok":
        fix = "see the broker's log"
        if answer.status < 500:
            fix = "correct the address: something else than a key broker is there"
        return _Asked(address, f"it answers {answer.status}, and not as a broker that is well", fix)
    if answer.date is None:
        return _Asked(address)
    ahead = answer.date + 0.5 - (began + ended) / 2
    return _Asked(address, ahead=ahead, unsure=0.5 + (ended - began) / 2)


def _answers(found: Settings, asked: Sequence[_Asked]) -> Iterator[Finding]:
    """Any address will do: one that is down is a failure when all are."""
    failure = SUBJECT.fail if all(one.problem for one in asked) else SUBJECT.warn
    way = "with this host's certificate" if found.cert_file is not None else "without one"
    for one in asked:
        check = f"address {one.address.partition('://')[2][:80]}"
        if one.problem is not None:
            yield failure(check, f"{one.address}: {one.problem}", one.fix)
        elif one.address.startswith("https:"):
            yield SUBJECT.ok(check, f"it answers over TLS, {way}")
        else:
            yield SUBJECT.ok(check, "it answers on this machine, without TLS")


def _clock(asked: Sequence[_Asked]) -> Finding:
    check, fix = "clock", "set the clock of whoever is wrong (timedatectl set-ntp true)"
    told = [(one.ahead, one) for one in asked if one.ahead is not None]
    if not told:
        return SUBJECT.absent(check, "no address tells its time: the clocks were not compared")
    ahead, worst = max(told, key=lambda one: abs(one[0]))
    off = abs(ahead)
    way = "behind" if ahead > 0 else "ahead of"
    message = f"this machine's is {math.ceil(off)} seconds {way} that of {worst.address}"
    if off - worst.unsure > protocol.TIME_WINDOW:
        more = f": requests may be {protocol.TIME_WINDOW} seconds off, and are refused as expired"
        return SUBJECT.fail(check, message + more, fix)
    if off - worst.unsure > protocol.TIME_WINDOW / 2:
        more = f", of {protocol.TIME_WINDOW} that there may be"
        return SUBJECT.warn(check, message + more, fix)
    return SUBJECT.ok(check, f"within {math.ceil(off + worst.unsure)} s of the broker's")
