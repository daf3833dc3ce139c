"""What a version of a key may become: enabled, disabled, waiting for its end, gone."""

from __future__ import annotations

from typing import Final

from boltseal.broker.model import KeyState, RefusedError

DESTROY_DAYS: Final = 7  # how long a version waits for its end, unless something else is said
MAX_DESTROY_DAYS: Final = 365
_DAY: Final = 86_400  # seconds

# what was asked for, to the states it may be asked in and the one it leads to
_STEPS: Final = {
    "enable": ((KeyState.DISABLED,), KeyState.ENABLED),
    "disable": ((KeyState.ENABLED,), KeyState.DISABLED),
    "destroy": ((KeyState.ENABLED, KeyState.DISABLED), KeyState.DESTROYING),
    # disabled: whoever takes it back says for himself that it may open images again
    "restore": ((KeyState.DESTROYING,), KeyState.DISABLED),
    "erase": ((KeyState.DESTROYING,), KeyState.DESTROYED),
}


def step(state: KeyState, what: str) -> KeyState:
    """The state after ``enable``, ``disable``, ``destroy``, ``restore`` or ``erase``.

    Raises RefusedError ``conflict`` in a state where that makes no sense.
    """
    allowed, after = _STEPS[what]
    if state not in allowed:
        wanted = " or ".join(one.value for one in allowed)
        raise RefusedError(
            "conflict", f"the version is {state.value}, and has to be {wanted} to {what} it"
        )
    return after


def destroy_at(now: int, days: int) -> int:
    """When a version ends that is given ``days`` from now. Raises RefusedError ``malformed``."""
    if not 0 <= days <= MAX_DESTROY_DAYS:
        raise RefusedError("malformed", f"a version waits 0 to {MAX_DESTROY_DAYS} days for its end")
    return now + days * _DAY
