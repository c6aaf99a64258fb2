"""The one family of errors that Sealwright raises on purpose.

Every error says what went wrong (`message`), what the reader can do about it (`advice`) and, where
there is one, the place at fault (`where`: a member path, or line and column of a configuration).
`code` is stable and part of the public API: `web/problems.py` maps it to an HTTP status, the CLI to
an exit status. Nothing else in the program maps errors.
"""

from __future__ import annotations


class SealwrightError(Exception):
    """Base of every expected failure.

    Args:
        message: one sentence: what is wrong, naming the value at fault.
        advice: what the reader can do next; empty where the message already says it.
        where: member path (``outer.zip!/inner/app.exe``) or ``line 4, column 9``; empty if none.
    """

    code = "error"

    def __init__(self, message: str, *, advice: str = "", where: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice
        self.where = where

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f" {self.advice}" if self.advice else ""
        return f"{place}{self.message}{hint}"


class ConfigurationError(SealwrightError):
    """The server's own settings are missing or contradictory."""

    code = "server_configuration"


class NotFoundError(SealwrightError):
    """The thing does not exist in the caller's organization, or the caller may not know of it."""

    code = "not_found"


class UnauthenticatedError(SealwrightError):
    """No credential, or one that is unknown, expired or revoked."""

    code = "unauthenticated"


class ForbiddenError(SealwrightError):
    """The caller is known, may see the thing, and may not do this to it."""

    code = "forbidden"


class PreconditionFailedError(SealwrightError):
    """The thing is not in the version that the caller has seen any more."""

    code = "precondition_failed"


class InvalidInputError(SealwrightError):
    """The request is malformed; repeating it unchanged cannot succeed."""

    code = "invalid_input"


class GoneError(SealwrightError):
    """It was there, and was removed on purpose."""

    code = "gone"


class ConflictError(SealwrightError):
    """The thing is in a state that does not allow this, or was changed by somebody else."""

    code = "conflict"


class IdempotencyConflictError(ConflictError):
    """An ``Idempotency-Key`` came back with a different request."""

    code = "idempotency_key_reused"


class TooLargeError(SealwrightError):
    """An upload or artifact exceeds a limit."""

    code = "too_large"


class TooManyRequestsError(SealwrightError):
    """A rate limit or quota is exhausted for now."""

    code = "too_many_requests"


class PolicyViolationError(SealwrightError):
    """The signing policy refuses the request."""

    code = "policy_violation"


class PasskeyRequiredError(PolicyViolationError):
    """The signing policy counts only what a passkey has signed; `advice` names the page for it."""

    code = "passkey_required"


class OriginError(SealwrightError):
    """The origin could not be verified, or is not what the policy allows."""

    code = "origin_not_verified"


class ArtifactConfigurationError(SealwrightError):
    """The artifact configuration (XML) is invalid; `where` names line and column."""

    code = "artifact_configuration_invalid"


class ArtifactError(SealwrightError):
    """The artifact is malformed, hostile or does not fit its configuration; `where` is a member."""

    code = "artifact_invalid"


class ClosedMemberError(ArtifactError):
    """A member that is kept as it is cannot be read: a link, encrypted, compressed otherwise, or
    outside of the file."""


class VerificationError(SealwrightError):
    """A signature, digest, time stamp or comparison did not verify."""

    code = "verification_failed"


class TimestampError(SealwrightError):
    """No time stamp authority gave an acceptable token."""

    code = "timestamp_unavailable"


class KeyStoreError(SealwrightError):
    """The token refused, is missing, or lost its session."""

    code = "key_store"


class SignerRefusedError(SealwrightError):
    """The signer read the record for itself and did not find the request permitted."""

    code = "signer_refused"


class EndorsementAwaitedError(SignerRefusedError):
    """The same, for want of an endorsement that can still be given: the request waits for it."""

    code = "endorsement_awaited"


class UnavailableError(SealwrightError):
    """A part (database, queue, store, signer, time stamp authority) is away; retrying may help."""

    code = "unavailable"


class InternalError(SealwrightError):
    """A promise of the program itself is broken. Never shown in detail to a client."""

    code = "internal"
