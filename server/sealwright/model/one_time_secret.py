"""What may be used once: invitations, password resets, challenges, states of single sign-on."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class Purpose(enum.StrEnum):
    """What a secret is for. One for another purpose is as good as none."""

    INVITATION = "invitation"
    PASSWORD_RESET = "password-reset"  # noqa: S105 (a name)
    PASSKEY_REGISTRATION = "passkey-registration"
    PASSKEY_LOG_IN = "passkey-log-in"
    SINGLE_SIGN_ON = "single-sign-on"
    LOGOUT_TOKEN = "logout-token"  # noqa: S105 (a name)
    SETUP = "setup"


@dataclass(frozen=True)
class OneTimeSecret:
    """Only the SHA-256 (hex) of its text is kept. `data` is what belongs to it: no secrets."""

    sha256: str
    purpose: Purpose
    user_id: str | None
    data: Mapping[str, Any]
    expires_at: dt.datetime
    created_at: dt.datetime
