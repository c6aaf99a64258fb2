"""The measured server: all of it, in its own processes, on a token and an authority that others use
as well."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from sealwright.keystores.pkcs11 import Token
from tests.softhsm import SoftHsmToken, make_token
from tests.system import Api, Setup, System, all_children, command_line, set_up

AUTHORITY_CALLS = 64  #: requests under way at the authority
_CHILD = "format child"
_FORKER = "forker"
_KINDS = {
    "sealwright.signing.forker": _FORKER,
    "sealwright.signing.child": _CHILD,
    "sealwright.signer.session": "signer session",
    "sealwright worker": "worker",
    "sealwright web": "web",
    "sealwright signer": "signer",
    "valkey-server": "queue",
}


@dataclass(frozen=True)
class Measured:
    """A running server with an organization that may sign."""

    system: System
    setup: Setup
    token: SoftHsmToken
    http: httpx.Client
    authority: str

    @classmethod
    @contextlib.contextmanager
    def run(
        cls, folder: Path, authority: tuple[str, Path], configuration: str, database_url: str = ""
    ) -> Iterator[Measured]:
        """Start it in `folder`, which is new; RSA-3072 on SoftHSM, on SQLite where no other
        database is given."""
        url, roots = authority
        folder.mkdir()
        token = make_token(folder / "token", "bench")
        stamping = (
            f'[{{name="bench", url="{url}", roots="{roots}", concurrency={AUTHORITY_CALLS}}}]'
        )
        with System.run(
            environment=dict(token.environment),
            timestamp_authorities=stamping,
            token_uri=str(token.uri),
            pin_file=token.pin_file,
            token_environment="SOFTHSM2_CONF",
            worker_jobs=16,
            database_url=database_url,
        ) as system:
            setup = set_up(system, configuration, "rsa-3072")
            headers = {"Authorization": f"Bearer {setup.token}"}
            base = f"{system.url}/api/v1/"
            with httpx.Client(base_url=base, headers=headers, timeout=900) as http:
                yield cls(system, setup, token, http, url)

    def submit(self, file: Path, policy: str) -> dict[str, Any]:
        """Upload, wait until it is signed; the request with ``seconds`` from submission on."""
        began = time.perf_counter()
        with file.open("rb") as content:
            answer = self.http.post(
                "signing-requests",
                params={"project": "product", "signing_policy": policy, "file_name": file.name},
                headers={"Content-Type": "application/octet-stream"},
                content=content,
            )
        assert answer.is_success, answer.text
        uploaded = time.perf_counter()
        request = answer.json()
        while not request["is_final"]:
            path = f"signing-requests/{request['id']}"
            request = self.http.get(path, params={"wait": "60"}).json()
        assert request["state"] == "Completed", request["reason"]
        ended = time.perf_counter()
        return request | {"seconds": ended - began, "upload_seconds": uploaded - began}

    def files(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """What was done to each file of a request."""
        params: dict[str, str] = {}
        while True:
            path = f"signing-requests/{request['id']}/files"
            page = self.http.get(path, params=params).raise_for_status().json()
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            params = {"cursor": page["next_cursor"]}

    def sign_digest(self, digest: str) -> float:
        """Have a digest signed; the seconds that took."""
        began = time.perf_counter()
        answer = self.http.post(
            "hash-signing-requests",
            params={"wait": "60"},
            json={
                "project": "product",
                "signing_policy": "test",
                "digest": digest,
                "hash_algorithm": "sha256",
                "mechanism": "rsa-pkcs1",
            },
        )
        assert answer.is_success, answer.text
        assert answer.json()["hash"]["signature"], answer.text
        return time.perf_counter() - began

    def certificate_pem(self) -> str:
        """The signing certificate."""
        [found] = Api(self.system.url, self.setup.administrator_token).get("certificates")["items"]
        return str(found["pem"])

    def key_names(self) -> tuple[str, str]:
        """Label and hexadecimal id of the signing key on the token."""
        os.environ.update(self.token.environment)
        with Token.open(self.token.uri) as opened:
            [key] = opened.list_keys()
        return key.label, key.id.hex()


class Watch:
    """Peak resident memory and processor time of the server's processes, by kind, while it is open.

    Sampled from proc(5) ten times a second.
    """

    def __init__(self, system: System) -> None:
        self.peaks: dict[str, int] = defaultdict(int)  # kilobytes
        self._used: dict[int, tuple[str, float]] = {}  # by process, at the last sample
        self._reaped: dict[int, float] = {}  # by forker: of the children that have ended
        self._before: dict[str, float] = {}
        self._root = system.supervisor
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._sample()
        self._before = self._totals()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    @property
    def seconds(self) -> dict[str, float]:
        """Processor seconds by kind."""
        return {kind: used - self._before.get(kind, 0.0) for kind, used in self._totals().items()}

    def _totals(self) -> dict[str, float]:
        found: dict[str, float] = defaultdict(float)
        for kind, used in self._used.values():
            found[kind] += used
        if self._reaped:
            found[_CHILD] += sum(self._reaped.values())
        return dict(found)

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            self._sample()

    def _sample(self) -> None:
        seen = set()
        parents = [(self._root, "")]
        found = all_children()  # once: looking is work that the measured have not
        while parents:
            parent, parent_kind = parents.pop()
            for pid in found[parent]:
                kind = self._kind(pid, parent_kind)
                parents.append((pid, kind))
                if kind:
                    seen.add(pid)
                    self._note(pid, kind)
        # what an ended child has used is in its forker's account of those it has waited for
        for pid in [pid for pid, (kind, _) in self._used.items() if kind == _CHILD]:
            if pid not in seen:
                del self._used[pid]

    def _kind(self, pid: int, parent_kind: str) -> str:
        if parent_kind == _FORKER:
            return _CHILD  # its command line is the forker's
        if pid in self._used:
            return self._used[pid][0]
        line = " ".join(command_line(pid))
        return next((kind for mark, kind in _KINDS.items() if mark in line), "")

    def _note(self, pid: int, kind: str) -> None:
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            own, reaped = (
                (int(fields[at]) + int(fields[at + 1])) / os.sysconf("SC_CLK_TCK")
                for at in (11, 13)
            )
            self._used[pid] = (kind, own)
            if kind == _FORKER:
                self._reaped[pid] = reaped
            status = Path(f"/proc/{pid}/status").read_text()
            peak = int(status.partition("VmHWM:")[2].split()[0])
            self.peaks[kind] = max(self.peaks[kind], peak)
