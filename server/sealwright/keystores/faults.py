"""What a token's return codes (PKCS#11 2.40, 5.1) mean to Sealwright."""

from __future__ import annotations

import pkcs11
from pkcs11.exceptions import PKCS11Error

from sealwright.errors import KeyStoreError, SealwrightError, UnavailableError


class SignatureUncertainError(KeyStoreError):
    """The token was asked to sign and its answer is lost: a signature may exist or not.

    It has not been released. Whoever repeats it must record that as another use of the key.
    """


#: The session is gone and the call was never carried out: repeating it cannot sign twice.
NOT_EXECUTED: tuple[type[PKCS11Error], ...] = (
    pkcs11.SessionHandleInvalid,
    pkcs11.UserNotLoggedIn,
    pkcs11.KeyHandleInvalid,
    pkcs11.ObjectHandleInvalid,
)

#: The arguments or the key were refused; nothing was signed and the session is sound.
REFUSED: tuple[type[PKCS11Error], ...] = (
    pkcs11.ArgumentsBad,
    pkcs11.AttributeReadOnly,
    pkcs11.AttributeSensitive,
    pkcs11.AttributeTypeInvalid,
    pkcs11.AttributeValueInvalid,
    pkcs11.DataInvalid,
    pkcs11.DataLenRange,
    pkcs11.DomainParamsInvalid,
    pkcs11.FunctionNotSupported,
    pkcs11.FunctionRejected,
    pkcs11.KeySizeRange,
    pkcs11.KeyTypeInconsistent,
    pkcs11.MechanismInvalid,
    pkcs11.MechanismParamInvalid,
    pkcs11.SessionReadOnly,
    pkcs11.TemplateIncomplete,
    pkcs11.TemplateInconsistent,
    pkcs11.TokenWriteProtected,
)

#: The token has no room at the moment: nothing was done, and the session is sound.
EXHAUSTED: tuple[type[PKCS11Error], ...] = (pkcs11.DeviceMemory, pkcs11.SessionCount)

#: The PIN, or the token's opinion of it. Never answered by another attempt.
PIN_REFUSED: tuple[type[PKCS11Error], ...] = (
    pkcs11.PinExpired,
    pkcs11.PinIncorrect,
    pkcs11.PinInvalid,
    pkcs11.PinLenRange,
    pkcs11.PinLocked,
    pkcs11.UserPinNotInitialized,
)


def keeps_session(error: PKCS11Error) -> bool:
    """Whether the session can be used on after this code; after any other it is opened anew."""
    return isinstance(error, REFUSED + EXHAUSTED)


def code(error: PKCS11Error) -> str:
    """Name the return code: the exception's name, or what python-pkcs11 says of one it lacks."""
    return str(error) or type(error).__name__


def translate(error: PKCS11Error, doing: str) -> SealwrightError:
    """Turn a return code into the error that the rest of the program knows."""
    what = f"The token could not {doing} ({code(error)})."
    if isinstance(error, PIN_REFUSED):
        return KeyStoreError(what, advice="Check the PIN file and the state of the token's PIN.")
    if isinstance(error, REFUSED):
        return KeyStoreError(
            what, advice="Check that the token supports this key type, size and mechanism."
        )
    if isinstance(error, EXHAUSTED):
        return UnavailableError(
            what, advice="Try again; if it stays, free sessions or memory on the token."
        )
    return UnavailableError(
        what, advice="Check that the token is connected and its service runs, then try again."
    )


def translate_signing(error: PKCS11Error, doing: str) -> SealwrightError:
    """Like `translate`, for C_Sign: every code that does not rule out a signature says so."""
    if isinstance(error, REFUSED + EXHAUSTED + NOT_EXECUTED):
        return translate(error, doing)
    return SignatureUncertainError(
        f"The token's answer was lost ({code(error)}): it may have signed.",
        advice="Record another use of the key and sign again.",
    )
