"""List and change who can open an image.

Only manifests are written, and no layer is read, unless :func:`set_recipients` is told to rotate.
All layers of all platforms change, or none does.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from boltseal.errors import UsageError
from boltseal.image.arguments import DEFAULT_JOBS, as_keyring, as_recipients, several
from boltseal.image.inspect import inspect
from boltseal.image.recipients_change import ChangeReport, Options, change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from boltseal.image.arguments import Identities, Registry
    from boltseal.image.recipients_plan import Planner
    from boltseal.image.report import Progress
    from boltseal.keywrap.base import Recipient, WrappedKey
    from boltseal.keywrap.options import KeyOptions
    from boltseal.spec.reference import Reference
    from boltseal.transports.registry.options import RegistryOptions


@dataclass(frozen=True, slots=True)
class ListedRecipient:
    """One who can open an image, as far as it tells, and the number of layers that he opens."""

    scheme: str
    algorithm: str | None
    recipient: str | None
    layers: int


@dataclass(frozen=True, slots=True)
class RecipientList:
    """Who can open an image. ``problems`` has what a reader of it would refuse."""

    image: str
    digest: str
    encrypted_layers: int
    recipients: tuple[ListedRecipient, ...]
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return asdict(self)


def list_recipients(
    image: str | Reference, *, registry: RegistryOptions | None = None
) -> RecipientList:
    """Every recipient of an image, by what its manifests say; that takes no key.

    What an image calls somebody, whoever wrote it may have made up. Raises BoltsealError.
    """
    report = inspect(image, registry=registry)
    layers = [layer for one in report.manifests for layer in one.layers if layer.encrypted]
    found: dict[WrappedKey, int] = {}
    for layer in layers:
        for key in dict.fromkeys(layer.keys):
            found[key] = found.get(key, 0) + 1
    return RecipientList(
        report.image,
        report.digest,
        len(layers),
        tuple(
            ListedRecipient(one.scheme, one.algorithm, one.recipient, n) for one, n in found.items()
        ),
        tuple(report.problems),
    )


def add_recipients(
    image: str | Reference,
    recipients: Sequence[str | Recipient],
    identities: Identities,
    *,
    destination: str | Reference | None = None,
    dry_run: bool = False,
    allow_classical: bool = False,
    registry: Registry = None,
    jobs: int = DEFAULT_JOBS,
    keys: KeyOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ChangeReport:
    """Let further recipients open every encrypted layer; one of ``identities`` has to open it.

    Without ``destination`` the image is changed where it is. Who is listed already is not added
    again. With ``dry_run`` nothing is written. The other arguments are those of ``encrypt``.

    Raises NoMatchingKeyError when a layer stays closed, ConflictError when somebody else changed
    the image meanwhile; nothing is changed then.
    """
    from boltseal.image.recipients_plan import Adding
    from boltseal.image.unlock import Unlocker

    who = _recipients(recipients, keys)
    ring = as_keyring(identities, keys)
    opener = Unlocker(ring, str(image))
    planner = Adding(opener, who, ring.notes, allow_classical=allow_classical)
    return change(image, planner, Options(destination, dry_run, registry, jobs, progress))


def set_recipients(
    image: str | Reference,
    recipients: Sequence[str | Recipient],
    identities: Identities,
    *,
    rotate: bool = False,
    check_content: bool = False,
    destination: str | Reference | None = None,
    dry_run: bool = False,
    allow_classical: bool = False,
    registry: Registry = None,
    jobs: int = DEFAULT_JOBS,
    keys: KeyOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ChangeReport:
    """Make ``recipients`` exactly those who can open every encrypted layer.

    Whoever could open it before may have kept the layers' keys. With ``rotate`` every encrypted
    layer is read, opened in memory and encrypted with a new key: then the old ones open nothing of
    the new image. They still open the old one, where that is not deleted. Nothing of a layer is
    kept before its size, digest and HMAC were right; with ``check_content`` it is also compared
    with the config's diff ids.

    Everything else is as for :func:`add_recipients`; it also raises IntegrityError for a layer that
    is not what it claims to be.
    """
    from boltseal.image.recipients_plan import Replacing, Rotating
    from boltseal.image.rotation import Rotation
    from boltseal.image.unlock import Unlocker
    from boltseal.keywrap.keyring import check_mixture

    if check_content and not rotate:
        raise UsageError("content can be checked only where layers are encrypted again")
    who = _recipients(recipients, keys)
    if not allow_classical:
        check_mixture(who)
    ring = as_keyring(identities, keys)
    opener = Unlocker(ring, str(image))
    planner: Planner
    if rotate:
        rotation = Rotation(who, check_content=check_content)
        planner = Rotating(opener, rotation, ring.notes, allow_classical=allow_classical)
    else:
        planner = Replacing(opener, who, ring.notes, allow_classical=allow_classical)
    return change(image, planner, Options(destination, dry_run, registry, jobs, progress))


def remove_recipients(
    image: str | Reference,
    unwanted: Iterable[str],
    *,
    destination: str | Reference | None = None,
    dry_run: bool = False,
    registry: Registry = None,
    jobs: int = DEFAULT_JOBS,
    keys: KeyOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ChangeReport:
    """Take recipients out of every layer; no key is needed for that.

    ``unwanted`` are names as :func:`list_recipients` gives them, files of keys or certificates,
    ``pgp:WHO``, ``provider:NAME`` or URIs of key services. Whoever could open the image may have
    kept the layers' keys.

    Raises NotFoundError for one who is in no layer, UsageError when a layer would be left to
    nobody, ConflictError when somebody else changed the image meanwhile.
    """
    from boltseal.image.recipients_plan import Removing
    from boltseal.keywrap import target

    targets = [target.parse(text, keys) for text in several(unwanted)]
    if not targets:
        raise UsageError("nobody to remove", hint="name at least one with --recipient")
    planner = Removing(targets, str(image))
    return change(image, planner, Options(destination, dry_run, registry, jobs, progress))


def _recipients(
    values: Sequence[str | Recipient], keys: KeyOptions | None
) -> tuple[Recipient, ...]:
    who = as_recipients(values, keys)
    if not who:
        raise UsageError("no recipient is named", hint="name at least one with --recipient")
    return who
