"""A runtime's configuration from an image's (image-spec, conversion.md; runtime-spec, config)."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boltseal.errors import MalformedError
from boltseal.runtime import users

if TYPE_CHECKING:
    from boltseal.runtime.imageconfig import ImageConfig

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NAMES = "org.opencontainers.image."
# What a program may do as root inside; the kernel takes it from everybody else.
_CAPABILITIES = [
    f"CAP_{name}"
    for name in (
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    )
]
# What tells about the host, or changes it.
_MASKED = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
]
_READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
_RESTRICTED = ["nosuid", "noexec", "nodev"]
# Annotations that programs take for orders: crun's (one of them leaves the caller's groups to the
# container), systemd's by runc, other runtimes' own, and what engines and hooks decide by.
_ORDERS = (
    "run.oci.",
    "module.wasm.",
    "org.systemd.",
    "org.criu.",
    "dev.gvisor.",
    "io.katacontainers.",
    "io.kubernetes.",
    "io.container.",
    "io.podman.",
)


@dataclass(frozen=True, slots=True)
class Process:
    """What is to be different from what the image says; ``None`` leaves it to the image.

    ``entrypoint`` takes the place of the image's entry point, and its command does not count then;
    an empty one is none. ``command`` takes the place of the image's command and stands behind the
    entry point; ``host_network`` shares the host's network instead of having none.
    """

    command: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    working_dir: str | None = None
    user: str | None = None
    terminal: bool = False
    read_only: bool = False
    host_network: bool = False
    entrypoint: str | None = None


def make(
    config: ImageConfig, rootfs_fd: int, process: Process, *, rootless: bool
) -> tuple[bytes, list[str]]:
    """The text of ``config.json``, and what the user should know about it.

    Names of users are looked up in the tree that ``rootfs_fd`` is open for. Raises NotFoundError or
    MalformedError for a user that is not there.
    """
    notes: list[str] = []
    args = _arguments(config, process)
    if not args:
        args = ["/bin/sh"]
        notes.append("the image does not say what to run: the configuration has /bin/sh")
    user = users.resolve(config.user if process.user is None else process.user, rootfs_fd)
    if rootless and (user.uid or user.gid or user.groups):
        user = users.User(home=user.home)
        notes.append("the image wants another user; without root's rights there is only one, root")
    orders = sum(map(_is_order, config.labels))
    if orders:
        what = "a label" if orders == 1 else f"{orders} labels"
        notes.append(f"{what} of the image that runtimes would obey did not become an annotation")
    document: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": process.terminal,
            "user": _user(user),
            "args": args,
            "env": _environment(config, process, user),
            "cwd": _working_dir(process.working_dir or config.working_dir),
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES),
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": process.read_only},
        "hostname": "boltseal",
        "mounts": [
            *_mounts(host_network=process.host_network, rootless=rootless),
            *_volumes(config),
        ],
        "annotations": _annotations(config),
        "linux": _linux(host_network=process.host_network, rootless=rootless),
    }
    if process.host_network:
        del document["hostname"]  # programs look it up
        document["linux"]["namespaces"].remove({"type": "uts"})
    return json.dumps(document, indent=2).encode() + b"\n", notes


def _arguments(config: ImageConfig, process: Process) -> list[str]:
    if process.entrypoint is None:
        entry, usual = config.entrypoint, config.cmd
    else:
        entry, usual = (process.entrypoint,) if process.entrypoint else (), ()
    return [*entry, *(usual if process.command is None else process.command)]


def _user(user: users.User) -> dict[str, Any]:
    found: dict[str, Any] = {"uid": user.uid, "gid": user.gid}
    if user.groups:
        found["additionalGids"] = list(user.groups)
    return found


def _environment(config: ImageConfig, process: Process, user: users.User) -> list[str]:
    given: dict[str, str] = {}
    for one in (*config.env, *process.env):
        name = one.partition("=")[0]
        given[name] = one
    defaults = {"PATH": _PATH, "HOME": f"HOME={user.home}"}
    if process.terminal:
        defaults["TERM"] = "TERM=xterm"
    return [*given.values(), *(text for name, text in defaults.items() if name not in given)]


def _working_dir(text: str) -> str:
    return text if text.startswith("/") else f"/{text}"


def _annotations(config: ImageConfig) -> dict[str, str]:
    """Labels come before what is said elsewhere (conversion.md), but give no orders."""
    stated = {
        "os": config.os,
        "architecture": config.architecture,
        "variant": config.variant,
        "os.version": config.os_version,
        "os.features": ",".join(config.os_features),
        "author": config.author,
        "created": config.created,
        "stopSignal": config.stop_signal,
        "exposedPorts": ",".join(config.exposed_ports),
    }
    found = {_NAMES + name: value for name, value in stated.items() if value}
    return {**found, **{k: v for k, v in config.labels.items() if not _is_order(k)}}


def _is_order(label: str) -> bool:
    return label.lower().startswith(_ORDERS)


def _volumes(config: ImageConfig) -> list[dict[str, Any]]:
    """What programs write there does not go into the tree."""
    for place in config.volumes:
        if not place.startswith("/") or ".." in place.split("/"):
            raise MalformedError(
                f"the image has a volume that is no absolute path: {place[:100]!r}"
            )
    return [
        _mount(place, "tmpfs", "none", "rw", *_RESTRICTED, "relatime") for place in config.volumes
    ]


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = {"destination": destination, "type": kind, "source": source}
    if options:
        found["options"] = list(options)
    return found


def _mounts(*, host_network: bool, rootless: bool) -> list[dict[str, Any]]:
    terminals = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    if not rootless:
        terminals.append("gid=5")
    found = [
        _mount("/proc", "proc", "proc", *_RESTRICTED),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", *terminals),
        _mount("/dev/shm", "tmpfs", "shm", *_RESTRICTED, "mode=1777", "size=65536k"),  # noqa: S108
        _mount("/dev/mqueue", "mqueue", "mqueue", *_RESTRICTED),
    ]
    if rootless and host_network:
        # only who owns the network may mount its sysfs
        found.append(_mount("/sys", "none", "/sys", "rbind", *_RESTRICTED, "ro"))
    else:
        found.append(_mount("/sys", "sysfs", "sysfs", *_RESTRICTED, "ro"))
    if not rootless:
        found.append(_mount("/sys/fs/cgroup", "cgroup", "cgroup", *_RESTRICTED, "relatime", "ro"))
    if host_network:
        found += [
            _mount(place, "bind", place, "bind", "ro", *_RESTRICTED)
            for place in ("/etc/resolv.conf", "/etc/hosts")
        ]
    return found


def _linux(*, host_network: bool, rootless: bool) -> dict[str, Any]:
    kinds = ["pid", "ipc", "uts", "mount"]
    if not host_network:
        kinds.append("network")
    found: dict[str, Any] = {"maskedPaths": _MASKED, "readonlyPaths": _READ_ONLY}
    if rootless:
        kinds.append("user")
        found["uidMappings"] = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
        found["gidMappings"] = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
    else:
        found["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    found["namespaces"] = [{"type": kind} for kind in kinds]
    return found
