"""PKCS#11: is the package installed, is the policy readable, and are there modules?"""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from boltseal.errors import BoltsealError
from boltseal.runtime.doctor.finding import Subject
from boltseal.runtime.doctor.host import others_may_write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltseal.keywrap.pkcs11.policy import Policy
    from boltseal.runtime.doctor.finding import Finding
    from boltseal.runtime.doctor.host import Host

SUBJECT = Subject("pkcs11")
_MAX_MODULES = 100  # that are looked at
_PATH = "/etc/ocicrypt.conf"


def checks(host: Host) -> Iterator[Finding]:
    """Nothing is loaded: a module is code."""
    if find_spec("pkcs11") is None or find_spec("yaml") is None:
        yield SUBJECT.absent(
            "package",
            "keys in tokens cannot be used from here",
            "pip install 'boltseal[pkcs11]'",
        )
        if find_spec("yaml") is None:
            return
    else:
        yield SUBJECT.ok("package", "python-pkcs11 is installed")
    try:
        policy = _policy(host)
    except BoltsealError as error:
        yield SUBJECT.failed("policy", error, "correct it, or set OCICRYPT_CONFIG=internal")
        return
    yield SUBJECT.ok("policy", policy.origin)
    yield from _modules(host, policy)


def _policy(host: Host) -> Policy:
    from boltseal.keywrap.pkcs11 import policy

    named = host.files.get("ocicrypt")
    options = host.keys
    if named is not None:
        options = replace(options, module_policy=named)
    elif not host.is_here:
        options = replace(options, module_policy=None, module_files=(host.place(_PATH),))
    return policy.find(options)


def _modules(host: Host, policy: Policy) -> Iterator[Finding]:
    found: list[str] = []
    for one in policy.directories:
        place = host.place(one)
        if os.path.isdir(place):
            names = sorted(name for name in os.listdir(place) if ".so" in name)
            found += [os.path.join(one, name) for name in names[:_MAX_MODULES]]
    for one in policy.allowed:
        if one.endswith("/"):
            continue
        if os.path.isfile(host.place(one)):
            found.append(one)
        else:
            yield SUBJECT.fail(
                "module",
                f"{policy.origin} allows {one}, which does not exist",
                "install the module, or correct allowed-module-paths",
            )
    unsafe = [one for one in dict.fromkeys(found) if others_may_write(host.place(one))]
    for one in unsafe:
        yield SUBJECT.fail(
            "module",
            f"somebody else than root may change {one}, which runs with your rights",
            f"chown root {one}; chmod 0644 {one}",
        )
    if found:
        listed = ", ".join(sorted({os.path.basename(one) for one in found})[:5])
        yield SUBJECT.ok("modules", listed)
    else:
        yield SUBJECT.absent("modules", f"{policy.origin} allows none that is installed")
