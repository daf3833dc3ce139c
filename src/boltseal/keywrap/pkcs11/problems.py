"""What went wrong with a token, in one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.errors import BoltsealError, KeyServiceError, MissingExtraError

if TYPE_CHECKING:
    from boltseal.keywrap.pkcs11.process import RefusedError

# Names are those of the binding's exceptions, which are PKCS#11's return codes (section 5.1 of
# version 2.40), and those that the process with the module has for itself. {key} is the key, as
# the user named it; {text} what there is to tell.
_PROBLEMS: dict[str, tuple[str, str | None]] = {
    "NoModule": (
        "the PKCS#11 module {module} cannot be loaded or started: {text}",
        "is it a PKCS#11 module, and is all there that it needs?",
    ),
    "NoToken": ("{key}: there is no such token{others}", "is it plugged in? compare the URI"),
    "SeveralTokens": (
        "{key}: several tokens are like that",
        "add serial= or slot-id= to the URI",
    ),
    "NoKey": ("{key}: the token has no such RSA key", "compare object= and id= of the URI"),
    "NotRsa": ("{key}: the key is not an RSA key", "PKCS#11 recipients are RSA keys"),
    "SeveralKeys": ("{key}: several keys of the token are like that", "add id= to the URI"),
    "KeyFunctionNotPermitted": (
        "{key}: the key may not be used to decrypt (CKA_DECRYPT)",
        "make or import it again as a key for decryption",
    ),
    "PinIncorrect": (
        "{key}: the PIN is wrong{state}",
        "it is not tried again in this run, since tokens lock themselves",
    ),
    "PinLocked": (
        "{key}: the token is locked after too many wrong PINs",
        "its security officer can set a new PIN",
    ),
    "PinExpired": ("{key}: the PIN has expired", "set a new one with the token's own tool"),
    "UserPinNotInitialized": (
        "{key}: the token has no PIN yet",
        "set one with the token's own tool",
    ),
}
WRONG_PIN = ("PinIncorrect", "PinInvalid", "PinLenRange")
PIN_PROBLEMS = (*WRONG_PIN, "PinLocked", "PinExpired")
_SAME = dict.fromkeys(WRONG_PIN, "PinIncorrect")
_STATES = {"locked": ", and the token is locked now", "final": ", and one more locks the token"}

# What tokens say about a blob of another key: there is no agreement.
NOT_MINE = (
    "EncryptedDataInvalid",
    "EncryptedDataLenRange",
    "DataInvalid",
    "DataLenRange",
    "GeneralError",
    "FunctionFailed",
)
# ... and about an OAEP hash that they do not have.
NO_HASH = ("ArgumentsBad", "MechanismInvalid", "MechanismParamInvalid", "FunctionNotSupported")
# The token, its session or its key is not there any more.
GONE = (
    "DeviceError",
    "DeviceRemoved",
    "KeyHandleInvalid",
    "ObjectHandleInvalid",
    "SessionClosed",
    "SessionHandleInvalid",
    "SlotIDInvalid",
    "TokenNotPresent",
    "TokenNotRecognised",
    "UserNotLoggedIn",
)


def explain(refused: RefusedError, key: str, module: str) -> BoltsealError:
    """The error for people; ``key`` is how the key is described."""
    name = _SAME.get(refused.name, refused.name)
    if name == "NoBinding":
        return MissingExtraError("a PKCS#11 key", "pkcs11")
    if name in GONE:
        return KeyServiceError(
            f"{key}: the token was removed or reset while it was in use",
            hint="plug it in, and run it again",
        )
    if name not in _PROBLEMS:
        return KeyServiceError(f"{key}: the token failed ({name[:60]})")
    message, hint = _PROBLEMS[name]
    others = f" (there is: {refused.text})" if refused.text else ""
    return KeyServiceError(
        message.format(
            key=key,
            module=module,
            text=refused.text,
            others=others,
            state=_STATES.get(refused.pin, ""),
        ),
        hint=hint,
    )


def no_hash(key: str, name: str) -> KeyServiceError:
    """A token that lacks an OAEP hash."""
    return KeyServiceError(
        f"{key}: the token cannot do RSA-OAEP with {name.upper().replace('SHA', 'SHA-')}",
        hint="encrypt for it with --oaep-hash sha1" if name != "sha1" else None,
    )
