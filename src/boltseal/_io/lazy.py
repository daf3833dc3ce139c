"""Put off loading a module that somebody imports for a case that seldom comes."""

from __future__ import annotations

import importlib.util
import sys
from importlib import import_module


def put_off(package: str, name: str) -> None:
    """Load ``package.name`` when something of it is used, and not when it is imported.

    For the start of a program that has one thread: two that use such a module for the first time
    at once get in each other's way.
    """
    full = f"{package}.{name}"
    if full in sys.modules:
        return
    spec = importlib.util.find_spec(full)
    if spec is None or spec.loader is None:
        return
    loader = importlib.util.LazyLoader(spec.loader)
    spec.loader = loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    loader.exec_module(module)
    # else "from package import name" would look into the module, and so load it
    setattr(import_module(package), name, module)
