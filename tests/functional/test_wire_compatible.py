"""The compatible wire, exercised as its users do: with plain curl."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from tests.database import add_request
from tests.shared import tool
from tests.web import Web, issued, signing_certificate

from sealwright.db import certificates, requests
from sealwright.model.certificate import KeyType
from sealwright.model.identifiers import new_id
from sealwright.model.request import MalwareScan, State

SHA256 = "2.16.840.1.101.3.4.2.1"


@dataclass
class Curl:
    """curl with the caller's token, against one organization."""

    web: Web
    token: str
    base: str = "API/v1"
    organization: str = ""

    async def __call__(self, path: str, *arguments: str) -> tuple[int, dict[str, str], bytes]:
        """(status, headers in lower case, body)."""
        organization = self.organization or self.web.scene.organization.id
        process = await asyncio.create_subprocess_exec(
            tool("curl"), "--silent", "--show-error", "--include", "--max-time", "60",
            "-H", f"Authorization: Bearer {self.token}", *arguments,
            f"{self.web.server.url}/{self.base}/{organization}/{path}",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, errors = await process.communicate()
        assert process.returncode == 0, errors
        while output.startswith(b"HTTP/1.1 100"):
            output = output.partition(b"\r\n\r\n")[2]
        head, _, body = output.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return int(first.split()[1]), headers, body

    async def json(self, path: str, *arguments: str) -> Any:
        """The body of a success."""
        status, _, body = await self(path, *arguments)
        assert status in {200, 201}, body
        return json.loads(body)


@pytest.fixture
async def curl(sqlite: Web) -> Curl:
    return Curl(sqlite, await sqlite.token(sqlite.scene.submitter))


def form(web: Web, *more: str) -> list[str]:
    fields = [
        f"ProjectSlug={web.scene.project.slug}",
        f"SigningPolicySlug={web.scene.policy.slug}",
        *more,
    ]
    return [word for field in fields for word in ("-F", field)]


async def submit(curl: Curl, file: Path, *more: str) -> str:
    """The path of the submitted request below the organization."""
    status, headers, body = await curl(
        "SigningRequests", *form(curl.web, *more, f"Artifact=@{file}")
    )
    assert status == 201, body
    location = headers["location"]
    base = f"{curl.web.server.url}/api/v1/{curl.web.scene.organization.id}/"
    assert location.startswith(base)
    return "SigningRequests/" + location.rpartition("/")[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "setup.exe"
    path.write_bytes(b"unsigned bytes")
    return path


async def test_the_whole_way(web: Web, file: Path) -> None:
    curl = Curl(web, await web.token(web.scene.submitter))
    path = await submit(
        curl, file, "Description=Nightly", "Parameters[version]=1.2", "Parameters.edition=Pro",
        f"ArtifactConfigurationSlug={web.scene.configuration.slug}",
        "Origin.RepositoryData.BranchName=main", "Origin.BuildData.Url=https://ci.example.com/1",
    )  # fmt: skip
    status = await curl.json(path)
    link = f"{web.server.url}/API/v1/{web.scene.organization.id}/{path}"
    assert status == {
        "status": "InProgress",
        "isFinalStatus": False,
        "workflowStatus": "QueuedForProcessing",
        "description": "Nightly",
        "projectId": web.scene.project.id,
        "projectSlug": web.scene.project.slug,
        "projectName": web.scene.project.name,
        "artifactConfigurationId": web.scene.configuration.id,
        "artifactConfigurationSlug": web.scene.configuration.slug,
        "artifactConfigurationName": web.scene.configuration.name,
        "signingPolicyId": web.scene.policy.id,
        "signingPolicySlug": web.scene.policy.slug,
        "signingPolicyName": web.scene.policy.name,
        "unsignedArtifactLink": f"{link}/UnsignedArtifact",
        "parameters": {"version": "1.2", "edition": "Pro"},
    }
    request = await web.read(path.rpartition("/")[2])
    assert (request.origin.branch, request.origin.verified) == ("main", False)
    early, _, problem = await curl(f"{path}/SignedArtifact")
    assert early == 409
    assert b"nothing is signed" in problem
    await web.complete(request.id, b"signed bytes")
    done = await curl.json(path)
    assert (done["status"], done["isFinalStatus"]) == ("Completed", True)
    assert done["signedArtifactLink"] == f"{link}/SignedArtifact"
    assert (await curl(f"{path}/SignedArtifact"))[2] == b"signed bytes"
    assert (await curl(f"{path}/UnsignedArtifact"))[2] == b"unsigned bytes"
    partial = await curl(f"{path}/SignedArtifact", "--range", "7-11")
    assert (partial[0], partial[2]) == (206, b"bytes")


@pytest.mark.parametrize("base", ["api/v1", "API/v1", "Api/V1"])
async def test_paths_have_no_case(curl: Curl, file: Path, base: str) -> None:
    curl.base = base
    request = await submit(curl, file)
    assert (await curl.json(request.lower()))["status"] == "InProgress"
    assert (await curl(f"{request}/unsignedartifact"))[0] == 200
    organization = curl.web.scene.organization.id
    curl.organization = organization.upper()
    assert (await curl(request))[0] == 200


async def test_ids_instead_of_slugs_in_any_order_and_case(curl: Curl, file: Path) -> None:
    scene = curl.web.scene
    words = [
        f"Artifact=@{file}",
        f"signingpolicyid={scene.policy.id}",
        f"ArtifactConfigurationId={scene.configuration.id}",
    ]
    arguments = [word for field in words for word in ("-F", field)]
    assert (await curl("SigningRequests/SubmitWithArtifact", *arguments))[0] == 201


async def test_a_retrieval_link(curl: Curl) -> None:
    link = "ArtifactRetrievalLink"
    status, headers, body = await curl(
        "SigningRequests",
        *form(
            curl.web, f"{link}.Url=https://artifacts.example.com/a.zip", f"{link}.FileName=a.zip",
            f"{link}.Sha256Hash={'AB' * 32}", f"{link}.HttpHeaders[X-Token]=Value",
        ),
    )  # fmt: skip
    assert status == 201, body
    request = await curl.web.read(headers["location"].rpartition("/")[2])
    assert request.retrieval is not None
    assert request.retrieval.sha256 == "ab" * 32
    assert request.retrieval.headers == {"X-Token": "Value"}
    shown = await curl.json(f"SigningRequests/{request.id}")
    assert shown["workflowStatus"] == "RetrievingArtifact"
    assert shown["unsignedArtifactLink"] is None


async def test_build_settings_come_as_a_file(curl: Curl, file: Path, tmp_path: Path) -> None:
    settings = tmp_path / "build.yml"
    settings.write_text("steps: []")
    path = await submit(curl, file, f"Origin.BuildData.BuildSettingsFile=@{settings}")
    request = await curl.web.read(path.rpartition("/")[2])
    assert request.origin.build_settings_file == "build.yml"
    assert request.input is not None
    assert (request.input.file_name, request.input.size) == ("setup.exe", len(b"unsigned bytes"))
    settings.write_bytes(bytes(1 << 20) + b"x")
    words = (f"Origin.BuildData.BuildSettingsFile=@{settings}", f"Artifact=@{file}")
    assert (await curl("SigningRequests", *form(curl.web, *words)))[0] == 413


async def test_one_idempotency_key_is_one_request(curl: Curl, file: Path) -> None:
    words = ("-H", "Idempotency-Key: once", *form(curl.web, f"Artifact=@{file}"))
    first, second = [await curl("SigningRequests", *words) for _ in range(2)]
    assert first[0] == second[0] == 201
    assert first[1]["location"] == second[1]["location"]
    file.write_bytes(b"other bytes")
    assert (await curl("SigningRequests", *words))[0] == 422


async def test_resubmit(curl: Curl, file: Path) -> None:
    first = (await submit(curl, file)).rpartition("/")[2]
    arguments = []
    for field in (
        f"OriginalSigningRequestId={first}",
        f"SigningPolicySlug={curl.web.scene.policy.slug}",
        "Description=Again",
    ):
        arguments += ["-F", field]
    status, headers, body = await curl("SigningRequests/Resubmit", *arguments)
    assert status == 201, body
    request = await curl.web.read(headers["location"].rpartition("/")[2])
    assert (request.original_request_id, request.description) == (first, "Again")
    assert request.input is not None
    assert request.input.sha256 == hashlib.sha256(b"unsigned bytes").hexdigest()


@pytest.mark.parametrize(
    ("state", "stage", "status", "workflow"),
    [
        (State.WAITING_FOR_APPROVAL, None, "WaitingForApproval", "WaitingForApproval"),
        (State.SCANNING_FOR_MALWARE, None, "InProgress", "ScanningForMalware"),
        (State.PROCESSING, None, "InProgress", "Processing"),
        (State.FAILED, State.PROCESSING, "Failed", "ProcessingFailed"),
        (State.FAILED, State.RETRIEVING_ARTIFACT, "Failed", "ArtifactRetrievalFailed"),
        (State.FAILED, State.SCANNING_FOR_MALWARE, "Failed", "MalwareScanFailed"),
        (State.DENIED, None, "Denied", "Denied"),
        (State.CANCELED, None, "Canceled", "Canceled"),
    ],
)
async def test_statuses(
    curl: Curl, state: State, stage: State | None, status: str, workflow: str
) -> None:
    request = await add_request(curl.web.database, curl.web.scene, state=state, failed_stage=stage)
    found = await curl.json(f"SigningRequests/{request.id}")
    assert (found["status"], found["workflowStatus"]) == (status, workflow)
    assert found["isFinalStatus"] == state.is_final


async def test_statuses_of_a_malware_scan(curl: Curl) -> None:
    found = MalwareScan("0" * 64, "ClamAV", "Eicar-Test", "2026-01-01T00:00:00+00:00")
    for fields, workflow in (
        ({"state": State.SCANNING_FOR_MALWARE, "attempt": 0}, "QueuedForMalwareScanning"),
        ({"state": State.FAILED, "failed_stage": State.SCANNING_FOR_MALWARE, "scan": found},
         "MalwareDetected"),
    ):  # fmt: skip
        request = await add_request(curl.web.database, curl.web.scene, **fields)
        assert (await curl.json(f"SigningRequests/{request.id}"))["workflowStatus"] == workflow


async def fast(curl: Curl, tmp_path: Path, payload: dict[str, Any], signature: bytes) -> Any:
    """Submit a fast hash signing request and play the worker."""
    file = tmp_path / "payload.json"
    file.write_text(json.dumps(payload))
    words = form(curl.web, "IsFastSigningRequest=true", f"Artifact=@{file}")
    call = asyncio.create_task(curl("SigningRequests", *words))
    for _ in range(200):
        await asyncio.sleep(0.05)
        async with curl.web.database.read() as tx:
            found = await requests.page(
                tx, curl.web.scene.organization.id, state=State.QUEUED, limit=1
            )
        if found:
            break
        if call.done():
            raise AssertionError((await call)[2])
    await curl.web.complete_hash(found[0].id, signature)
    status, _, body = await call
    assert status == 200, body
    again = await curl.json(f"SigningRequests/{found[0].id}/SignedArtifact")
    assert again == json.loads(body)
    return again


@pytest.mark.parametrize("algorithm", ["RsaPkcs1", "RsaPss"])
async def test_fast_hash_signing_with_rsa(curl: Curl, tmp_path: Path, algorithm: str) -> None:
    web = curl.web
    await use_rsa(web)
    digest = hashlib.sha256(b"data").digest()
    payload = {
        "SignatureAlgorithm": algorithm,
        "RsaHashAlgorithm": SHA256,
        "Base64EncodedHash": base64.b64encode(digest).decode(),
        "Metadata": {"CreatingProcess": {"CommandLine": "sign it", "User": "somebody"}},
    }
    key = issued("rsa-3072").key
    assert isinstance(key, rsa.RSAPrivateKey)
    scheme = (
        padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        if algorithm == "RsaPss"
        else padding.PKCS1v15()
    )
    signature = key.sign(digest, scheme, utils.Prehashed(hashes.SHA256()))
    answer = await fast(curl, tmp_path, payload, signature)
    assert answer == payload | {"Signature": base64.b64encode(signature).decode()}


async def use_rsa(web: Web) -> None:
    """Let the policy sign with an RSA key."""
    certificate = dataclasses.replace(
        signing_certificate("rsa-3072"),
        id=new_id(), organization_id=web.scene.organization.id, slug="rsa",
    )  # fmt: skip
    assert certificate.key_type is KeyType.RSA_3072
    async with web.database.transaction() as tx:
        await certificates.add(tx, certificate)
    await web.change_policy(certificate_id=certificate.id, hash_signing_allowed=True)


@pytest.mark.parametrize("form_name", [None, "Ieee", "Asn1"])
async def test_fast_hash_signing_with_ecdsa(
    curl: Curl, tmp_path: Path, form_name: str | None
) -> None:
    await curl.web.change_policy(hash_signing_allowed=True)
    digest = hashlib.sha256(b"data").digest()
    payload = {
        "SignatureAlgorithm": "Ecdsa",
        "Base64EncodedHash": base64.b64encode(digest).decode(),
    } | ({"EcdsaSignatureFormat": form_name} if form_name else {})
    key = issued("p256").key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    made = key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    answer = await fast(curl, tmp_path, payload, made)
    signature = base64.b64decode(answer.pop("Signature"))
    assert answer == payload
    if form_name == "Asn1":
        assert signature == made
    else:
        assert len(signature) == 64
        halves = (int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
        assert utils.encode_dss_signature(*halves) == made


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"RsaHashAlgorithm": "1.3.14.3.2.26"}, 400, b"SHA-256"),
        ({"Base64EncodedHash": "AAAA"}, 400, b"no sha256"),
        ({"SignatureAlgorithm": "Ecdsa"}, 400, b"cannot sign"),
    ],
)
async def test_weak_or_wrong_hashes_are_refused(
    curl: Curl, tmp_path: Path, change: dict[str, str], status: int, words: bytes
) -> None:
    await use_rsa(curl.web)
    payload = {
        "SignatureAlgorithm": "RsaPkcs1",
        "RsaHashAlgorithm": SHA256,
        "Base64EncodedHash": base64.b64encode(bytes(32)).decode(),
    } | change
    file = tmp_path / "payload.json"
    file.write_text(json.dumps(payload))
    found, _, body = await curl(
        "SigningRequests", *form(curl.web, "IsFastSigningRequest=true", f"Artifact=@{file}")
    )
    assert (found, words in body) == (status, True), body
    assert await curl.web.stored_keys() == []


async def test_a_hash_needs_a_policy_that_signs_hashes(curl: Curl, tmp_path: Path) -> None:
    file = tmp_path / "payload.json"
    digest = base64.b64encode(bytes(32)).decode()
    file.write_text(json.dumps({"SignatureAlgorithm": "Ecdsa", "Base64EncodedHash": digest}))
    status, _, body = await curl("SigningRequests", *form(curl.web, f"Artifact=@{file}"))
    assert status == 403
    assert b"does not sign bare digests" in body


async def test_my_signing_policies(curl: Curl) -> None:
    web = curl.web
    elliptic = (await curl.json("Cryptoki/MySigningPolicies"))["signingPolicies"]
    assert [(one["keyType"], one["keySizeInBits"]) for one in elliptic] == [("Ecdsa", 256)]
    await use_rsa(web)
    query = f"projectSlug={web.scene.project.slug}&signingPolicySlug={web.scene.policy.slug}"
    found = (await curl.json(f"Cryptoki/MySigningPolicies?{query}"))["signingPolicies"]
    assert len(found) == 1
    policy = found[0]
    key = issued("rsa-3072").key.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    numbers = rsa.RSAPublicNumbers(
        int.from_bytes(base64.b64decode(policy["rsaParameters"]["publicExponent"])),
        int.from_bytes(base64.b64decode(policy["rsaParameters"]["modulus"])),
    )
    assert numbers == key.public_numbers()
    assert (policy["keyType"], policy["keySizeInBits"]) == ("Rsa", 3072)
    assert policy["signingPolicyId"] == web.scene.policy.id
    assert policy["projectSlug"] == web.scene.project.slug
    certificate = x509.load_der_x509_certificate(base64.b64decode(policy["certificateBytes"]))
    assert certificate == issued("rsa-3072").certificate
    pkcs1 = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    assert base64.b64decode(policy["publicKeyBytes"]) == pkcs1
    none = await curl.json("Cryptoki/MySigningPolicies?projectSlug=other")
    assert none == {"signingPolicies": []}
    approver = Curl(web, await web.token(web.scene.approvers[0]))
    assert await approver.json("Cryptoki/MySigningPolicies") == {"signingPolicies": []}


async def test_errors_are_readable(curl: Curl, file: Path) -> None:
    web = curl.web
    for arguments, status, words in (
        (form(web, "Nonsense=1", f"Artifact=@{file}"), 400, "unknown"),
        (form(web), 400, "Artifact"),
        (["-F", "SigningPolicySlug=x", "-F", f"Artifact=@{file}"], 404, "signing policy"),
        (["-F", "ProjectSlug=x", "-F", f"Artifact=@{file}"], 400, "signing_policy"),
        (["-d", "ProjectSlug=x"], 400, "multipart/form-data"),
        (form(web, f"Other=@{file}"), 400, "takes no file"),
    ):
        found, headers, body = await curl("SigningRequests", *arguments)
        problem = json.loads(body)
        assert (found, headers["content-type"]) == (status, "application/problem+json")
        assert words in problem["detail"] + problem["advice"], problem
    bad = Curl(web, "nonsense")
    assert (await bad("SigningRequests/x"))[0] == 401
    curl.organization = "00000000-0000-0000-0000-000000000000"
    assert (await curl("Cryptoki/MySigningPolicies"))[0] == 404
    assert await web.stored_keys() == []
