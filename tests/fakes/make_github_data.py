"""Makes `github_openapi.json` and `github_webhooks.json` from GitHub's published descriptions.

    python -m tests.fakes.make_github_data

The packages come from npm in a pinned version whose integrity is checked, and are kept in the
user's cache folder. What is committed is the part that the fake and the tests need, without prose.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    integrity: str
    member: str


OPENAPI = Package(
    "@octokit/openapi",
    "23.0.2",
    "sha512-pV8M7L9GY23AybNvTmo2nyjmpmnt6+2sRE/tqr0ZLQcPS4lnw7u5eZGNmwRNkBC3D7gZXbFx5AHzLUVRBXGDhg==",
    "package/generated/api.github.com.json",
)
WEBHOOKS = Package(
    "@octokit/webhooks-examples",
    "7.6.1",
    "sha512-De6U3XB6O3DtCa7bKgCMzTHdeopqqZ6SNivMYJnK65ierKL1AnNIA0tkRYCRS7lwGT792d+Ps1WbfHlso6MynQ==",
    "package/api.github.com/index.json",
)
LICENSE = "MIT, Copyright (c) Octokit contributors"

REPOSITORY = "/repos/{owner}/{repo}"
OPERATIONS = {
    "/app/installations/{installation_id}/access_tokens": ["post"],
    "/user": ["get"],
    "/user/installations/{installation_id}/repositories": ["get"],
    f"{REPOSITORY}/actions/artifacts/{{artifact_id}}": ["get"],
    f"{REPOSITORY}/actions/artifacts/{{artifact_id}}/{{archive_format}}": ["get"],
    f"{REPOSITORY}/actions/runs/{{run_id}}": ["get"],
    f"{REPOSITORY}/actions/runs/{{run_id}}/artifacts": ["get"],
    f"{REPOSITORY}/actions/runs/{{run_id}}/deployment_protection_rule": ["post"],
    f"{REPOSITORY}/actions/runs/{{run_id}}/jobs": ["get"],
    f"{REPOSITORY}/check-runs": ["post"],
    f"{REPOSITORY}/check-runs/{{check_run_id}}": ["patch"],
    f"{REPOSITORY}/commits/{{ref}}/check-runs": ["get"],
    f"{REPOSITORY}/compare/{{basehead}}": ["get"],
    f"{REPOSITORY}/git/ref/{{ref}}": ["get"],
    f"{REPOSITORY}/git/tags/{{tag_sha}}": ["get"],
    f"{REPOSITORY}/rules/branches/{{branch}}": ["get"],
    f"{REPOSITORY}/rulesets": ["get"],
    f"{REPOSITORY}/rulesets/{{ruleset_id}}": ["get"],
    f"{REPOSITORY}/statuses/{{sha}}": ["post"],
}
EVENTS = {
    ("check_run", "requested_action"),
    ("check_run", "rerequested"),
    ("check_run", "completed"),
    ("check_suite", "rerequested"),
    ("installation", "created"),
    ("installation", "deleted"),
    ("installation", "suspend"),
    ("installation_repositories", "added"),
    ("installation_repositories", "removed"),
    ("ping", None),
    ("push", None),
    ("workflow_run", "completed"),
    ("workflow_run", "requested"),
}
_PROSE = {"description", "summary", "externalDocs", "x-github", "tags", "title", "operationId"}


def fetch(package: Package) -> Any:
    """The JSON member of a package, from the cache or from npm.

    Raises:
        OSError, subprocess.CalledProcessError: npm or the registry is away.
        AssertionError: the package is not the pinned one.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sealwright-tests"
    cache.mkdir(parents=True, exist_ok=True)
    archive = cache / f"{package.name.replace('/', '-')}-{package.version}.tgz"
    if not archive.exists():
        _download(package, archive)
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    assert f"sha512-{digest}" == package.integrity, f"{archive.name} is not the pinned package"
    with tarfile.open(archive) as members:
        member = members.extractfile(package.member)
        assert member is not None
        return json.load(member)


def _download(package: Package, archive: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        message = "npm is not installed"
        raise FileNotFoundError(message)
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        command = [npm, "pack", f"{package.name}@{package.version}", "--silent"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)
        (packed,) = Path(folder).glob("*.tgz")
        packed.replace(archive)


def subset(description: dict[str, Any]) -> dict[str, Any]:
    """The needed operations with every component they refer to."""
    paths = {
        path: {method: _without_prose(description["paths"][path][method]) for method in methods}
        for path, methods in OPERATIONS.items()
    }
    components: dict[str, dict[str, Any]] = {}
    waiting, seen = _references(paths), set[str]()
    while waiting:
        reference = waiting.pop()
        seen.add(reference)
        _, _, kind, name = reference.split("/")
        component = _without_prose(description["components"][kind][name])
        components.setdefault(kind, {})[name] = component
        waiting |= _references(component) - seen
    return {
        "provenance": f"{OPENAPI.name} {OPENAPI.version} (npm), the operations in use, no prose",
        "license": LICENSE,
        "paths": paths,
        "components": {kind: dict(sorted(found.items())) for kind, found in components.items()},
    }


def _without_prose(node: Any, *, named: bool = False) -> Any:
    """Drop what is for readers. `named`: the keys are names of properties, not keywords."""
    if isinstance(node, list):
        return [_without_prose(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {}
    for key, value in node.items():
        if not named and (key in _PROSE or key == "example"):
            continue
        if key == "value" and not named:
            kept[key] = value  # an example: data
        elif key == "examples" and not named:
            if not isinstance(value, dict):
                continue
            first = next((name for name in value if name == "default"), next(iter(value)))
            kept[key] = {first: value[first]}
        else:
            kept[key] = _without_prose(value, named=key == "properties" and not named)
    return kept


def _references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(_references(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(_references(item) for item in node))
    return set()


def selection(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The first example of each wanted event and action, and both kinds of push."""
    examples = []
    wanted = set(EVENTS)
    pushes = {"refs/tags/", "refs/heads/"}
    for event in events:
        for payload in event["examples"]:
            key = (event["name"], payload.get("action"))
            if key == ("push", None):
                fresh = {prefix for prefix in pushes if payload["ref"].startswith(prefix)}
                pushes -= fresh
                if not fresh:
                    continue
            elif key not in wanted:
                continue
            wanted.discard(key)
            examples.append({"event": event["name"], "payload": _without_addresses(payload)})
    return {
        "provenance": f"{WEBHOOKS.name} {WEBHOOKS.version} (npm), without keys that end in _url",
        "license": LICENSE,
        "examples": examples,
    }


def _without_addresses(node: Any) -> Any:
    if isinstance(node, list):
        return [_without_addresses(item) for item in node]
    if isinstance(node, dict):
        return {key: _without_addresses(value) for key, value in node.items() if key[-4:] != "_url"}
    return node


def main() -> None:
    for name, data in (
        ("github_openapi.json", subset(fetch(OPENAPI))),
        ("github_webhooks.json", selection(fetch(WEBHOOKS))),
    ):
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
        (FOLDER / name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
