"""Does an encrypted layer hold a plain one? Two ways to prove it, and what is said of it then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.blockcipher.aes_ctr_hmac import Reproducer
from boltseal.keywrap import keyring
from boltseal.layer.stream import CheckedReader
from boltseal.spec import annotations as names
from boltseal.spec.digest import Digest
from boltseal.spec.edit import DescriptorEdit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boltseal.keywrap.base import Recipient
    from boltseal.layer.decrypt import UnlockedLayer
    from boltseal.spec.blobs import BlobReader
    from boltseal.spec.descriptor import Descriptor


def is_made_of(
    sealed: Descriptor,
    unlocked: UnlockedLayer,
    plain: Descriptor,
    reader: BlobReader,
    tick: Callable[[int], None] | None = None,
) -> bool:
    """Whether ``sealed`` is the very ciphertext of ``plain``, which ``reader`` holds.

    The plain layer is encrypted again under the key of the sealed one. Cipher and nonce leave one
    ciphertext for each plaintext, so that size and digest tell, and the sealed blob need not be
    read. Whether it is what its digest names, whoever moves it has to check.

    Raises what reading the plain layer raises.
    """
    if sealed.size != plain.size:
        return False
    source = CheckedReader(plain, reader, tick)
    again = Reproducer(unlocked.public, unlocked.private)
    hasher = sealed.digest.hasher()
    source.run([again.update, lambda chunk: hasher.update(chunk.out)])
    source.finish()
    # both are looked at, whatever the first of them says
    is_authentic, is_blob = again.matches(), Digest.finish(hasher) == sealed.digest
    return is_authentic and is_blob


def take_over(
    sealed: Descriptor,
    unlocked: UnlockedLayer,
    recipients: Sequence[Recipient],
    media_type: str,
) -> DescriptorEdit:
    """What makes a plain layer's descriptor that of ``sealed``, for ``recipients`` alone.

    Nothing of the old annotations is taken over but the public options.
    """
    wrapped = keyring.wrap(recipients, unlocked.private.secret())
    return DescriptorEdit(
        media_type=media_type,
        digest=sealed.digest,
        size=sealed.size,
        set_annotations={
            **{names.KEYS + scheme: names.join_packets(them) for scheme, them in wrapped.items()},
            names.PUBLIC_OPTIONS: unlocked.public.annotation(),
        },
    )
