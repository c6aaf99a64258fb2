"""A format of four lines for tests of the engine: ``TOY1``, content, and signatures in text form.

Its "signature" is a hash over certificate and digest, so that tests need no keys: `answer` is the
token. ``toy-box-file`` is a ZIP archive that can itself be signed, by a member.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from typing import BinaryIO

from sealwright.errors import ArtifactError, VerificationError
from sealwright.model.mechanism import Mechanism
from sealwright.signing.artifact import (
    Directive,
    Identity,
    Outcome,
    SignatureFact,
    SignatureRequest,
    SignatureResult,
    SignGenerator,
    TimestampForm,
)
from sealwright.signing.containers import CONTAINERS, ContainerType
from sealwright.signing.containers.zip import ZipContainer, is_zip
from sealwright.signing.elements import Language
from sealwright.signing.file_result import FileDigest
from sealwright.signing.pending_signatures import PendingSignature
from tests.rebuilding import rebuild

MAGIC = b"TOY1"
MARK = b"\n--signature--\n"
IDENTITY = Identity(b"toy certificate")
BOX_SIGNATURE = "META-INF/BOX.SIG"


def toy(body: bytes = b"body") -> bytes:
    """An unsigned toy file."""
    return MAGIC + body


def answer(request: SignatureRequest, certificate: bytes = IDENTITY.certificate) -> SignatureResult:
    """What a token and a time stamp authority would give."""
    signature = hashlib.sha256(certificate + request.digest).digest()
    token = None if request.timestamp is TimestampForm.NONE else b"12345"
    return SignatureResult(signature, token)


def answers(batch: Sequence[PendingSignature]) -> list[SignatureResult]:
    """Answers to a batch."""
    return [answer(pending.request) for pending in batch]


def _entry(
    identity: Identity, algorithm: str, result: SignatureResult, time: int
) -> dict[str, object]:
    return {
        "signer": identity.certificate.hex(),
        "hash": algorithm,
        "value": result.signature.hex(),
        "timestamp": int(result.timestamp_token) if result.timestamp_token else None,
        "time": time,
    }


def _fact(entry: Mapping[str, object], digest: bytes, index: int) -> SignatureFact:
    signer = bytes.fromhex(str(entry["signer"]))
    if hashlib.sha256(signer + digest).hexdigest() != entry["value"]:
        message = "The toy signature does not verify."
        raise VerificationError(message)
    stamp = entry["timestamp"]
    assert stamp is None or isinstance(stamp, int)
    return SignatureFact("toy", str(entry["hash"]), signer, timestamp=stamp, index=index)


class ToyFormat:
    """``toy-file``."""

    name = "toy-file"

    def recognize(self, file: BinaryIO) -> bool:
        file.seek(0)
        return file.read(4) == MAGIC

    def directives(self) -> Mapping[str, Mapping[str, tuple[str, ...] | None]]:
        hashes = ("sha256", "sha384", "sha512")
        return {
            "toy-sign": {
                "hash-algorithm": hashes,
                "append": ("false", "true"),
                "note": None,
                "rounds": ("1", "2", "3"),
            },
            "toy-verify": {},
            "create-toy-signature": {"output-file-name": None, "hash-algorithm": hashes},
        }

    def metadata(self, file: BinaryIO) -> Mapping[str, str]:
        return {}

    def content_digest(self, file: BinaryIO) -> bytes:
        return hashlib.sha256(_split(file)[0]).digest()

    def sign(
        self, source: BinaryIO, directive: Directive, identity: Identity, target: BinaryIO
    ) -> SignGenerator:
        body, entries = _split(source)
        algorithm = directive.options.get("hash-algorithm", "sha256")
        digest = hashlib.new(algorithm, body).digest()
        form = TimestampForm(directive.options["timestamp"])
        request = SignatureRequest(digest, algorithm, Mechanism.ECDSA, form)
        if directive.name == "create-toy-signature":
            source.seek(0)
            whole = hashlib.new(algorithm, source.read()).digest()
            (result,) = yield [SignatureRequest(whole, algorithm, Mechanism.ECDSA, form)]
            made = json.dumps(_entry(identity, algorithm, result, identity.signing_time))
            return Outcome(
                "toy, detached", {directive.options["output-file-name"]: made.encode()}, False
            )
        if directive.options["append"] != "true":
            entries = []
        rounds = int(directive.options["rounds"])
        for _ in range(rounds):
            result, *_rest = yield [request] * rounds
        entries = [*entries, _entry(identity, algorithm, result, identity.signing_time)]
        target.write(body + MARK + json.dumps(entries).encode())
        return Outcome("toy, " + algorithm)

    def verify(self, file: BinaryIO) -> list[SignatureFact]:
        body, entries = _split(file)
        return [
            _fact(entry, hashlib.new(str(entry["hash"]), body).digest(), index)
            for index, entry in enumerate(entries)
        ]

    def verify_detached(
        self, file: BinaryIO, directive: Directive, output: bytes, certificate: bytes
    ) -> list[SignatureFact]:
        file.seek(0)
        entry = json.loads(output)
        return [_fact(entry, hashlib.new(entry["hash"], file.read()).digest(), 0)]


class ToyBoxFormat:
    """``toy-box-file``: an archive with a signature over its bytes before signing."""

    name = "toy-box-file"

    def recognize(self, file: BinaryIO) -> bool:
        return is_zip(file)

    def directives(self) -> Mapping[str, Mapping[str, tuple[str, ...] | None]]:
        return {"box-sign": {"hash-algorithm": ("sha256",)}}

    def metadata(self, file: BinaryIO) -> Mapping[str, str]:
        return {}

    def content_digest(self, file: BinaryIO) -> bytes:
        return hashlib.sha256(_box_content(file)).digest()

    def member_role(self, path: str) -> str:
        return f"toy {path}"

    def is_signature_member(self, path: str) -> bool:
        return path == BOX_SIGNATURE

    def kept_attributes(self, file: BinaryIO) -> bytes:
        return b""

    def sign(
        self, source: BinaryIO, directive: Directive, identity: Identity, target: BinaryIO
    ) -> SignGenerator:
        digest = self.content_digest(source)
        form = TimestampForm(directive.options["timestamp"])
        (result,) = yield [SignatureRequest(digest, "sha256", Mechanism.ECDSA, form)]
        made = json.dumps(_entry(identity, "sha256", result, identity.signing_time)).encode()
        container = ZipContainer(source, 1000)
        rebuild(container, target, added={BOX_SIGNATURE: made})
        return Outcome("box signed")

    def verify(self, file: BinaryIO) -> list[SignatureFact]:
        with zipfile.ZipFile(file) as archive:
            if BOX_SIGNATURE not in archive.namelist():
                return []
            entry = json.loads(archive.read(BOX_SIGNATURE))
        return [_fact(entry, self.content_digest(file), 0)]


def _split(file: BinaryIO) -> tuple[bytes, list[Mapping[str, object]]]:
    file.seek(0)
    content = file.read()
    if not content.startswith(MAGIC):
        message = "Not a toy."
        raise ArtifactError(message)
    body, mark, tail = content.partition(MARK)
    return body, json.loads(tail) if mark else []


def _box_content(file: BinaryIO) -> bytes:
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name != BOX_SIGNATURE]
        return b"".join(name.encode() + archive.read(name) for name in names)


BOX = ContainerType("toy-box-file", is_zip, ZipContainer)
LANGUAGE = Language((ToyFormat(), ToyBoxFormat()), (*CONTAINERS, BOX))


def file_digest(content: bytes) -> FileDigest:
    """What tells this content from others."""
    return FileDigest(hashlib.sha256(content).hexdigest(), len(content))


def configuration(body: str, parameters: str = "") -> bytes:
    """An artifact configuration around these elements."""
    return (
        '<artifact-configuration xmlns="http://signpath.io/artifact-configuration/v1">'
        f"{parameters}{body}</artifact-configuration>"
    ).encode()


def archive(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP archive with a fixed time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as target:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, (2024, 5, 6, 7, 8, 10))
            info.compress_type = method
            info.external_attr = 0o100755 << 16
            target.writestr(info, content)
    return buffer.getvalue()
