"""Exported OpenPGP secret keys, in a private temporary home of GnuPG's."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, ClassVar

from boltseal.errors import KeyFileError, KeyServiceError
from boltseal.keywrap.pgp import gnupg, keyblock, opening, packet
from boltseal.keywrap.pgp.home import TemporaryHome

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltseal.keywrap.options import KeyOptions
    from boltseal.keywrap.pgp.gnupg import GnuPG
    from boltseal.keywrap.pgp.keyblock import Exported

_SECRET_IMPORTED = 16  # GnuPG's doc/DETAILS, IMPORT_OK


class PgpFileIdentity:
    """The secret keys of one file; GnuPG gets them when the first message for them comes."""

    is_remote: ClassVar[bool] = True

    def __init__(
        self,
        raw: bytes,
        label: str,
        exported: Exported,
        passphrase: Callable[[], bytes | None],
        options: KeyOptions,
    ) -> None:
        self._raw, self._label, self._exported = raw, label, exported
        self._ask, self._options = passphrase, options
        self._lock = threading.Lock()
        self._program = gnupg.find(options).program
        self._home: TemporaryHome | None = None
        self._ready: GnuPG | None = None
        self._passphrase: bytes | None = None
        self._problem: tuple[str, str | None] | None = None

    def handles(self, scheme: str) -> bool:
        return scheme == packet.SCHEME

    def unwrap(self, scheme: str, data: bytes) -> bytes:
        message = packet.parse(data)
        mine = opening.ours(message, self._exported.keys)
        is_locked = any(key.key_id in self._exported.protected for key in mine)
        with self._lock:  # so that one question and one import do for everybody
            if self._problem is not None:
                raise KeyFileError(self._problem[0], hint=self._problem[1])
            try:
                passphrase = self._known_passphrase() if is_locked else None
                program = self._imported()
                return self._decrypt(program, message.only(mine), passphrase)
            except KeyFileError as error:  # asking again for every layer would help nobody
                self._problem = (error.message, error.hint)
                self._close()
                raise

    @property
    def exported(self) -> Exported:
        """What the file has, without any secret."""
        return self._exported

    def describe(self) -> str:
        name = gnupg.printable(self._exported.name)[:120]
        parts = ["OpenPGP", name, list(self._exported.keys)[-1]]
        return f"{self._label} ({', '.join(filter(None, parts))})"

    def __repr__(self) -> str:
        return f"PgpFileIdentity({self.describe()})"

    def _known_passphrase(self) -> bytes:
        if self._passphrase is None:
            self._passphrase = self._ask()
        if self._passphrase is None:
            raise KeyFileError(
                f"{self._label} is encrypted",
                hint="add its passphrase: FILE:file=PATH, FILE:fd=N or FILE:pass=TEXT",
            )
        return self._passphrase

    def _decrypt(self, program: GnuPG, message: bytes, passphrase: bytes | None) -> bytes:
        # nobody is ever asked by a window: the passphrase is known, or there is none
        mode = "cancel" if passphrase is None else "loopback"
        try:
            return opening.decrypt(program, message, ("--pinentry-mode", mode), passphrase)
        except opening.WrongPassphraseError:
            raise KeyFileError(f"{self._label} does not open with the passphrase given") from None

    def _imported(self) -> GnuPG:
        """GnuPG with the key in it; the key keeps its passphrase there."""
        if self._ready is None:
            self._home = TemporaryHome(self._options, self._program)
            program = gnupg.find(self._options, home=self._home.path)
            ended = program.run(
                *("--quiet", "--pinentry-mode", "cancel", "--import"), given=self._raw
            )
            taken = [
                rest[0].isdigit() and int(rest[0]) & _SECRET_IMPORTED
                for keyword, rest in gnupg.statuses(ended)
                if keyword == "IMPORT_OK"
            ]
            if not any(taken):
                why = gnupg.words(ended)
                if "agent" in why:
                    raise KeyServiceError(
                        f"GnuPG's agent does not start: {why}", hint="install gpg-agent"
                    )
                raise KeyFileError(f"{self._label}: GnuPG does not take the key: {why}")
            self._ready = program
        return self._ready

    def _close(self) -> None:
        if self._home is not None:
            self._home.close()
        self._home = self._ready = None


def identity(
    raw: bytes, label: str, passphrase: Callable[[], bytes | None], options: KeyOptions
) -> PgpFileIdentity:
    """An exported key, armored or binary; ``passphrase`` is called when a message needs it.

    Raises KeyFileError for what is no secret key, KeyServiceError without GnuPG.
    """
    return PgpFileIdentity(raw, label, keyblock.read(raw, label), passphrase, options)
