"""What there is as plain JSON, for HTTP and for the command line's ``--json`` alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boltseal.keywrap.broker import public

if TYPE_CHECKING:
    from boltseal.broker.app.config import Settings
    from boltseal.broker.model import KeyVersion
    from boltseal.broker.service.catalog import Key


def key_out(key: Key) -> dict[str, Any]:
    """A key as JSON has it."""
    return {
        "key": str(key.path),
        "algorithm": key.algorithm,
        "published": key.published,
        "labels": dict(key.labels),
        "created": key.created,
        "versions": key.versions,
        "newest": key.newest,
    }


def version_out(one: KeyVersion) -> dict[str, Any]:
    """A version as JSON has it; what is sealed is not in it."""
    return {
        "key": str(one.path),
        "version": one.version,
        "algorithm": one.algorithm,
        "state": str(one.state),
        "public": one.public,
        "fingerprint": one.fingerprint,
        "created": one.created,
        "destroy_at": one.destroy_at,
        "published": one.published,
        "labels": dict(one.labels),
    }


def public_document(settings: Settings, one: KeyVersion) -> bytes:
    """The public half as clients pin it, with this broker's address."""
    return public.build(
        public.PublicKey(
            (settings.public_address,),
            str(one.path),
            one.version,
            one.algorithm,
            one.public,
            one.fingerprint,
        )
    )
