"""A token's keys and signatures, with SoftHSM2; checked by another implementation (OpenSSL)."""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pkcs11
import pytest
from tests.softhsm import SoftHsmToken

from sealwright.errors import (
    ConfigurationError,
    InternalError,
    InvalidInputError,
    KeyStoreError,
    NotFoundError,
    UnavailableError,
)
from sealwright.keystores.pins import PinRefusals, read_pin
from sealwright.keystores.pkcs11 import KeyInfo, Token
from sealwright.model.mechanism import KeyAlgorithm, Mechanism

_MESSAGE = b"what is signed"
_EC = (KeyAlgorithm.EC_P256, KeyAlgorithm.EC_P384)


@pytest.fixture(params=list(KeyAlgorithm))
def key(request: pytest.FixtureRequest, token: Token) -> KeyInfo:
    return _key(token, request.param)


def _key(token: Token, algorithm: KeyAlgorithm) -> KeyInfo:
    """One key of each kind serves all tests: RSA-4096 takes its time."""
    label = f"shared {algorithm}"
    found = [key for key in token.list_keys() if key.label == label]
    return found[0] if found else token.generate_key(algorithm, label)


def _verify(
    folder: Path, key: KeyInfo, mechanism: Mechanism, hash_algorithm: str, signature: bytes
) -> None:
    (folder / "key.der").write_bytes(key.public_key)
    (folder / "message").write_bytes(_MESSAGE)
    (folder / "signature").write_bytes(signature)
    padding = {
        Mechanism.RSA_PSS: [
            *("-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"),
            *("-sigopt", f"rsa_mgf1_md:{hash_algorithm}"),
        ]
    }
    subprocess.run(
        [
            *("openssl", "dgst", f"-{hash_algorithm}", "-keyform", "DER", "-verify", "key.der"),
            *(*padding.get(mechanism, []), "-signature", "signature", "message"),
        ],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("hash_algorithm", ["sha256", "sha384", "sha512"])
def test_signatures_verify(
    token: Token,
    key: KeyInfo,
    hash_algorithm: str,
    tmp_path: Path,
) -> None:
    digest = hashlib.new(hash_algorithm, _MESSAGE).digest()
    rsa = (Mechanism.RSA_PKCS1, Mechanism.RSA_PSS)
    for mechanism in (Mechanism.ECDSA,) if key.algorithm in _EC else rsa:
        signature = token.sign(key.id, mechanism, hash_algorithm, digest)
        _verify(tmp_path, key, mechanism, hash_algorithm, signature)


def test_generated_keys_stay_on_the_token(token: Token, softhsm_token: SoftHsmToken) -> None:
    key = token.generate_key(KeyAlgorithm.EC_P256, "stays")
    assert not key.exposed
    assert token.key(key.id) == key
    assert key in token.list_keys()
    token.close()

    library = pkcs11.lib(str(softhsm_token.module))
    try:
        found = library.get_token(token_label=softhsm_token.label)
        attribute = pkcs11.Attribute
        with found.open(user_pin=read_pin(softhsm_token.pin_file)) as session:
            private = session.get_key(pkcs11.ObjectClass.PRIVATE_KEY, id=key.id)
            for name in (attribute.SENSITIVE, attribute.PRIVATE, attribute.TOKEN, attribute.SIGN):
                assert private[name] is True, name
            for name in (attribute.EXTRACTABLE, attribute.DECRYPT, attribute.UNWRAP):
                assert private[name] is False, name
            assert len(key.id) == 16
            with pytest.raises(pkcs11.AttributeSensitive):
                private[attribute.VALUE]
        with found.open() as session:  # not logged in
            assert not list(session.get_objects({attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY}))
    finally:
        library.finalize()


def test_imported_keys_are_exposed(softhsm_token: SoftHsmToken, tmp_path: Path) -> None:
    run = lambda *command: subprocess.run(command, check=True, capture_output=True)  # noqa: E731
    pem, der = tmp_path / "key.pem", tmp_path / "public.der"
    run("openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", pem)
    run("openssl", "pkey", "-in", pem, "-pubout", "-outform", "DER", "-out", der)
    # the PIN in argv, of a test's token
    pin = read_pin(softhsm_token.pin_file)
    where = ("--token", softhsm_token.label, "--pin", pin)
    run("softhsm2-util", "--import", pem, *where, "--label", "imported", "--id", "a0b1c2")
    with Token.open(softhsm_token.uri) as token:
        key = token.key(bytes.fromhex("a0b1c2"))
        assert (key.label, key.algorithm, key.exposed) == ("imported", "rsa-2048", True)
        assert key.public_key == der.read_bytes()
        digest = hashlib.sha256(_MESSAGE).digest()
        signature = token.sign(key.id, Mechanism.RSA_PKCS1, "sha256", digest)
        _verify(tmp_path, key, Mechanism.RSA_PKCS1, "sha256", signature)


@pytest.mark.parametrize(
    ("algorithm", "mechanism", "hash_algorithm", "length"),
    [
        (KeyAlgorithm.EC_P256, Mechanism.ECDSA, "sha256", 31),
        (KeyAlgorithm.EC_P256, Mechanism.ECDSA, "sha256", 33),
        (KeyAlgorithm.EC_P256, Mechanism.ECDSA, "sha512", 32),
        (KeyAlgorithm.EC_P256, Mechanism.ECDSA, "sha1", 20),
        (KeyAlgorithm.EC_P256, Mechanism.ECDSA, "md5", 16),
        (KeyAlgorithm.EC_P256, Mechanism.RSA_PKCS1, "sha256", 32),
        (KeyAlgorithm.EC_P256, Mechanism.RSA_PSS, "sha256", 32),
        (KeyAlgorithm.RSA_3072, Mechanism.ECDSA, "sha256", 32),
        (KeyAlgorithm.RSA_3072, Mechanism.RSA_PKCS1, "sha256", 0),
    ],
)
def test_refuses_what_does_not_fit(
    token: Token,
    algorithm: KeyAlgorithm,
    mechanism: Mechanism,
    hash_algorithm: str,
    length: int,
) -> None:
    key = _key(token, algorithm)
    with pytest.raises(InvalidInputError):
        token.sign(key.id, mechanism, hash_algorithm, bytes(length))


@pytest.mark.parametrize("key_id", [b"", b"unknown", bytes(255)])
def test_unknown_keys(token: Token, key_id: bytes) -> None:
    with pytest.raises(NotFoundError):
        token.sign(key_id, Mechanism.ECDSA, "sha256", bytes(32))


@pytest.mark.parametrize("label", ["", "x" * 65, "line\nbreak"])
def test_refuses_labels(token: Token, label: str) -> None:
    with pytest.raises(InvalidInputError):
        token.generate_key(KeyAlgorithm.EC_P256, label)


def test_refuses_a_second_token_of_the_module(token: Token, softhsm_token: SoftHsmToken) -> None:
    with pytest.raises(InternalError):
        Token.open(softhsm_token.uri)
    assert token.list_keys() is not None


def test_can_be_opened_again(softhsm_token: SoftHsmToken) -> None:
    for _ in range(3):
        with Token.open(softhsm_token.uri) as opened:
            opened.list_keys()


def test_absent_token(softhsm_token: SoftHsmToken) -> None:
    with pytest.raises(UnavailableError, match="No token"):
        Token.open(replace(softhsm_token.uri, token="another"))
    with pytest.raises(UnavailableError, match="No token"):
        Token.open(replace(softhsm_token.uri, serial="0"))


def test_unusable_module(softhsm_token: SoftHsmToken, tmp_path: Path) -> None:
    garbage = tmp_path / "module.so"
    garbage.write_bytes(b"not a library")
    for module in (tmp_path / "missing.so", garbage):
        with pytest.raises(ConfigurationError, match="cannot be loaded"):
            Token.open(replace(softhsm_token.uri, module_path=module))
    with pytest.raises(ConfigurationError, match="module-path"):
        Token.open(replace(softhsm_token.uri, module_path=None))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o700, 0o660])
def test_pin_file_of_others(tmp_path: Path, mode: int) -> None:
    pin = tmp_path / "pin"
    pin.write_text("canary-pin")
    pin.chmod(mode)
    with pytest.raises(ConfigurationError, match="by others") as refusal:
        read_pin(pin)
    assert "canary" not in str(refusal.value)
    assert "chmod 0600" in refusal.value.advice


@pytest.mark.parametrize(
    ("content", "pin"),
    [(b"1234", "1234"), (b"12 34\n", "12 34"), (b"1234\r\n", "1234"), ("pön".encode(), "pön")],
)
def test_pin_files(tmp_path: Path, content: bytes, pin: str) -> None:
    file = tmp_path / "pin"
    file.write_bytes(content)
    for mode in (0o600, 0o400):
        file.chmod(mode)
        assert read_pin(file) == pin


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"canary\nline", b"canary\xff", b"canary\0", b"canary" * 50],
    ids=["empty", "blank", "two lines", "not UTF-8", "NUL", "long"],
)
def test_unusable_pin_files(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "pin"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(ConfigurationError, match="printable bytes") as refusal:
        read_pin(file)
    assert "canary" not in str(refusal.value)
    assert refusal.value.__context__ is None  # it would carry the PIN into a traceback


def test_pin_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        read_pin(tmp_path / "missing")
    with pytest.raises(ConfigurationError, match="not a regular file"):
        read_pin(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigurationError, match="not a regular file"):
        read_pin(tmp_path / "pipe")  # and does not wait for a writer


def test_refusals_are_remembered_until_the_pin_changes(tmp_path: Path) -> None:
    record = tmp_path / "pin.refused"
    PinRefusals(record).remember("1234")
    with pytest.raises(KeyStoreError, match="not offered again"):
        PinRefusals(record).check("1234")  # as after a restart
    PinRefusals(record).check("12345")
    assert record.stat().st_mode & 0o777 == 0o600
    assert b"1234" not in record.read_bytes()
    PinRefusals(record).forget()
    PinRefusals(record).check("1234")


def test_refusals_need_a_folder(softhsm_token: SoftHsmToken, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="record of refused PINs"):
        Token.open(softhsm_token.uri, state_folder=tmp_path / "missing")
    with Token.open(softhsm_token.uri, state_folder=tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_refusals_on_a_full_disk(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    refusals = PinRefusals(folder / "pin.refused")
    folder.rmdir()
    refusals.remember("1234")
    with pytest.raises(KeyStoreError, match="not offered again"):
        refusals.check("1234")
