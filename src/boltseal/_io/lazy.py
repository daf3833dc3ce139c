"""Put off loading a module that somebody imports for a case that seldom comes."""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

_OUT = threading.Lock()


def put_off(package: str, name: str) -> None:
    """Load ``package.name`` when something of it is used, and not when it is imported.

    Any number of threads may be the first to use it.
    """
    full = f"{package}.{name}"
    if full in sys.modules or not PathFinder.find_spec(full, import_module(package).__path__):
        return
    module = _Later(full)
    # else "from package import name" would look for the module, and so load it
    setattr(import_module(package), name, module)
    sys.modules[full] = module


def dataclasses_alone() -> None:
    """Import ``dataclasses`` without ``inspect``, which is more than half of what it costs.

    It is there for the docstring of classes that have none (the cryptographic library has such
    ones), which becomes the name without the arguments. Whoever else imports ``inspect`` gets the
    real one.
    """
    if "dataclasses" in sys.modules or "inspect" in sys.modules:
        return
    instead = _Later("inspect")
    setattr(instead, "signature", _unsigned)  # noqa: B010  mypy knows no attributes of modules
    sys.modules["inspect"] = instead
    try:
        import_module("dataclasses")
    finally:
        if sys.modules.get("inspect") is instead:  # else somebody has loaded the real one
            del sys.modules["inspect"]


def _unsigned(_: type) -> str:
    return ""


class _Later(ModuleType):
    """Stands where a module belongs, and becomes a way to it as soon as it is asked for anything.

    Loading is under the interpreter's lock for that module. Ours is for taking this one out: who
    looked before another thread did it would take out the real one, in the middle of its loading.
    """

    def __getattr__(self, name: str) -> Any:
        full = self.__name__
        with _OUT:
            if sys.modules.get(full) is self:
                del sys.modules[full]
        return getattr(import_module(full), name)
