"""OpenPGP keys that are renewed, succeeded and revoked, judged by GnuPG and by Sequoia."""

from __future__ import annotations

import dataclasses
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests import database as rows
from tests.keys import PrivateKey, answer, new_key
from tests.system import short_folder

from sealwright.errors import InvalidInputError
from sealwright.model.ascii_armor import armor
from sealwright.model.certificate import RevocationReason
from sealwright.model.openpgp import published
from sealwright.signing import openpgp
from sealwright.signing.artifact import SignatureResult
from sealwright.signing.openpgp import OpenPgpKey, Prepared

USER_ID = "Sealwright tests <tests@example.com>"
DAY = 86400
KINDS = ("rsa-3072", "p256", "p384")


@pytest.fixture
def home() -> Iterator[Path]:
    """A key ring of its own, and no agent left behind."""
    with short_folder() as folder:
        folder.chmod(0o700)
        yield folder
        subprocess.run(["gpgconf", "--homedir", folder, "--kill", "all"], check=False)


def gpg(home: Path, *arguments: str | Path, data: bytes = b"") -> str:
    command = ["gpg", "--homedir", home, "--batch", "--no-tty", *arguments]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout.decode()


def sq(*arguments: str | Path, data: bytes) -> str:
    done = subprocess.run(["sq", *arguments], input=data, capture_output=True, check=True)
    return done.stdout.decode()


def key_of(kind: str) -> tuple[PrivateKey, OpenPgpKey]:
    private = new_key(kind)
    spki = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return private, OpenPgpKey.make(spki, int(time.time()) - 10 * DAY)


def signed(private: PrivateKey, prepared: Prepared) -> bytes:
    return prepared.finish(SignatureResult(answer(prepared.request, private)))


def certified(private: PrivateKey, key: OpenPgpKey, *, created: int, days: int) -> bytes:
    """Days from the key's creation on."""
    made = openpgp.prepare_certification(key, USER_ID, created, days * DAY)
    return openpgp.transferable(key, USER_ID, signed(private, made))


def listed(home: Path, record: str) -> list[list[str]]:
    lines = gpg(home, "--list-keys", "--with-colons").splitlines()
    return [line.split(":") for line in lines if line.startswith(f"{record}:")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_later_end_takes_the_place_of_the_earlier(home: Path, kind: str) -> None:
    private, key = key_of(kind)
    old = certified(private, key, created=key.created, days=5)
    gpg(home, "--import", data=old)
    [[_, validity, *_, _]] = listed(home, "pub")
    assert validity == "e", "it expired five days ago"
    assert "Invalid" in sq("inspect", data=old)
    renewed = certified(private, key, created=key.created + 9 * DAY, days=40)
    assert openpgp.certified_at(renewed) == key.created + 9 * DAY
    gpg(home, "--import", data=renewed)
    [pub] = listed(home, "pub")
    assert pub[1] != "e"
    assert int(pub[6]) == key.created + 40 * DAY, "of one key with two certifications"
    assert "Invalid" not in sq("inspect", data=renewed)
    gpg(home, "--import", data=old)
    assert int(listed(home, "pub")[0][6]) == key.created + 40 * DAY, "whatever comes last"


def test_a_successor_is_certified_by_the_old_key(home: Path) -> None:
    old_private, old = key_of("rsa-3072")
    private, key = key_of("p384")
    now = int(time.time()) - 60
    own = signed(private, openpgp.prepare_certification(key, USER_ID, now, 30 * DAY))
    endorsed = signed(old_private, openpgp.prepare_endorsement(old, key, USER_ID, now))
    gpg(home, "--import", data=certified(old_private, old, created=old.created, days=100))
    gpg(home, "--import", data=openpgp.transferable(key, USER_ID, own + endorsed))
    checked = gpg(home, "--check-sigs", "--with-colons", key.fingerprint.hex())
    signatures = [line.split(":") for line in checked.splitlines() if line.startswith("sig:")]
    assert [(one[1], one[4].lower()) for one in signatures] == [
        ("!", key.fingerprint[-8:].hex()), ("!", old.fingerprint[-8:].hex()),
    ]  # fmt: skip
    assert OpenPgpKey.parse(openpgp.transferable(key, USER_ID, own + endorsed)) == key


@pytest.mark.parametrize("kind", KINDS)
def test_a_revoked_key_says_so_and_why(home: Path, kind: str) -> None:
    private, key = key_of(kind)
    reason = {
        "rsa-3072": (RevocationReason.COMPROMISED, "compromised"),
        "p256": (RevocationReason.SUPERSEDED, "superseded"),
        "p384": (RevocationReason.RETIRED, "no longer used"),
    }[kind]
    public = certified(private, key, created=key.created, days=100)
    packet = signed(
        private, openpgp.prepare_revocation(key, reason[0], "Look at our site", int(time.time()))
    )
    certificate = dataclasses.replace(rows.certificate("", certificate=public), revocation=packet)
    exported = published(certificate)
    assert len(exported) == len(public) + len(packet)
    assert OpenPgpKey.parse(exported) == key
    said = sq("inspect", data=armor("PUBLIC KEY BLOCK", exported))
    assert "Revoked" in said
    assert "Look at our site" in said
    gpg(home, "--import", data=public)
    assert listed(home, "pub")[0][1] != "r"
    gpg(home, "--import", data=armor("PUBLIC KEY BLOCK", exported))
    assert listed(home, "pub")[0][1] == "r"
    [rev] = [
        line
        for line in gpg(home, "--list-sigs", "--with-colons").splitlines()
        if line.startswith("rev:")
    ]
    assert "Look at our site" in rev
    assert published(dataclasses.replace(certificate, revocation=b"")) == public


def test_what_is_refused() -> None:
    _, key = key_of("p256")
    for seconds in (0, -1, 1 << 32):
        with pytest.raises(InvalidInputError, match="so long"):
            openpgp.prepare_certification(key, USER_ID, key.created, seconds)
    for comment in ("x" * 151, "a\nb", "caf\u00e9"):
        with pytest.raises(InvalidInputError, match="comment"):
            openpgp.prepare_revocation(key, RevocationReason.RETIRED, comment, key.created)
    with pytest.raises(InvalidInputError, match="not an OpenPGP key"):
        openpgp.certified_at(b"\x30\x82")
