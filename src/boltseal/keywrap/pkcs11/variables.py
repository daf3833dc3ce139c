"""Which variables reach a module: those that a key file may set, and those of the user's own.

A module's configuration can be code: OpenSC's and p11-kit's name libraries to load, PKCS11SPY is
one, a TPM's store names its driver's, and a log file may be any file of the user's. So a key file
sets what is known to name tokens only, and what the policy allows by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.errors import KeyFileError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

# SoftHSM's file says where tokens lie, how they are stored and how much is logged to syslog.
FROM_KEY_FILES = ("SOFTHSM2_CONF",)

# What the C library, Python, a driver or a dialog for a PIN looks at; the rest is none of theirs.
_PASSED = (
    *("HOME", "USER", "LOGNAME", "PATH", "LD_LIBRARY_PATH", "TMPDIR", "TZ", "LANG", "LANGUAGE"),
    *("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "DBUS_SESSION_BUS_ADDRESS"),
    *("OPENSSL_CONF", "OPENSSL_MODULES", "ChrystokiConfigurationPath"),
)
_PASSED_PREFIXES = (
    *("LC_", "XDG_", "SOFTHSM", "OPENSC_", "PKCS11", "P11_KIT_", "PCSCLITE_", "TPM2_PKCS11_"),
    *("TSS2_", "CKNFAST_", "NFAST_", "CS_PKCS11_", "YUBIHSM_PKCS11_", "CLOUDHSM_", "KMS_PKCS11_"),
)


def check(given: Collection[str], allowed: Collection[str], label: str, file: str) -> None:
    """Whether a key file may set all of ``given``. Raises KeyFileError."""
    for name in given:
        if name not in FROM_KEY_FILES and name not in allowed:
            raise KeyFileError(
                f"{label} sets {name}, which a key file may not: it could load other code",
                hint="set it in the environment of the command; or, for any key file, allow it in "
                f"{file}, under pkcs11: allowed-module-env:",
            )


def passed(environment: Mapping[str, str], allowed: Collection[str]) -> dict[str, str]:
    """Of the user's variables those that a module may need, and no credentials of other things."""
    return {
        name: value
        for name, value in environment.items()
        if name in _PASSED or name.startswith(_PASSED_PREFIXES) or name in allowed
    }
