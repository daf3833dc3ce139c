"""``boltseal-ctd-decoder``: containerd starts it for every encrypted layer.

It takes the flags and the payload of imgcrypt's ``ctd-decoder``. Every import is time that a node
pays for each layer, so arguments are read by hand and modules are loaded where they are needed.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from boltseal._io import lazy
from boltseal.cli.output import printable
from boltseal.errors import BoltsealError, NoMatchingKeyError, UsageError, located

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boltseal.keywrap.keyring import Keyring
    from boltseal.keywrap.options import KeyOptions
    from boltseal.spec.descriptor import Descriptor

NAME = "boltseal-ctd-decoder"
HELP = """\
usage: boltseal-ctd-decoder [--decryption-keys-path DIR] [-k KEY] [--release verified|early]

containerd starts this program as a stream processor for encrypted layers: the layer comes on
standard input, what it is and the client's keys on descriptor 3, and the plain layer goes to
standard output. It stands in for imgcrypt's ctd-decoder.

  --decryption-keys-path DIR  every file below this folder is a key; links are followed to what is
                              inside of it (Kubernetes mounts secrets in that way)
  -k, --key KEY               one more key, as in boltseal decrypt -k (repeatable)
  --release verified          hand out plaintext only after size and HMAC of the whole layer were
                              right (default); TMPDIR is where a large layer waits, encrypted
  --release early             hand it out as it comes, as imgcrypt does: containerd then unpacks
                              what may turn out to be forged
  --version, --help

OCICRYPT_KEYPROVIDER_CONFIG names key providers, which are asked for the layers that name them.

exit codes: 0 done, 1 failed, 2 wrong configuration, 3 no key opens the layer, 4 integrity failure
"""
_KIND = "STREAM_PROCESSOR_MEDIATYPE"  # containerd says in it what the layer's type is
_OUTLAST_SECONDS = 0.5
_MAX_REASONS = 3  # of keys that were tried, in one line
_MAX_LINE = 2_000  # characters of a message


def main() -> int:
    """Decrypt one layer; returns the exit code."""
    gc.disable()  # a short life, and importing makes no garbage
    code = _main()
    gc.freeze()  # nor does ending sort it
    return code


def _main() -> int:
    from boltseal.cli import signals

    signals.catch()
    signals.hide_dropped()
    try:
        return _run(sys.argv[1:], os.environ)
    except BoltsealError as error:
        return _fail(_on_one_line(error), error.exit_code)
    except signals.TerminatedError as error:
        return _fail("terminated", error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except MemoryError:
        return _fail("not enough memory", 1)
    except Exception as error:  # the last resort
        if "BOLTSEAL_DEBUG" in os.environ:
            raise
        return _fail(f"unexpected {type(error).__name__}; this is a bug in Boltseal", 1)


def _run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    folder, named, release = _arguments(arguments)
    if release in ("help", "version"):
        return _show(release)
    lazy.dataclasses_alone()
    from boltseal.runtime.decoder import descriptors
    from boltseal.runtime.decoder import payload as payloads

    descriptors.check_streams()
    payload = payloads.parse(descriptors.read_payload(environ.get(_KIND, "")))
    layer = payload.layer
    with located(layer.digest.short):
        _check_type(layer)
        lazy.put_off("cryptography", "x509")  # a quarter of the start, and for certificates alone
        from boltseal.layer.unlock import unlock_layer
        from boltseal.runtime.decoder import keys
        from boltseal.runtime.decoder.release import early, verified

        keyring = keys.gather(payload, folder, named, _options(environ))
        try:
            unlocked = unlock_layer(layer, keyring)
        except NoMatchingKeyError as error:
            raise _with_advice(error, keyring) from None
        if release == "early":
            early(layer, unlocked, descriptors.streams())
        else:
            verified(layer, unlocked, descriptors.streams(), environ.get("TMPDIR") or "/var/tmp")  # noqa: S108
    return 0


def _arguments(given: Sequence[str]) -> tuple[str | None, list[str], str]:
    """The folder of keys, further keys, and when to release (or ``help`` and ``version``)."""
    folder: str | None = None
    named: list[str] = []
    release = "verified"
    words = list(given)
    while words:
        option, equals, value = words.pop(0).partition("=")
        name = option.lstrip("-") if option.startswith("-") else ""
        if name in ("h", "help", "v", "version") and not equals:
            return None, [], "help" if name[0] == "h" else "version"
        if name not in ("decryption-keys-path", "release", "k", "key"):
            shown = option if name.replace("-", "").isalpha() else "a word without an option"
            raise UsageError(f"{shown} is no option of this program", hint=f"see {NAME} --help")
        if not equals:
            if not words:
                raise UsageError(f"{option} needs a value", hint=f"see {NAME} --help")
            value = words.pop(0)
        if name == "release":
            release = value
        elif name == "decryption-keys-path":
            folder = value
        else:
            named.append(value)
    if release not in ("verified", "early"):
        raise UsageError(f"--release is verified or early, not {release[:40]!r}")
    if named:
        from boltseal.cli.argv import hide_secrets

        hide_secrets(given)
    return folder, named, release


def _show(what: str) -> int:
    if what == "version":
        from boltseal import __version__

        sys.stdout.write(f"{NAME} {__version__}\n")
    else:
        sys.stdout.write(HELP)
    return 0


def _check_type(layer: Descriptor) -> None:
    from boltseal.spec.mediatypes import layer_type

    kind = layer_type(layer.media_type)
    if kind is None or not kind.encrypted:
        raise UsageError(
            f"a layer of type {layer.media_type} is not one that can be decrypted",
            hint="list types of layers that end in +encrypted under accepts, and no others",
        )


def _options(environ: Mapping[str, str]) -> KeyOptions:
    from boltseal.keywrap.options import KeyOptions

    environment = dict(environ)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its errors say the same
    return KeyOptions.from_environ(environment)


def _with_advice(error: NoMatchingKeyError, keyring: Keyring) -> NoMatchingKeyError:
    """For a node, which has neither options of ours nor a reference of the image."""
    hint = "see whom the image is for: boltseal inspect IMAGE"
    if error.whom:
        hint = "boltseal key show FILE tells whose a key is"
    if not keyring.identities and not keyring.skipped:
        hint = (
            "name a folder of keys with --decryption-keys-path in containerd's configuration, or "
            "key providers with OCICRYPT_KEYPROVIDER_CONFIG"
        )
    return NoMatchingKeyError(error.message, hint=hint, attempts=error.attempts)


def _on_one_line(error: BoltsealError) -> str:
    """Where, what, whom it is for, what the first keys said, and what to do: containerd passes it
    on as it is."""
    told = error.hint or ""
    tried = [
        one
        for one in error.attempts
        if one.reason != error.message and f"{one.identity}: " not in told
    ]
    whom = error.whom if isinstance(error, NoMatchingKeyError) else ""
    reasons = [f"{one.identity}: {one.reason}" for one in tried[:_MAX_REASONS]]
    if len(tried) > _MAX_REASONS:
        reasons.append(f"and {len(tried) - _MAX_REASONS} more")
    if whom:
        reasons.insert(0, f"it is for {whom}")
    text = "; ".join([error.message, *reasons, *([told] if told else [])])
    return ": ".join([*error.where, text])


def _fail(text: str, code: int) -> int:
    line = printable(text)
    if len(line) > _MAX_LINE:
        line = line[: _MAX_LINE - 1] + "…"
    by_containerd = _KIND in os.environ
    with suppress(OSError, AttributeError):  # AttributeError: standard error is closed
        # containerd puts it into the middle of a sentence
        sys.stderr.write(f"{NAME}: {line}" + ("" if by_containerd else "\n"))
        sys.stderr.flush()
    if by_containerd:
        _outlast()
    return code


def _outlast() -> None:
    """Leave a child that keeps standard output open for a moment after this process has ended.

    containerd 1.x looks for our message as soon as the plain layer ends, perhaps before it knows
    that we failed; it then reports a wrong diff id. So the end has to come after our own.
    """
    with suppress(OSError):
        if os.fork():
            return
        try:
            for fd in (0, 2, 3):  # all but standard output
                with suppress(OSError):
                    os.close(fd)
            time.sleep(_OUTLAST_SECONDS)
        finally:
            os._exit(0)
