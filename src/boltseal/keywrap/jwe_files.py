"""``jwe:FILE``: recipients of the ``jwe`` scheme by the name of their public key."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from boltseal.errors import UsageError
from boltseal.keywrap.identity_files import read_key_file
from boltseal.keywrap.jwe import JweRecipient
from boltseal.keywrap.keyfiles import load_public
from boltseal.spec.reference import shown

if TYPE_CHECKING:
    from boltseal.keywrap.options import KeyOptions


def recipient(path: str, options: KeyOptions) -> JweRecipient:
    """From a file with a public key or a certificate."""
    if ":" in path and not os.path.exists(path):
        raise UsageError(
            f"there is no file {shown(path)!r}",
            hint="a public key has no passphrase: write jwe:FILE",
        )
    return JweRecipient(load_public(read_key_file(path), path), options.with_kid)
