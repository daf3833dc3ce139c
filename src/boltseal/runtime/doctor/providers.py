"""Key providers: is the configuration readable, and does each of them give back what it wrapped?"""

from __future__ import annotations

import hmac
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from boltseal._io import program
from boltseal.errors import BoltsealError, IntegrityError
from boltseal.keywrap.keyprovider import config, protocol
from boltseal.runtime.doctor.finding import Subject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltseal.keywrap.keyprovider.config import Command, Provider
    from boltseal.keywrap.options import KeyOptions
    from boltseal.runtime.doctor.finding import Finding
    from boltseal.runtime.doctor.host import Host

SUBJECT = Subject("key providers")
TEST_BYTES = 256  # of random bytes that are wrapped and unwrapped again
MAX_SECONDS = 15.0  # that a provider may take for an answer here
MAX_PROVIDERS = 50  # of one file
_PRINT = "boltseal keyprovider print-config prints a right one"


def checks(host: Host, files: dict[str, str]) -> Iterator[Finding]:
    """Every provider in ``files``, by who names them, and in this process's own configuration."""
    seen: set[str] = set()
    if host.is_here:
        mine = dict.fromkeys(host.keys.provider_files, "OCICRYPT_KEYPROVIDER_CONFIG")
        files = {**mine, **files}
    for path, who in files.items():
        if path in seen:
            continue
        if who == "containerd" and not os.path.lexists(host.place(path)):
            continue  # told where the stream processor is
        seen.add(path)
        yield from _file(host, path, who)
    if not seen:
        yield SUBJECT.absent("configuration", "no key provider is configured")


def _file(host: Host, path: str, who: str) -> Iterator[Finding]:
    options = replace(
        host.keys,
        provider_files=(host.place(path),),
        settings_files=(),
        provider_timeout=min(host.keys.provider_timeout, MAX_SECONDS),
    )
    try:
        names = config.names(options)
    except BoltsealError as error:
        yield SUBJECT.failed("configuration", error, f"correct {path}: {_PRINT}")
        return
    if not names:
        yield SUBJECT.fail("configuration", f"{path} names no key provider", _PRINT)
        return
    yield SUBJECT.ok("configuration", f"{path} (for {who}): {len(names)} configured")
    for name in names[:MAX_PROVIDERS]:
        yield _provider(host, name, options)


def _provider(host: Host, name: str, options: KeyOptions) -> Finding:
    check = f"provider {name[:80]}"
    try:
        found = config.find(name, options)
        way = found.way
        if isinstance(way, config.Command) and host.which(way.path) is None:
            return SUBJECT.fail(
                check,
                f"{way.path} is not there or not executable",
                f"install it, or correct cmd.path in {found.source}",
            )
        if not host.is_here:
            return SUBJECT.ok(check, "its configuration is right (not called)")
        return _test(check, found, options)
    except BoltsealError as error:
        fix = f"correct it in {options.provider_files[0]}: {_PRINT}"
        return SUBJECT.failed(check, error, fix)


def _test(check: str, provider: Provider, options: KeyOptions) -> Finding:
    """Random bytes, there and back again."""
    secret = os.urandom(TEST_BYTES)
    question = protocol.wrap_question(provider.name, [protocol.ENABLED], secret)
    if isinstance(provider.way, config.Command):
        refusal = _refusal(provider.way, question, options)
        if refusal is not None:
            return SUBJECT.warn(
                check,
                f"it does not wrap, so that unwrapping was not tried: {refusal}",
                "for this test it needs somebody to wrap for; on a host that only opens images "
                "that is as it should be",
            )
    from boltseal.keywrap.keyprovider import keys

    asking = keys.Asking(provider, options.provider_timeout, options.child_environment)
    packet = asking.ask(protocol.WRAP, question)
    back = protocol.unwrap_question(provider.name, [protocol.ENABLED], packet)
    if not hmac.compare_digest(asking.ask(protocol.UNWRAP, back), secret):
        return SUBJECT.fail(
            check,
            "it gives back something else than it wrapped",
            "do not encrypt for it: nobody could open the image",
        )
    return SUBJECT.ok(check, f"wrapped and unwrapped {TEST_BYTES} random bytes")


def _refusal(command: Command, question: bytes, options: KeyOptions) -> str | None:
    """What a program says that runs and refuses to wrap; None for any other answer."""
    try:
        ended = program.run(
            [command.path, *command.args],
            question,
            environment=options.child_environment(),
            seconds=options.provider_timeout,
            output=program.Bound(protocol.MAX_MESSAGE_BYTES),
            errors=program.Bound(8 * 1024, is_cut=True),
        )
    except (program.NotStartedError, program.TooSlowError, program.TooMuchError):
        return None
    if ended.code <= 0:
        return None
    try:
        protocol.read_answer(ended.output, protocol.WRAP)
    except IntegrityError:
        lines = ended.errors.decode("utf-8", "replace").strip().splitlines()
        return lines[0][:200] if lines else f"exit status {ended.code}"
    return None
