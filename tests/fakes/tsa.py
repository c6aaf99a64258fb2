"""A time stamp authority on 127.0.0.1 that can be told to misbehave.

The honest replies are those of `sealwright.signing.embedded_tsa`; the lies are made with the same
means, one deviation each. `LIES` names them all; each must be refused by the client.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests import keys

from sealwright.signing import algorithms, cms, cms_writing, der, embedded_tsa, timestamps
from sealwright.signing.artifact import Identity, SignatureResult

GRANTED = der.sequence(der.integer(0))


@dataclass(frozen=True)
class Reply:
    """An HTTP reply."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drip: float = 0.0  # seconds before each byte
    cut: bool = False  # close the connection without an answer


@dataclass(frozen=True)
class Asked:
    """The interesting parts of a TimeStampReq."""

    encoding: bytes
    hash_algorithm: str
    imprint: bytes
    nonce: int

    @classmethod
    def parse(cls, encoding: bytes) -> Asked:
        reader = der.single(encoding).children()
        reader.take(der.INTEGER)
        imprint = reader.take(der.SEQUENCE).children()
        hash_algorithm = algorithms.read_digest_algorithm(imprint.take(der.SEQUENCE))
        hashed = imprint.take(der.OCTET_STRING).content
        reader.maybe(der.OBJECT_IDENTIFIER)
        nonce = der.read_integer(reader.take(der.INTEGER))
        return cls(encoding, hash_algorithm, hashed, nonce)


@dataclass(frozen=True)
class Forgery:
    """Everything that goes into a token, honest unless replaced."""

    issued: keys.Issued
    chain: tuple[bytes, ...]
    imprint: bytes
    imprint_algorithm: str
    nonce: int | None
    time: int
    hash_algorithm: str = "sha256"
    policy: str = embedded_tsa.POLICY
    version: int = 1
    content_type: str = timestamps.TST_INFO
    profile: cms_writing.Profile = cms_writing.RFC5652
    attributes: tuple[bytes, ...] = ()
    carries_certificates: bool = True
    after_info: bytes = b""

    def token(self) -> bytes:
        info = der.sequence(
            der.integer(self.version),
            der.object_identifier(self.policy),
            der.sequence(
                algorithms.digest_algorithm(self.imprint_algorithm, der.null()),
                der.octet_string(self.imprint),
            ),
            der.integer(4711),
            der.generalized_time(self.time),
            der.integer(self.nonce) if self.nonce is not None else b"",
        )
        value = der.octet_string(info + self.after_info)
        prepared = cms_writing.prepare(
            cms_writing.Content.embedded(self.content_type, value, self.hash_algorithm),
            self.hash_algorithm,
            Identity(self.issued.der, self.chain, self.time),
            profile=self.profile,
            attributes=self.attributes,
            carries_certificates=self.carries_certificates,
        )
        signature = keys.answer(prepared.request, self.issued.key)
        return prepared.finish(SignatureResult(signature))

    def response(self) -> bytes:
        return der.sequence(GRANTED, self.token())


def honest(asked: Asked) -> Reply:
    """The reply of the embedded authority."""
    trusted = keys.pki()
    body = embedded_tsa.respond(
        asked.encoding,
        trusted.tsa.key,
        trusted.tsa.der,
        (trusted.tsa_issuer.der,),
        now=int(time.time()),
        serial=4711,
    )
    return Reply(body)


def forgery(asked: Asked) -> Forgery:
    """An honest token, to be spoilt."""
    trusted = keys.pki()
    return Forgery(
        issued=trusted.tsa,
        chain=(trusted.tsa_issuer.der,),
        imprint=asked.imprint,
        imprint_algorithm=asked.hash_algorithm,
        nonce=asked.nonce,
        time=int(time.time()),
    )


@cache
def _tsa(variant: str) -> keys.Issued:
    """Certificates that no honest authority has; cached, since keys take time to make."""
    trusted = keys.pki()
    now = datetime.now(UTC)
    stamping = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
    both = x509.ExtendedKeyUsage(
        [ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.CODE_SIGNING]
    )
    extensions: dict[str, list[keys.Extension]] = {
        "wrong-purpose": [(keys.CODE_SIGNING, True)],
        "purpose-not-critical": [(stamping, False)],
        "two-purposes": [(both, True)],
        "no-purpose": [],
    }
    begin, end = {
        "expired": (now - timedelta(days=9), now - timedelta(hours=1)),
        "not-yet-valid": (now + timedelta(hours=1), now + timedelta(days=9)),
    }.get(variant, (None, None))
    if variant == "foreign":
        issuer: keys.Issued | None = keys.issue(
            "Foreign root", keys.new_key("p256"), None, authority=True
        )
    elif variant == "below-a-leaf":
        issuer = trusted.tsa
    else:
        issuer = None if variant == "self-signed" else trusted.tsa_issuer
    key = keys.new_key("rsa-1024" if variant == "short-key" else "p256")
    return keys.issue(
        f"TSA {variant}",
        key,
        issuer,
        extensions=extensions.get(variant, [(stamping, True)]),
        begin=begin,
        end=end,
    )


def _with(**changes: object) -> Callable[[Asked], Reply]:
    return lambda asked: Reply(replace(forgery(asked), **changes).response())  # type: ignore[arg-type]


def _certified(variant: str) -> Callable[[Asked], Reply]:
    def lie(asked: Asked) -> Reply:
        spoilt = forgery(asked)
        return Reply(replace(spoilt, issued=_tsa(variant)).response())

    return lie


def _below_a_leaf(asked: Asked) -> Reply:
    trusted = keys.pki()
    chain = (trusted.tsa.der, trusted.tsa_issuer.der)
    return Reply(replace(forgery(asked), issued=_tsa("below-a-leaf"), chain=chain).response())


def _off_by(seconds: int) -> Callable[[Asked], Reply]:
    def lie(asked: Asked) -> Reply:
        return Reply(replace(forgery(asked), time=int(time.time()) + seconds).response())

    return lie


def _changed(change: Callable[[bytes], bytes]) -> Callable[[Asked], Reply]:
    return lambda asked: Reply(change(forgery(asked).response()))


def _flip_last(data: bytes) -> bytes:
    return data[:-1] + bytes((data[-1] ^ 1,))


def _expired_in_its_time(asked: Asked) -> Reply:
    then = int(time.time()) - 2 * 3600
    return Reply(replace(forgery(asked), issued=_tsa("expired"), time=then).response())


def _other_algorithm(asked: Asked) -> Reply:
    other = "sha512" if asked.hash_algorithm != "sha512" else "sha256"
    digest = algorithms.digest(other, b"something else")
    return Reply(replace(forgery(asked), imprint=digest, imprint_algorithm=other).response())


def _sha1_imprint(asked: Asked) -> Reply:
    digest = algorithms.digest("sha1", b"something else")
    return Reply(replace(forgery(asked), imprint=digest, imprint_algorithm="sha1").response())


def _changed_content(asked: Asked) -> Reply:
    """A token over another imprint, into which the right one was written after it was signed."""
    wrong = bytes(len(asked.imprint))
    return Reply(replace(forgery(asked), imprint=wrong).response().replace(wrong, asked.imprint))


def _other_certificate_named(asked: Asked) -> Reply:
    other = keys.pki().tsa_issuer.certificate
    cert_id = der.sequence(der.octet_string(other.fingerprint(keys.HASHES["sha256"])))
    value = der.sequence(der.sequence(cert_id))
    return Reply(
        replace(
            forgery(asked),
            profile=replace(cms_writing.RFC5652, names_signing_certificate=False),
            attributes=(cms.attribute(cms.SIGNING_CERTIFICATE_V2, value),),
        ).response()
    )


def _rejected(status: int, *, with_token: bool = False) -> Callable[[Asked], Reply]:
    def lie(asked: Asked) -> Reply:
        info = der.sequence(
            der.integer(status), der.sequence(der.encode(der.UTF8_STRING, b"not today"))
        )
        return Reply(der.sequence(info, forgery(asked).token() if with_token else b""))

    return lie


def _replayed(asked: Asked) -> Reply:
    """A perfect token for the same signature, from an earlier request."""
    return Reply(replace(forgery(asked), nonce=asked.nonce ^ 0xFF00).response())


#: Name -> reply that must never be accepted.
LIES: dict[str, Callable[[Asked], Reply]] = {
    "other nonce (replay)": _replayed,
    "no nonce": _with(nonce=None),
    "other imprint": _with(imprint=bytes(32)),
    "other hash algorithm": _other_algorithm,
    "SHA-1 imprint": _sha1_imprint,
    "signed with SHA-1": _with(hash_algorithm="sha1"),
    "certificate expired": _certified("expired"),
    "certificate expired, back-dated": _expired_in_its_time,
    "certificate not yet valid": _certified("not-yet-valid"),
    "certificate for code signing": _certified("wrong-purpose"),
    "certificate without purpose": _certified("no-purpose"),
    "purpose not critical": _certified("purpose-not-critical"),
    "two purposes": _certified("two-purposes"),
    "foreign root": _certified("foreign"),
    "self-signed": _certified("self-signed"),
    "issued by a leaf": _below_a_leaf,
    "RSA-1024": _certified("short-key"),
    "issuer missing": _with(chain=()),
    "certificates missing": _with(carries_certificates=False),
    "other certificate named": _other_certificate_named,
    "no certificate named": _with(
        profile=replace(cms_writing.RFC5652, names_signing_certificate=False)
    ),
    "an hour slow": _off_by(-3600),
    "an hour fast": _off_by(3600),
    "signature broken": _changed(_flip_last),
    "content changed": _changed_content,
    "TSTInfo version 2": _with(version=2),
    "not a TSTInfo": _with(content_type=cms.DATA),
    "data after TSTInfo": _with(after_info=b"\x05\x00"),
    "rejected": _rejected(2),
    "waiting": _rejected(3),
    "rejected with a token": _rejected(2, with_token=True),
    "granted without a token": lambda _: Reply(der.sequence(GRANTED)),
    "empty": lambda _: Reply(b""),
    "garbage": lambda _: Reply(b"<html>Welcome to the captive portal</html>"),
    "truncated": _changed(lambda body: body[: len(body) // 2]),
    "trailing data": _changed(lambda body: body + b"\0"),
    "indefinite length": _changed(lambda body: b"\x30\x80" + der.single(body).content + b"\0\0"),
    "huge": lambda _: Reply(b"\x30\x84\x10\x00\x00\x00" + bytes(1 << 20)),
    "HTTP 500": lambda _: Reply(b"broken", status=500),
    "HTTP 404 with a token": lambda asked: Reply(forgery(asked).response(), status=404),
    "redirect": lambda _: Reply(status=302, headers={"Location": "/honest"}),
    "slow": lambda asked: replace(honest(asked), delay=1.5),
    "dripping": lambda asked: replace(honest(asked), drip=0.02),
    "connection cut": lambda _: Reply(cut=True),
}


class ScriptedTsa:
    """The server; `behaviour` decides each reply."""

    def __init__(self, behaviour: Callable[[Asked], Reply] = honest) -> None:
        self.behaviour = behaviour
        self.requests = 0
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with scripted._counted(), contextlib.suppress(OSError):
                    scripted._answer(self, body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def authority(self, name: str = "fake", timeout: float = 10) -> timestamps.TimestampAuthority:
        """Configuration that trusts this authority's root."""
        return timestamps.TimestampAuthority(
            name, self.url, (keys.pki().tsa_root.der,), timeout=timeout
        )

    def __enter__(self) -> ScriptedTsa:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self.requests += 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    def _answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        asked = Asked.parse(body)
        reply = honest(asked) if handler.path == "/honest" else self.behaviour(asked)
        time.sleep(reply.delay)
        if reply.cut:
            handler.close_connection = True
            return
        handler.send_response(reply.status)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Type", "application/timestamp-reply")
        handler.send_header("Content-Length", str(len(reply.body)))
        handler.end_headers()
        if not reply.drip:
            handler.wfile.write(reply.body)
            return
        for position in range(len(reply.body)):
            time.sleep(reply.drip)
            handler.wfile.write(reply.body[position : position + 1])
