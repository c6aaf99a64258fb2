"""An identity provider with a real authorization code flow: everything that a client has to prove
is checked, and its answers can be wrong.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

import jwt
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from tests.fakes.oidc import FakeIssuer, encode

CLIENT_ID, CLIENT_SECRET = "sealwright", "s3cret & more"


@dataclass
class IdentityProvider:
    """Logs everybody in as `person`. `changes` are claims that the next token has instead (None:
    lacks); `header` and `key` as in `FakeIssuer.token`."""

    issuer: FakeIssuer = field(default_factory=FakeIssuer)
    person: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)
    key: Any = None
    refused: list[str] = field(default_factory=list)
    redirect_url: str = ""
    logout_url: str = ""
    public: bool = False
    logged_out: list[dict[str, str]] = field(default_factory=list)
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def at(self, url: str) -> None:
        """Tell it where it is."""
        self.issuer.url = url
        document = {
            "issuer": url,
            "authorization_endpoint": f"{url}/authorize",
            "token_endpoint": f"{url}/token",
            "end_session_endpoint": f"{url}/logout",
            "jwks_uri": f"{url}/.well-known/jwks",
        }
        self.issuer.documents["openid-configuration"] = JSONResponse(document)

    def app(self) -> Starlette:
        routes = [
            *self.issuer.routes(),
            Route("/authorize", self._authorize),
            Route("/token", self._token, methods=["POST"]),
            Route("/logout", self._logout),
        ]
        return Starlette(routes=routes)

    async def _authorize(self, request: Request) -> Response:
        query = dict(request.query_params)
        fine = (
            query.get("response_type") == "code"
            and query.get("client_id") == CLIENT_ID
            and query.get("redirect_uri") == self.redirect_url
            and "openid" in query.get("scope", "").split()
            and query.get("code_challenge_method") == "S256"
            and len(query.get("code_challenge", "")) == 43
            and query.get("nonce")
        )
        if not fine:
            self.refused.append(f"authorize {query}")
            return Response("refused", 400)
        code = secrets.token_urlsafe(16)
        self._codes[code] = query
        answer = urlencode({"code": code, "state": query["state"], "iss": self.issuer.url})
        return RedirectResponse(f"{query['redirect_uri']}?{answer}", 302)

    def _is_client(self, request: Request, form: dict[str, str]) -> bool:
        if self.public:
            sent = "authorization" in request.headers or "client_secret" in form
            return form.get("client_id") == CLIENT_ID and not sent
        scheme, _, pair = request.headers.get("authorization", "").partition(" ")
        name, _, secret = base64.b64decode(pair).decode().partition(":")
        return scheme == "Basic" and (unquote(name), unquote(secret)) == (CLIENT_ID, CLIENT_SECRET)

    async def _logout(self, request: Request) -> Response:
        query = dict(request.query_params)
        hint = jwt.decode(
            query["id_token_hint"], self.issuer.key.public_key(), ["RS256"], audience=CLIENT_ID
        )
        if query["client_id"] != CLIENT_ID or query["post_logout_redirect_uri"] != self.logout_url:
            self.refused.append(f"logout {query}")
            return Response("refused", 400)
        self.logged_out.append(hint)
        return RedirectResponse(query["post_logout_redirect_uri"], 302)

    def logout_token(self, **changes: Any) -> str:
        """A logout token (Back-Channel Logout 1.0, 2.4), with other claims (None: without)."""
        now = int(time.time())
        header = changes.pop("header", {"typ": "logout+jwt"})
        claims = {
            "iss": self.issuer.url, "aud": CLIENT_ID, "iat": now, "exp": now + 120,
            "jti": secrets.token_hex(8), "sub": self.person["sub"],
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        } | changes  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        return self.issuer.token(claims, header=header, key=self.key)

    async def _token(self, request: Request) -> Response:
        form = {
            name: values[0] for name, values in parse_qs((await request.body()).decode()).items()
        }
        asked = self._codes.pop(form.get("code", ""), None)
        fine = (
            asked is not None
            and self._is_client(request, form)
            and form.get("grant_type") == "authorization_code"
            and form.get("redirect_uri") == self.redirect_url
            and encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
            == asked["code_challenge"]
        )
        if not fine or asked is None:
            self.refused.append(f"token {form}")
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = int(time.time())
        claims = {
            "iss": self.issuer.url, "aud": CLIENT_ID, "iat": now, "exp": now + 300,
            "nonce": asked["nonce"],
        } | self.person | self.changes  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        token = self.issuer.token(claims, header=self.header, key=self.key)
        body = {"access_token": "x", "token_type": "Bearer", "id_token": token}
        return JSONResponse(body)
