"""containerd's stream processors: do they get every kind of layer, and can they open it?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boltseal.runtime.doctor import keyfolder
from boltseal.runtime.doctor.containerd import KEYS, SUBJECT
from boltseal.runtime.doctor.host import others_may_write, texts
from boltseal.spec.mediatypes import ENCRYPTED, layer_type

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltseal.runtime.doctor.finding import Finding
    from boltseal.runtime.doctor.host import Host

OURS = "boltseal-ctd-decoder"
MAX_PROCESSORS = 100  # that are looked at
# containerd gives the payload, which has the layer's wrapped keys, to these names alone.
WITH_PAYLOAD = (
    "io.containerd.ocicrypt.decoder.v1.tar",
    "io.containerd.ocicrypt.decoder.v1.tar.gzip",
)
_LAYER = "application/vnd.oci.image.layer.v1."
TAR, GZIP, ZSTD = (f"{_LAYER}tar", f"{_LAYER}tar+gzip", f"{_LAYER}tar+zstd")
_OPTIONS = ("decryption-keys-path", "release", "k", "key")  # of our program
_RELEASES = ("verified", "early")
_VARIABLE = "OCICRYPT_KEYPROVIDER_CONFIG"
_PRINT = "boltseal doctor --print-config containerd shows a right one"
_BOTH = f"{WITH_PAYLOAD[0]} and {WITH_PAYLOAD[1].rpartition('decoder.')[2]}"


@dataclass(frozen=True, slots=True)
class Processor:
    """One entry of the configuration."""

    name: str
    accepts: tuple[str, ...]
    returns: str
    path: str
    args: tuple[str, ...]
    env: tuple[str, ...]

    @classmethod
    def of(cls, name: str, entry: Any) -> Processor | None:
        """None for one that is not of texts."""
        if not isinstance(entry, dict):
            return None
        lists = [texts(entry.get(one, [])) for one in ("accepts", "args", "env")]
        words = [entry.get(one, "") for one in ("returns", "path")]
        if None in lists or not all(isinstance(one, str) for one in words):
            return None
        accepts, args, env = (tuple(one or ()) for one in lists)
        return cls(name, accepts, words[0], words[1], args, env)

    @property
    def decrypts(self) -> bool:
        """Whether it is about encrypted layers at all."""
        return any(one.endswith(ENCRYPTED) for one in self.accepts) or self.name in WITH_PAYLOAD

    @property
    def is_ours(self) -> bool:
        """Whether it is Boltseal's program."""
        return os.path.basename(self.path) == OURS

    def option(self, name: str) -> str | None:
        """The value of an option of its program."""
        for at, word in enumerate(self.args):
            given, equals, value = word.lstrip("-").partition("=")
            if word.startswith("-") and given == name:
                return value if equals else (*self.args, "")[at + 1]
        return None

    @property
    def folder(self) -> str | None:
        """The folder of its keys."""
        return self.option("decryption-keys-path") or None

    @property
    def providers(self) -> str | None:
        """The file of its key providers."""
        for one in reversed(self.env):
            name, _, value = one.partition("=")
            if name == _VARIABLE:
                return value or None
        return None

    @property
    def spool(self) -> str | None:
        """The folder in which it lets large layers wait, where one is named."""
        values = [one.partition("=")[2] for one in self.env if one.startswith("TMPDIR=")]
        return values[-1] if values else None

    @property
    def strange(self) -> str | None:
        """What Boltseal's program does not take of its arguments, in words."""
        words = list(self.args)
        while words:
            option, equals, value = words.pop(0).partition("=")
            name = option.lstrip("-") if option.startswith("-") else ""
            if name not in _OPTIONS:
                return option[:80] if name else "a word that belongs to no option"
            if not equals:
                if not words:
                    return f"{option} without a value"
                value = words.pop(0)
            if name == "release" and value not in _RELEASES:
                return f"--release {value[:40]}"
        return None

    @property
    def names_keys(self) -> bool:
        """Whether its arguments name keys one by one."""
        return any(word.partition("=")[0] in ("-k", "--key") for word in self.args)


def parse(entries: dict[str, Any]) -> tuple[list[Processor], list[Finding]]:
    """The processors for encrypted layers, and what cannot be read of the others."""
    found: list[Processor] = []
    broken: list[Finding] = []
    for name, entry in list(entries.items())[:MAX_PROCESSORS]:
        one = Processor.of(name, entry)
        if one is None:
            broken.append(
                SUBJECT.fail(
                    f"stream processor {name[:120]}",
                    "accepts, args and env have to be lists of texts, path and returns texts",
                    _PRINT,
                )
            )
        elif one.decrypts:
            found.append(one)
    return found, broken


def checks(host: Host, entries: dict[str, Any]) -> Iterator[Finding]:
    """Every entry, every kind of layer, and the keys."""
    found, broken = parse(entries)
    yield from broken
    for kind, is_needed in ((GZIP, True), (TAR, True), (ZSTD, False)):
        yield _kind(kind, found, is_needed=is_needed)
    for one in found:
        yield from _entry(one)
        yield from _program(host, one)
        yield from _keys(host, one)
    for folder, takes_links in _folders(found).items():
        yield from keyfolder.checks(host, SUBJECT, folder, takes_links=takes_links)


def _folders(found: list[Processor]) -> dict[str, bool]:
    """Each folder once; with whether all that read it follow links inside of it."""
    folders: dict[str, bool] = {}
    for one in found:
        if one.folder is not None and os.path.isabs(one.folder):
            folders[one.folder] = folders.get(one.folder, True) and one.is_ours
    return folders


def _kind(kind: str, found: list[Processor], *, is_needed: bool) -> Finding:
    """Who gets layers of one kind."""
    check = f"layers of {kind.removeprefix(_LAYER)}"
    takers = [one for one in found if kind + ENCRYPTED in one.accepts]
    place = WITH_PAYLOAD[0] if kind == TAR else WITH_PAYLOAD[1]
    fix = f'list "{kind}{ENCRYPTED}" under accepts of [stream_processors."{place}"]'
    if not takers:
        make = SUBJECT.fail if is_needed else SUBJECT.warn
        return make(check, "no stream processor accepts them when they are encrypted", fix)
    if len(takers) > 1:
        names = " and ".join(one.name[:120] for one in takers[:3])
        return SUBJECT.fail(
            check, f"{names} both accept them: containerd takes either", f"{fix}, and there alone"
        )
    if takers[0].name not in WITH_PAYLOAD:
        return SUBJECT.fail(
            check,
            f"{takers[0].name[:120]} accepts them, and containerd sends the layers' wrapped keys "
            f"only to the names {_BOTH}",
            f"{fix}, and remove the entry {takers[0].name[:120]}",
        )
    return SUBJECT.ok(check, f"go to {takers[0].name}")


def _entry(one: Processor) -> Iterator[Finding]:
    check = f"{_short(one)}: media types"
    strange = [kind for kind in one.accepts if not _is_encrypted(kind)]
    if strange:
        yield SUBJECT.fail(
            check,
            f"it accepts {strange[0][:120]!r}, which is no type of an encrypted layer",
            "list types of layers that end in +encrypted under accepts, and no others",
        )
        return
    wanted = TAR if one.name == WITH_PAYLOAD[0] else GZIP
    if one.returns in (TAR, GZIP) and (one.returns == wanted or one.name not in WITH_PAYLOAD):
        yield SUBJECT.ok(check, f"returns {one.returns.removeprefix(_LAYER)}")
    else:
        yield SUBJECT.fail(
            check,
            f"returns is {one.returns[:120]!r}, which containerd cannot unpack from here",
            f'write returns = "{wanted}"',
        )


def _is_encrypted(kind: str) -> bool:
    known = layer_type(kind)
    return known is not None and known.encrypted


def _program(host: Host, one: Processor) -> Iterator[Finding]:
    """Is it there, may containerd start it, and is it a decoder that answers?"""
    check = f"{_short(one)}: program"
    install = f"name {OURS} with its whole path: {_PRINT}"
    path = host.which(one.path) if one.path else None
    if path is None:
        place = host.place(one.path) if one.path else ""
        if "/" in one.path and os.path.lexists(place):
            what = "a folder" if os.path.isdir(place) else "not executable"
            yield SUBJECT.fail(check, f"{one.path} is {what}", f"chmod 0755 {one.path}; {install}")
        elif "/" in one.path:
            yield SUBJECT.fail(check, f"{one.path} does not exist", install)
        else:
            yield SUBJECT.fail(
                check, f"{one.path or 'a program without a name'} is not on the PATH", install
            )
        return
    if others_may_write(host.place(path)):
        yield SUBJECT.fail(
            check,
            f"somebody else than root may change {path}, which containerd runs as root",
            f"chown root {path}; chmod 0755 {path}",
        )
        return
    said = host.run([path, "--help"])
    if said is None:
        if host.is_here:
            yield SUBJECT.fail(check, f"{path} cannot be started, or does not end", install)
        else:
            yield SUBJECT.ok(check, f"{path} is there (not started)")
    elif said.code != 0 or "decryption-keys-path" not in said.out + said.err:
        yield SUBJECT.fail(check, f"{path} does not answer as a decoder does", install)
    else:
        yield SUBJECT.ok(check, path)
    if one.is_ours and one.strange is not None:
        yield SUBJECT.fail(
            f"{_short(one)}: arguments",
            f"args has {one.strange}, which {OURS} does not take: it decrypts nothing",
            f'write args = ["--decryption-keys-path", "{one.folder or KEYS}"]; {OURS} --help has '
            "all options",
        )
    if one.option("release") == "early":
        yield SUBJECT.warn(
            f"{_short(one)}: release",
            "--release early hands out plaintext before it is known to be right",
            "leave --release out",
        )


def _keys(host: Host, one: Processor) -> Iterator[Finding]:
    check = f"{_short(one)}: keys"
    if one.folder is None and one.providers is None and not one.names_keys:
        yield SUBJECT.fail(
            check,
            "it knows neither a folder of keys nor key providers",
            f'write args = ["--decryption-keys-path", "{KEYS}"]',
        )
    elif one.folder is not None and not os.path.isabs(one.folder):
        yield SUBJECT.fail(
            check,
            f"the folder of keys {one.folder[:200]!r} is relative to wherever containerd runs",
            "write its whole path",
        )
    else:
        yield SUBJECT.ok(check, one.folder or one.providers or "named one by one")
    if one.spool is not None and not os.path.isdir(host.place(one.spool)):
        yield SUBJECT.fail(
            f"{_short(one)}: room for layers",
            f"TMPDIR names {one.spool}, which is no folder",
            f"install -d -m 0700 {one.spool}",
        )
    if one.providers is not None and not os.path.lexists(host.place(one.providers)):
        make = SUBJECT.warn if one.folder else SUBJECT.fail
        yield make(
            f"{_short(one)}: key providers",
            f"{_VARIABLE} names {one.providers}, which does not exist",
            "write it with boltseal keyprovider print-config, or remove the variable from env",
        )


def _short(one: Processor) -> str:
    return one.name.removeprefix("io.containerd.ocicrypt.")[:120]
