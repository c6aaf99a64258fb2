"""Single sign-on: OpenID Connect's authorization code flow with PKCE, as the relying party.

Sources: OpenID Connect Core 1.0, 3.1; Discovery 1.0, 4; RP-Initiated Logout 1.0; Back-Channel
Logout 1.0; RFC 7636 (PKCE, S256 alone); RFC 9700 (best practices). Tokens have an asymmetric
signature of the kind that the issuer's key is for; the algorithm is never the token's to choose
(RFC 8725, 3.1). Blocking: enter it from a thread.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import jwt

from sealwright.connectors.blocking import BlockingClient
from sealwright.connectors.connector import RemoteError
from sealwright.connectors.oidc import ALGORITHMS, IssuerKeys
from sealwright.errors import UnauthenticatedError

_MAX_DOCUMENT = 256 * 1024
_MAX_TOKEN = 32 * 1024
_LEEWAY = 60.0
_MAX_GROUPS = 200
_MAX_TEXT = 200
_LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
_LOGOUT_AGE = 600.0  #: seconds; as long as its use is remembered
_REQUIRED_OF_LOGOUT = ("iss", "aud", "exp", "iat", "jti", "events")
_REQUIRED = ("iss", "sub", "aud", "exp", "iat", "nonce")


@dataclass(frozen=True)
class SignedOn:
    """Who the issuer says somebody is.

    Attributes:
        subject: never reassigned by the issuer; what a user is bound to.
        email: lower-case; empty where the issuer says none, or says that it is not verified.
        groups: values of the group claim.
        sid: what the issuer calls its own session; empty where it does not say.
        id_token: the token that said all this.
    """

    subject: str
    email: str
    name: str
    groups: frozenset[str]
    sid: str = ""
    id_token: str = ""


@dataclass(frozen=True)
class LoggedOut:
    """What an issuer says has ended: sessions of a subject, or the one that it calls `sid`. One of
    the two may be empty. `token_id` is never used twice."""

    subject: str
    sid: str
    token_id: str


@dataclass(frozen=True)
class Ceremony:
    """The secrets of one log-in, all made from its state: nothing else has to be kept for it."""

    state: str

    @property
    def nonce(self) -> str:
        """Binds the ID token to this log-in."""
        return self._derived(b"nonce")

    @property
    def verifier(self) -> str:
        """The PKCE code verifier."""
        return self._derived(b"verifier")

    @property
    def challenge(self) -> str:
        """The PKCE code challenge, S256."""
        return _text(hashlib.sha256(self.verifier.encode()).digest())

    def _derived(self, purpose: bytes) -> str:
        return _text(hashlib.sha256(b"sealwright " + purpose + b" " + self.state.encode()).digest())


class SignOnClient:
    """One issuer, for one client id."""

    def __init__(
        self,
        issuer: str,
        client_id: str,
        client_secret: str,
        redirect_url: str,
        http: BlockingClient,
    ) -> None:
        """
        Args:
            client_secret: empty for a public client.
        """
        self._issuer = issuer
        self._client_id = client_id
        self._client_secret = client_secret
        self._redirect_url = redirect_url
        self._http = http
        # Google and others publish their keys on another host than the issuer's
        self._keys = IssuerKeys(issuer, http, own_host=False, algorithms=ALGORITHMS)

    def authorization_url(self, ceremony: Ceremony) -> str:
        """Where to send the browser.

        Raises:
            RemoteError: the issuer's discovery document cannot be had, or is not usable.
        """
        address = self._endpoint("authorization_endpoint")
        query = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": self._redirect_url,
            "scope": "openid email profile",
            "state": ceremony.state,
            "nonce": ceremony.nonce,
            "code_challenge": ceremony.challenge,
            "code_challenge_method": "S256",
        }
        joint = "&" if urlsplit(address).query else "?"
        return f"{address}{joint}{urlencode(query)}"

    def redeem(self, code: str, ceremony: Ceremony, group_claim: str) -> SignedOn:
        """Trade the code for an ID token, and verify it.

        Raises:
            UnauthenticatedError: the issuer refuses the code, or the token is not valid.
            RemoteError: the issuer is away or answers nothing usable.
        """
        return self._verified(self._id_token(code, ceremony), ceremony, group_claim)

    def logout_url(self, id_token: str, following: str) -> str | None:
        """Where to send the browser to end the issuer's session as well (RP-Initiated Logout 1.0,
        2); None: the issuer has no such place.

        Args:
            following: where the issuer sends the browser then, as registered with it.

        Raises:
            RemoteError: as `authorization_url`.
        """
        if "end_session_endpoint" not in self._discovered():
            return None
        address = self._endpoint("end_session_endpoint")
        query = {
            "id_token_hint": id_token,
            "client_id": self._client_id,
            "post_logout_redirect_uri": following,
        }
        joint = "&" if urlsplit(address).query else "?"
        return f"{address}{joint}{urlencode(query)}"

    def logged_out(self, token: str) -> LoggedOut:
        """Verify a logout token (Back-Channel Logout 1.0, 2.6).

        Raises:
            UnauthenticatedError: it is not valid.
            RemoteError: the issuer is away or publishes nothing usable.
        """
        claims = self._claims(token, _REQUIRED_OF_LOGOUT)
        kind = str(jwt.get_unverified_header(token).get("typ", "logout+jwt")).lower()
        if kind.removeprefix("application/") not in {"logout+jwt", "jwt"} or "nonce" in claims:
            raise _refusal("it is no logout token")  # noqa: EM101
        events = claims["events"]
        if not isinstance(events, dict) or not isinstance(events.get(_LOGOUT_EVENT), dict):
            raise _refusal("it tells of no log-out")  # noqa: EM101
        if float(claims["iat"]) < time.time() - _LOGOUT_AGE:
            raise _refusal("it is too old")  # noqa: EM101
        subject, sid, token_id = (claims.get(name, "") for name in ("sub", "sid", "jti"))
        texts = all(isinstance(one, str) and len(one) <= 255 for one in (subject, sid, token_id))
        if not texts or not (subject or sid) or not token_id:
            raise _refusal("it does not say whose sessions have ended")  # noqa: EM101
        return LoggedOut(subject, sid, token_id)

    def _id_token(self, code: str, ceremony: Ceremony) -> str:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_url,
            "code_verifier": ceremony.verifier,
        }
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        if not self._client_secret:
            form |= {"client_id": self._client_id}  # a public client: PKCE is its proof
        elif self._takes_basic():
            pair = f"{quote(self._client_id, safe='')}:{quote(self._client_secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": self._client_id, "client_secret": self._client_secret}
        answer = self._http.send(
            "POST",
            self._endpoint("token_endpoint"),
            headers=headers,
            content=urlencode(form).encode(),
            limit=_MAX_DOCUMENT,
        )
        if answer.status in {400, 401, 403}:
            message = "The identity provider does not accept the log-in."
            raise UnauthenticatedError(message, advice="Begin anew.")
        document = _json(answer.status, answer.body, self._issuer)
        token = document.get("id_token")
        if not isinstance(token, str) or len(token) > _MAX_TOKEN:
            message = "The identity provider gave no ID token."
            raise RemoteError(message, where=self._issuer)
        return token

    def _verified(self, token: str, ceremony: Ceremony, group_claim: str) -> SignedOn:
        claims = self._claims(token, _REQUIRED)
        return _signed_on(claims, ceremony, self._client_id, group_claim, token)

    def _claims(self, token: str, required: tuple[str, ...]) -> dict[str, Any]:
        """Those of a token of the issuer's for this client."""
        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.find(str(header.get("kid", "")))
            if header.get("alg") not in key.algorithms or "crit" in header:
                raise _refusal("its signature is of another kind than the key")  # noqa: EM101
            claims: dict[str, Any] = jwt.decode(
                token,
                key=key.key,
                algorithms=sorted(key.algorithms),
                issuer=self._issuer,
                audience=self._client_id,
                leeway=_LEEWAY,
                options={"require": list(required)},
            )
        except jwt.InvalidTokenError as error:
            raise _refusal(type(error).__name__) from None
        return claims

    def _takes_basic(self) -> bool:
        methods = self._discovered().get("token_endpoint_auth_methods_supported")
        return not isinstance(methods, list) or "client_secret_basic" in methods

    def _endpoint(self, name: str) -> str:
        address = self._discovered().get(name)
        if not isinstance(address, str) or not urlsplit(address).hostname:
            message = f"The identity provider names no {name}."
            raise RemoteError(message, where=self._issuer)
        if urlsplit(self._issuer).scheme == "https" and urlsplit(address).scheme != "https":
            message = f"The identity provider's {name} is without TLS."
            raise RemoteError(message, where=self._issuer)
        return address

    def _discovered(self) -> Mapping[str, Any]:
        return self._keys.discovery()


def _signed_on(
    claims: Mapping[str, Any], ceremony: Ceremony, client_id: str, group_claim: str, token: str
) -> SignedOn:
    if claims["nonce"] != ceremony.nonce:
        raise _refusal("it belongs to another log-in")  # noqa: EM101
    audience = claims["aud"]
    several = isinstance(audience, list) and len(audience) > 1
    if (several and "azp" not in claims) or claims.get("azp", client_id) != client_id:
        raise _refusal("it was made for another client")  # noqa: EM101
    subject = claims["sub"]
    if not isinstance(subject, str) or not 0 < len(subject) <= 255:
        raise _refusal("it has no usable subject")  # noqa: EM101
    sid = claims.get("sid", "")
    if not isinstance(sid, str) or len(sid) > 255:
        raise _refusal("it has no usable session id")  # noqa: EM101
    groups = _groups(claims.get(group_claim))
    return SignedOn(subject, _email(claims), _name(claims), groups, sid, token)


def _email(claims: Mapping[str, Any]) -> str:
    email = claims.get("email")
    # where the issuer says nothing of its verification, the domains that it may speak for decide
    if not isinstance(email, str) or len(email) > 320 or email.count("@") != 1:
        return ""
    return "" if claims.get("email_verified", True) not in (True, "true") else email.lower()


def _name(claims: Mapping[str, Any]) -> str:
    name = claims.get("name") or claims.get("preferred_username") or ""
    return "".join(filter(str.isprintable, str(name)))[:_MAX_TEXT].strip()


def _groups(claim: object) -> frozenset[str]:
    if not isinstance(claim, list):
        return frozenset()
    names = (one for one in claim if isinstance(one, str) and 0 < len(one) <= _MAX_TEXT)
    return frozenset([name for name in names if name.isprintable()][:_MAX_GROUPS])


def _json(status: int, body: bytes, where: str) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if status != 200 or not isinstance(document, dict):
        message = f"The identity provider answered {status}, and nothing usable."
        raise RemoteError(message, where=where)
    return document


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _refusal(reason: str) -> UnauthenticatedError:
    message = f"The identity provider's token is not accepted: {reason}."
    return UnauthenticatedError(message, advice="Begin the log-in anew.")
