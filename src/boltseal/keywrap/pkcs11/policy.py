"""Which modules may be loaded, where they are looked for, and what key files may set for them.

A module is code that runs with our rights, and a key file names it: so only what the policy allows
is loaded. As elsewhere, an entry of ``allowed-module-paths`` is a file, or with a slash at its end
a folder (not what is in folders below it). ``allowed-module-env`` is ours, and other readers pass
over it: names of variables that reach a module, from a key file or from the user's environment.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boltseal._io.files import read_user_file, storage_errors
from boltseal.errors import KeyFileError, KeyServiceError, LimitExceededError
from boltseal.keywrap.pkcs11 import document

if TYPE_CHECKING:
    from boltseal.keywrap.options import KeyOptions
    from boltseal.keywrap.pkcs11.uri import TokenUri

INTERNAL = "internal"
MAX_ENTRIES = 256  # folders and paths of one policy
MAX_FILES = 20_000  # files of one folder of modules
_NAMES = ("module-directories", "allowed-module-paths", "allowed-module-env")


@dataclass(frozen=True, slots=True)
class Policy:
    """``origin`` is where it was read, for messages; ``file`` where to write another one."""

    directories: tuple[str, ...]
    allowed: tuple[str, ...]
    origin: str
    file: str
    variables: tuple[str, ...] = ()

    def module(self, uri: TokenUri) -> str:
        """The path of the module that a URI names. Raises KeyServiceError."""
        path = self._named(uri)
        if not os.path.isfile(path):
            raise KeyServiceError(
                f"the PKCS#11 module {path} does not exist", hint="install it, or correct the URI"
            )
        return self._allowed(path)

    def _named(self, uri: TokenUri) -> str:
        path = uri.module_path
        if path is not None and not os.path.isdir(path):
            return path
        if uri.module_name is None:
            raise KeyServiceError(
                "the PKCS#11 URI does not say which module to use",
                hint="add ?module-path=/…/module.so or ?module-name=NAME to it",
            )
        folders = self.directories if path is None else (path,)
        for folder in folders:
            for name in _listed(folder):
                if _is_named(name, uri.module_name):
                    return os.path.join(folder, name)
        raise KeyServiceError(
            f"there is no PKCS#11 module {uri.module_name} in {', '.join(folders)}",
            hint="install it, or name its file with module-path=",
        )

    def _allowed(self, path: str) -> str:
        """The path under which it is allowed: a link in an allowed folder is its owner's word."""
        folder, name = os.path.split(path)
        for candidate in (os.path.join(os.path.realpath(folder), name), os.path.realpath(path)):
            if any(_covers(entry, candidate) for entry in self.allowed):
                return candidate
        raise KeyServiceError(
            f"the PKCS#11 module {path} may not be loaded: {self.origin} does not allow it",
            hint=f"allow it in {self.file}, under pkcs11: allowed-module-paths:",
        )


def find(options: KeyOptions) -> Policy:
    """The policy that counts. Raises KeyFileError, NotFoundError or StorageError.

    A file that is named and not there is an error; when nothing is named and no file is in its
    usual place, the folders that distributions keep for modules are what is allowed.
    """
    named = options.module_policy
    usual = options.module_files[-1] if options.module_files else "the file OCICRYPT_CONFIG names"
    if named is None:
        named = next((one for one in options.module_files if os.path.lexists(one)), INTERNAL)
    if named == INTERNAL:
        folders = default_directories()
        return Policy(folders, folders, "the built-in policy", usual)
    return read(named)


def read(path: str) -> Policy:
    """The policy in a file."""
    try:
        raw = read_user_file(path, "policy for modules", max_bytes=document.MAX_YAML_BYTES)
    except LimitExceededError as error:
        raise KeyFileError(error.message) from None
    about = document.load(raw, path).get("pkcs11", "")
    if not isinstance(about, dict) or not about.keys() <= set(_NAMES):
        raise KeyFileError(f"{path} has no pkcs11: with {', '.join(_NAMES)}, and nothing else")
    found = {name: about.get(name) or [] for name in _NAMES}
    folders, allowed = (_paths(found[name], f"{path}: {name}") for name in _NAMES[:2])
    return Policy(
        folders, allowed, path, path, _variables(found[_NAMES[2]], f"{path}: {_NAMES[2]}")
    )


def default_directories() -> tuple[str, ...]:
    """Where distributions keep modules, and nothing else: a library of another kind may load what
    its variables and files name, as libp11-kit does, which Debian has among all others."""
    machine = os.uname().machine
    # Debian's name for the machine
    tuple_ = "arm-linux-gnueabihf" if machine.startswith("armv") else f"{machine}-linux-gnu"
    return (
        "/usr/lib64/pkcs11/",
        "/usr/lib/pkcs11/",
        "/usr/local/lib/pkcs11/",
        "/usr/lib/softhsm/",
        *(f"/usr/lib/{tuple_}/{folder}" for folder in ("pkcs11/", "softhsm/")),
    )


def _paths(value: Any, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_ENTRIES:
        raise KeyFileError(f"{what} is not a list of at most {MAX_ENTRIES} paths")
    if not all(isinstance(one, str) and one.startswith("/") for one in value):
        raise KeyFileError(f"{what} has something that is not an absolute path")
    return tuple(value)


def _variables(value: Any, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_ENTRIES:
        raise KeyFileError(f"{what} is not a list of at most {MAX_ENTRIES} names of variables")
    if not all(isinstance(one, str) and document.VARIABLE.fullmatch(one) for one in value):
        raise KeyFileError(f"{what} has something that is not the name of a variable")
    return tuple(value)


def _covers(entry: str, path: str) -> bool:
    if entry.endswith("/"):
        return os.path.realpath(entry) == os.path.dirname(path)
    folder, name = os.path.split(entry)
    return path in (os.path.join(os.path.realpath(folder), name), os.path.realpath(entry))


def _listed(folder: str) -> list[str]:
    if not os.path.isdir(folder):
        return []
    with storage_errors(f"listing {folder}"):
        found = os.listdir(folder)
    return sorted(found)[:MAX_FILES]


def _is_named(file: str, name: str) -> bool:
    """``softhsm2`` is ``libsofthsm2.so`` and not ``libsofthsm2-old.so``."""
    at = file.lower().find(name.lower())
    if at < 0:
        return False
    rest = file[at + len(name) :]
    return (not rest or rest.startswith(".")) and ".so" in file[at:].lower()
