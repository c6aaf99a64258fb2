"""The wire of an existing signing service's public clients. Translates; decides nothing.

Field names, paths and values are those of that service's documented HTTP API, so that a pipeline
moves by changing one URL. Paths are matched without case.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import JSONResponse, Response

from sealwright.cancel import cancel
from sealwright.db import certificates, projects
from sealwright.errors import ConflictError, InternalError, InvalidInputError, UnavailableError
from sealwright.intake.multipart import FormData
from sealwright.intake.upload import ReceivedFile
from sealwright.model.certificate import Certificate, CertificateKind, current
from sealwright.model.mechanism import Mechanism
from sealwright.model.project import SigningPolicy
from sealwright.model.request import HashToSign, RequestKind, RetrievalLink, SigningRequest, State
from sealwright.storage import ArtifactStore
from sealwright.submit import Content, Submission, Submitted, received, receiving, resubmit
from sealwright.visible import find_request, missing
from sealwright.web import submissions
from sealwright.web.api.v1.signing_requests import (
    check_completed,
    signed_of,
    unsigned_of,
)
from sealwright.web.downloads import artifact_response, attachment
from sealwright.web.routes import Call, Endpoint, Face, checked
from sealwright.web.schemas.signing_requests import RetrievalLinkIn, SubmissionIn
from sealwright.web.waiting import is_final, wait_until

FAST_SECONDS = 50.0  #: less than the minute after which proxies usually give up
MAX_PAYLOAD_BYTES = 64 << 10

#: form field in lower case -> where its value goes in a `SubmissionIn`
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "projectslug": ("project",),
    "projectid": ("project",),
    "signingpolicyslug": ("signing_policy",),
    "signingpolicyid": ("signing_policy",),
    "artifactconfigurationslug": ("artifact_configuration",),
    "artifactconfigurationid": ("artifact_configuration",),
    "description": ("description",),
    "origin.repositorydata.url": ("origin", "repository_url"),
    "origin.repositorydata.branchname": ("origin", "branch"),
    "origin.repositorydata.commitid": ("origin", "commit"),
    "origin.repositorydata.sourcecontrolmanagementtype": ("origin", "source_control"),
    "origin.builddata.url": ("origin", "build_url"),
    "origin.builddata.buildsettingsfile": ("origin", "build_settings_file"),
}
_PARAMETER = re.compile(r"parameters(?:\[([^\[\]]+)\]|\.(.+))", re.IGNORECASE)
_LINK = re.compile(r"artifactretrievallink\.(url|filename|sha256hash)", re.IGNORECASE)
_LINK_HEADER = re.compile(
    r"artifactretrievallink\.httpheaders(?:\[([^\[\]]+)\]|\.(.+))", re.IGNORECASE
)
_LINK_FIELDS = {"url": "url", "filename": "file_name", "sha256hash": "sha256"}
#: taken as a file, too: its name is what is recorded
_NOTED = frozenset({"origin.builddata.buildsettingsfile"})
_OTHER_FIELDS = frozenset({"isfastsigningrequest", "artifact", "originalsigningrequestid"})

STATUSES: Mapping[State, str] = {
    State.WAITING_FOR_APPROVAL: "WaitingForApproval",
    # the existing service has no word of its own for it, and its clients go on asking
    State.WAITING_FOR_ENDORSEMENT: "WaitingForApproval",
    State.COMPLETED: "Completed",
    State.FAILED: "Failed",
    State.DENIED: "Denied",
    State.CANCELED: "Canceled",
}
_FAILURES: Mapping[State | None, str] = {
    State.RETRIEVING_ARTIFACT: "ArtifactRetrievalFailed",
    State.SCANNING_FOR_MALWARE: "MalwareScanFailed",
}
_ALGORITHMS: Mapping[str, str] = {
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
_BY_LENGTH = {32: "sha256", 48: "sha384", 64: "sha512"}


class HashPayload(BaseModel):
    """The document ``payload.json`` of a hash signing request."""

    model_config = ConfigDict(extra="allow", frozen=True)

    SignatureAlgorithm: Literal["RsaPkcs1", "RsaPss", "Ecdsa"]
    RsaHashAlgorithm: str | None = Field(None, max_length=64)
    EcdsaSignatureFormat: Literal["Ieee", "Asn1"] = "Ieee"
    Base64EncodedHash: Base64Bytes = Field(max_length=64)

    def digest(self) -> HashToSign:
        """What is to be signed.

        Raises:
            InvalidInputError: an algorithm that is not signed any more, or unknown.
        """
        value = self.Base64EncodedHash
        if self.SignatureAlgorithm == "Ecdsa":
            name = _BY_LENGTH.get(len(value))
        else:
            name = _ALGORITHMS.get(self.RsaHashAlgorithm or "")
        if name is None:
            message = "The hash is of no algorithm that is signed."
            raise InvalidInputError(message, advice="Use SHA-256, SHA-384 or SHA-512.")
        mechanism = {
            "RsaPkcs1": Mechanism.RSA_PKCS1,
            "RsaPss": Mechanism.RSA_PSS,
            "Ecdsa": Mechanism.ECDSA,
        }[self.SignatureAlgorithm]
        return HashToSign(value, name, mechanism.value)


async def submit(call: Call) -> Response:
    """Submit an artifact, a link to one, or a digest in a ``payload.json``."""
    _check_organization(call)

    async def admit(fields: Mapping[str, str]) -> None:
        if any(name.lower().startswith("signingpolicy") for name in fields):
            await submissions.admit_early(call, _submission(call, fields))
        else:
            await submissions.admit_somewhere(call)

    async with receiving(call.services.store, call.grant.organization_id) as reception:
        form = await submissions.receive_form(call, reception, "Artifact", admit, _NOTED)
        files = {name.lower(): file for name, file in form.files.items()}
        fields = _texts(form) | {name: files[name].file_name for name in _NOTED & files.keys()}
        file = files.get("artifact")
        payload = await _hash_payload(call.services.store, file)
        submission = _submission(call, fields)
        if file:
            digest = payload.digest() if payload else None
            content = Content(received(file), digest=digest)
        else:
            content = Content(link=_link(call, fields))
        submitted = await submissions.hand_over(call, submission, content, reception)
    fast = fields.get("isfastsigningrequest", "").lower() == "true"
    if fast and submitted.request.state is not State.WAITING_FOR_APPROVAL:
        return await _fast_answer(call, submitted.request)
    return _created(call, submitted)


async def submit_again(call: Call) -> Response:
    """Submit the artifact of an earlier request under another policy."""
    _check_organization(call)
    async with receiving(call.services.store, call.grant.organization_id) as reception:
        form = await submissions.receive_form(call, reception, "", _no_file)
    fields = _texts(form)
    submitted = await resubmit(
        call.services.database,
        call.services.queue,
        call.grant,
        fields.get("originalsigningrequestid", ""),
        _submission(call, fields),
    )
    return _created(call, submitted)


async def get(call: Call) -> Response:
    """The state of a request."""
    request = await _find(call)
    origin = request.origin
    link = _url(call, request)
    body: dict[str, Any] = {
        "status": STATUSES.get(request.state, "InProgress"),
        "isFinalStatus": request.state.is_final,
        "workflowStatus": _workflow_status(request),
        "description": request.description,
        "projectId": request.project_id,
        "projectSlug": request.project_slug,
        "projectName": request.project_name,
        "artifactConfigurationId": request.artifact_configuration_id,
        "artifactConfigurationSlug": request.artifact_configuration_slug,
        "artifactConfigurationName": request.artifact_configuration_name,
        "signingPolicyId": request.signing_policy_id,
        "signingPolicySlug": request.signing_policy_slug,
        "signingPolicyName": request.signing_policy_name,
        "unsignedArtifactLink": f"{link}/UnsignedArtifact" if request.input else None,
        "parameters": dict(request.parameters),
    }
    if request.state is State.COMPLETED:
        body["signedArtifactLink"] = f"{link}/SignedArtifact"
    if origin.verified:
        body["origin"] = {
            "buildData": {
                "url": origin.build_url,
                "buildSettingsFile": {"fileName": origin.build_settings_file},
            },
            "repositoryData": {
                "url": origin.repository_url,
                "branchName": origin.branch,
                "commitId": origin.commit,
                "sourceControlManagementType": origin.source_control,
            },
        }
    return JSONResponse(body)


async def signed_artifact(call: Call) -> Response:
    """The signed bytes; of a hash signing request, its document with the signature."""
    request = await _find(call)
    return await _signed(call, request)


async def unsigned_artifact(call: Call) -> Response:
    """The bytes that were submitted."""
    artifact = unsigned_of(await _find(call))
    return await artifact_response(call.request, call.services.store, artifact)


async def my_signing_policies(call: Call) -> Response:
    """Policies that the caller may submit to, with their certificates' keys."""
    _check_organization(call)
    query = {name.lower(): value for name, value in call.request.query_params.items()}
    wanted = (query.get("projectslug"), query.get("signingpolicyslug"))
    async with call.services.database.read(frozen=True) as tx:
        organization = call.grant.organization_id
        slugs = {one.id: one.slug for one in await projects.every(tx, organization)}
        keys = {one.id: one for one in await certificates.every(tx, organization)}
        policies = [
            one
            for one in await projects.policies(tx, organization)
            if call.grant.user.standing & one.submitters
            and call.grant.principal.project_id in (None, one.project_id)
            and _is_usable(current(keys[one.certificate_id], keys))
            and wanted[0] in (None, "", slugs[one.project_id])
            and wanted[1] in (None, "", one.slug)
        ]
    return JSONResponse(
        {
            "signingPolicies": [
                _policy(one, slugs[one.project_id], current(keys[one.certificate_id], keys))
                for one in policies
            ]
        }
    )


def _is_usable(certificate: Certificate) -> bool:
    """Whether these clients, which know X.509 alone, can sign with it."""
    return certificate.kind is CertificateKind.X509 and not certificate.is_pending


def _policy(policy: SigningPolicy, project_slug: str, certificate: Certificate) -> dict[str, Any]:
    key = x509.load_der_x509_certificate(certificate.certificate).public_key()
    body: dict[str, Any] = {
        "signingPolicyId": policy.id,
        "signingPolicySlug": policy.slug,
        "projectSlug": project_slug,
        "certificateBytes": _base64(certificate.certificate),
        "keySizeInBits": certificate.key_type.bits,
    }
    if isinstance(key, RSAPublicKey):
        numbers = key.public_numbers()
        return body | {
            "keyType": "Rsa",
            "rsaParameters": {
                "publicExponent": _base64(_big_endian(numbers.e)),
                "modulus": _base64(_big_endian(numbers.n)),
            },
            "publicKeyBytes": _base64(key.public_bytes(Encoding.DER, PublicFormat.PKCS1)),
        }
    if isinstance(key, EllipticCurvePublicKey):
        point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return body | {"keyType": "Ecdsa", "publicKeyBytes": _base64(point)}
    message = f"The certificate {certificate.id} has a key of an unknown kind."
    raise InternalError(message)


async def _fast_answer(call: Call, request: SigningRequest) -> Response:
    """The signed result in the answer to the submission."""
    done = await wait_until(call, request.id, FAST_SECONDS, is_final)
    if not done.state.is_final:
        services = call.services
        await cancel(services.database, services.queue, call.grant, request.id, "Not fast enough.")
        message = "The request was not signed in time and has been canceled."
        raise UnavailableError(message, advice="Submit it without IsFastSigningRequest.")
    if done.state is not State.COMPLETED:
        message = f"The signing request {done.id} is {done.state.value}: {done.reason}"
        raise ConflictError(message, advice=done.advice)
    return await _signed(call, done)


async def _signed(call: Call, request: SigningRequest) -> Response:
    if request.kind is RequestKind.HASH:
        check_completed(request)
        return await _signed_payload(call, request)
    return await artifact_response(call.request, call.services.store, signed_of(request))


async def _signed_payload(call: Call, request: SigningRequest) -> Response:
    """The submitted document with ``Signature`` added."""
    signature = request.hash.signature if request.hash else None
    if request.input is None or signature is None:
        raise missing(request.id, "signed artifact of")
    text = await _content(call.services.store, request.input.key, request.input.size)
    payload = HashPayload.model_validate_json(text)
    if payload.SignatureAlgorithm == "Ecdsa" and payload.EcdsaSignatureFormat == "Ieee":
        signature = _ieee_p1363(signature, await _key_bits(call, request))
    body = payload.model_dump(mode="json", exclude_unset=True) | {"Signature": _base64(signature)}
    headers = {"Content-Disposition": attachment(request.input.file_name)}
    return JSONResponse(body, headers=headers)


async def _key_bits(call: Call, request: SigningRequest) -> int:
    async with call.services.database.read() as tx:
        found = await certificates.get(tx, request.organization_id, request.certificate_id)
    if found is None:
        raise missing(request.certificate_id, "certificate")
    return found.key_type.bits


def _ieee_p1363(signature: bytes, bits: int) -> bytes:
    """r and s, each as long as the curve's field, instead of their DER sequence."""
    size = (bits + 7) // 8
    return b"".join(number.to_bytes(size) for number in decode_dss_signature(signature))


async def _hash_payload(store: ArtifactStore, file: ReceivedFile | None) -> HashPayload | None:
    """The document of a hash signing request; None where the file is an ordinary artifact."""
    if file is None or file.file_name.lower() != "payload.json":
        return None
    if file.artifact.size > MAX_PAYLOAD_BYTES:
        return None
    text = await _content(store, file.artifact.key, file.artifact.size)
    try:
        return HashPayload.model_validate_json(text)
    except ValidationError:
        return None


async def _content(store: ArtifactStore, key: str, size: int) -> bytes:
    if size > MAX_PAYLOAD_BYTES:
        message = "A hash signing document is too large."
        raise InternalError(message)
    return b"".join([chunk async for chunk in await store.open_range(key)])


async def _no_file(_fields: Mapping[str, str]) -> None:
    message = "A resubmission takes no file."
    raise InvalidInputError(message)


def _texts(form: FormData) -> dict[str, str]:
    """The text fields; names that have a fixed spelling in lower case."""
    return {_folded(name): values[0] for name, values in form.fields.items()}


def _folded(name: str) -> str:
    """Names of parameters and HTTP headers are the user's own."""
    return name if _PARAMETER.fullmatch(name) or _LINK_HEADER.fullmatch(name) else name.lower()


def _submission(call: Call, fields: Mapping[str, str]) -> Submission:
    values: dict[str, Any] = {"parameters": {}, "origin": {}}
    for name, value in fields.items():
        place = _FIELDS.get(name.lower())
        parameter = _PARAMETER.fullmatch(name)
        if parameter:
            values["parameters"][parameter[1] or parameter[2]] = value
        elif place and value:
            target = values[place[0]] if len(place) > 1 else values
            target[place[-1]] = value
        elif not (place or name.lower() in _OTHER_FIELDS or _is_link(name)):
            message = f"The field {name[:100]!r} is unknown."
            raise InvalidInputError(message, advice=f"Known fields: {_names(_FIELDS)}.")
    return submissions.submission_of(call, checked(SubmissionIn, values))


def _link(call: Call, fields: Mapping[str, str]) -> RetrievalLink:
    values: dict[str, Any] = {"headers": {}}
    for name, value in fields.items():
        if match := _LINK.fullmatch(name):
            values[_LINK_FIELDS[match[1].lower()]] = value
        elif match := _LINK_HEADER.fullmatch(name):
            values["headers"][match[1] or match[2]] = value
    if "url" not in values:
        message = "The form has neither an Artifact nor an ArtifactRetrievalLink.Url."
        raise InvalidInputError(message, advice="Send the file in the field Artifact.")
    given = checked(RetrievalLinkIn, values)
    submissions.check_link(call, given.url)
    return RetrievalLink(given.url, given.file_name, given.sha256, given.headers)


def _is_link(name: str) -> bool:
    return bool(_LINK.fullmatch(name) or _LINK_HEADER.fullmatch(name))


def _names(fields: Iterable[str]) -> str:
    return ", ".join(sorted(fields))


def _created(call: Call, submitted: Submitted) -> Response:
    location = _url(call, submitted.request)
    body = {
        "signingRequestId": submitted.request.id,
        "signingRequestUrl": f"{call.services.settings.url}/signing-requests/"
        f"{submitted.request.id}",
    }
    return JSONResponse(body, 201, {"Location": location})


def _url(call: Call, request: SigningRequest) -> str:
    base = f"{call.services.settings.url}/API/v1/{request.organization_id}"
    return f"{base}/SigningRequests/{request.id}"


def _workflow_status(request: SigningRequest) -> str:
    if request.state is State.SCANNING_FOR_MALWARE and request.attempt == 0:
        return "QueuedForMalwareScanning"
    if request.state is State.FAILED and request.scan and not request.scan.is_clean:
        return "MalwareDetected"
    if request.state is State.FAILED:
        return _FAILURES.get(request.failed_stage, "ProcessingFailed")
    if request.state is State.WAITING_FOR_ENDORSEMENT:
        return State.WAITING_FOR_APPROVAL.value
    return request.state.value


async def _find(call: Call) -> SigningRequest:
    _check_organization(call)
    async with call.services.database.read() as tx:
        return await find_request(tx, call.grant, call.path("request").lower())


def _check_organization(call: Call) -> None:
    """The path names the organization as the token does, or nothing is there."""
    if call.path("organization").lower() != call.grant.organization_id:
        raise missing(call.path("organization"), "organization")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _big_endian(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)


_BASE = "/API/v1/{organization:uuid}"
_REQUESTS = f"{_BASE}/SigningRequests"
_ONE = f"{_REQUESTS}/{{request}}"

_TABLE = (
    ("submit", "POST", _REQUESTS, submit, "Submit"),
    ("submit_with_artifact", "POST", f"{_REQUESTS}/SubmitWithArtifact", submit, "Submit"),
    ("resubmit", "POST", f"{_REQUESTS}/Resubmit", submit_again, "Resubmit"),
    ("get", "GET", _ONE, get, "Read a signing request"),
    ("signed_artifact", "GET", f"{_ONE}/SignedArtifact", signed_artifact, "Download"),
    ("unsigned_artifact", "GET", f"{_ONE}/UnsignedArtifact", unsigned_artifact, "Download"),
    (
        "my_signing_policies",
        "GET",
        f"{_BASE}/Cryptoki/MySigningPolicies",
        my_signing_policies,
        "List signing policies",
    ),
)

ENDPOINTS = tuple(
    Endpoint(f"compatible.{name}", method, path, handler, summary, face=Face.COMPATIBLE)
    for name, method, path, handler, summary in _TABLE
)
