"""Encrypt an image: all platforms and all layers, unless the caller chooses."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from boltseal.errors import UsageError
from boltseal.image import referrers
from boltseal.image.arguments import (
    DEFAULT_JOBS,
    as_access,
    as_keyring,
    as_recipients,
    as_reference,
    several,
)
from boltseal.image.choice import Choice, Eyes, choose
from boltseal.image.encryption import Encryption
from boltseal.image.hiding import Hiding
from boltseal.image.reuse import Reuse
from boltseal.image.session import Session
from boltseal.keywrap.keyring import check_mixture

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boltseal.image.arguments import Identities, Registry
    from boltseal.image.report import Outcome, Progress
    from boltseal.keywrap.base import Recipient
    from boltseal.keywrap.options import KeyOptions
    from boltseal.spec.platform import Platform
    from boltseal.spec.reference import Reference


def encrypt(
    source: str | Reference,
    destination: str | Reference,
    recipients: Sequence[str | Recipient],
    *,
    identities: Identities = (),
    layers: Sequence[str] = (),
    layers_containing: Sequence[str] = (),
    except_base: str | Reference | None = None,
    reuse: Sequence[str | Reference] = (),
    platforms: Sequence[str | Platform] = (),
    registry: Registry = None,
    jobs: int = DEFAULT_JOBS,
    keys: KeyOptions | None = None,
    allow_classical: bool = False,
    lint: bool = True,
    strict: bool = False,
    scrub: Sequence[str] = (),
    salt: bool = False,
    padding: bool = True,
    progress: Callable[[Progress], None] | None = None,
) -> Outcome:
    """Write an image whose layers only ``recipients`` can open.

    ``source`` and ``destination`` are references (``oci:PATH:TAG``), ``recipients`` are texts as
    ``parse_recipient`` reads them or Recipient objects. ``layers`` selects layers of every platform
    (``"-1"``, ``"0..2"``; all without it), ``platforms`` keeps only these (``"linux/arm64"``; all
    without it). ``layers_containing`` are globs as in ``.gitignore``: layers that hold a matching
    path are chosen, too; each glob has to match on every platform.

    With ``except_base``, an image, its layers stay readable: of every platform only what the base
    does not have is encrypted, by diff id.

    With ``reuse``, images that were encrypted earlier, a layer that one of them has is not
    encrypted again but taken over, for ``recipients`` alone, once one of ``identities`` has opened
    it and it is proven to hold the same. Whoever could open it there may have kept its key.

    A layer that is encrypted already stays as it is, unless one of ``identities`` opens it: then
    the recipients are added to it and its blob is not touched.

    ``registry`` says how to reach registries, for both ends or as a pair; ``jobs`` is how many
    layers are moved at a time where a registry is on one side; ``keys`` has the options of every
    kind of key.

    A recipient that withstands quantum computers shares no layer with one that does not, since the
    weaker one opens it, unless ``allow_classical``.

    ``lint`` searches what stays readable for likely secrets, which are warned of; with ``strict``
    they are refused before anything is written. ``scrub`` takes parts of the config out:
    ``"history"``, ``"build"``, ``"author"``, ``"all"`` of these, ``"label:GLOB"``. ``salt`` makes
    the diff ids of encrypted layers unguessable, by a random salt behind the end of each, and their
    sizes less telling, unless ``padding`` is off. After both, decrypting gives the same files, and
    not the same digests.

    Returns what became of every layer. Raises BoltsealError; the destination is then as before.
    """
    who = as_recipients(recipients, keys)
    if not who:
        raise UsageError("no recipient to encrypt for", hint="name at least one, as jwe:FILE")
    ring = as_keyring(identities, keys)
    if not allow_classical:
        check_mixture(who)
    hiding = Hiding.of(
        lint=lint,
        strict=strict,
        scrub=scrub,
        salt=salt,
        padding=padding,
        reuse=bool(several(reuse)),
    )
    choice = Choice(layers, except_base, layers_containing)
    with ExitStack() as stack:
        access = as_access(registry, jobs)
        session = stack.enter_context(Session(source, destination, platforms, progress, access))
        earlier = stack.enter_context(Reuse(reuse, session, who, ring, allow_classical))
        eyes = Eyes(session.source, ring, access, progress)
        chosen = choose(choice, session.node, as_reference(source), eyes, session.journal).chosen
        job = Encryption(session, who, ring, allow_classical, reuse=earlier, hiding=hiding)
        session.journal.note_all(ring.notes)
        expected = [
            (node, index, layer)
            for node, index, layer in session.layers()
            if (node.descriptor.digest, index) in chosen
        ]
        job.keys.expect(expected)
        earlier.expect(expected)
        for node, index, layer in session.layers():
            if not node.is_attestation:
                with session.at_layer(node, index):
                    job.plan(node, index, layer, (node.descriptor.digest, index) in chosen)
        with session.at_source():
            job.keys.raise_first()
        job.check_nothing_stays_readable(chosen_by_user=choice.names_layers)
        earlier.check()
        hiding.prepare(session)
        referrers.warn(session)
        meter = session.begin_writing()
        session.work(job.run, meter)
        earlier.warn()
        hiding.finish(session)
        if job.kept and not job.has_work:
            session.journal.warn(
                "nobody was added: the layers were encrypted before, and keep the recipients they "
                "had"
            )
        if session.is_in_place and session.edits:
            session.journal.note(
                "the image as it was before is still there, in the clear: "
                "whoever can read this place finds it by its digest; encrypt into another "
                "place to hand the image on"
            )
        elif session.is_in_place and session.configs:
            session.journal.note(
                "the config as it was before is still there: "
                "whoever can read this place finds it by its digest"
            )
        return session.finish(meter)
