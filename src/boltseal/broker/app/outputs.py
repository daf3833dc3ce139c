"""What there is as plain JSON, for HTTP and for the command line's ``--json`` alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boltseal.keywrap.broker import public

if TYPE_CHECKING:
    from boltseal.broker.app.config import Settings
    from boltseal.broker.model import KeyVersion
    from boltseal.broker.policy.dryrun import Report
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


def dry_run_out(report: Report) -> dict[str, Any]:
    """A dry run, with the requests that would be decided otherwise."""
    return {
        "checked": report.checked,
        "undecided": report.undecided,
        "newly_allowed": report.newly_allowed,
        "newly_refused": report.newly_refused,
        "is_all": report.is_all,
        "changes": [
            {
                "seq": one.past.seq,
                "time": one.past.time,
                "request": one.past.request,
                "who": one.past.principal.id,
                "action": str(one.past.action),
                "resource": str(one.past.resource),
                "was_allowed": one.past.was_allowed,
                "would_be_allowed": one.would.allowed,
                "determining": list(one.would.determining),
                "explanation": one.would.explanation,
            }
            for one in report.changes
        ],
    }
