"""A token that fails, through the shim: what is repeated, what is not, and how often the PIN goes
out (guarantee G6)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos import shim as ckr
from tests.chaos.shim import Shim, Signature
from tests.softhsm import SoftHsmToken

from sealwright.errors import KeyStoreError, SealwrightError, UnavailableError
from sealwright.keystores import pkcs11
from sealwright.keystores.faults import SignatureUncertainError
from sealwright.keystores.pins import read_pin
from sealwright.keystores.pkcs11 import KeyInfo, Token
from sealwright.model.mechanism import KeyAlgorithm, Mechanism

pytestmark = pytest.mark.chaos

_DIGEST = hashlib.sha256(b"what is signed").digest()
_DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


@pytest.fixture
def pin_file(softhsm_token: SoftHsmToken, tmp_path: Path) -> Path:
    """The token's PIN in a file that a test may change."""
    file = tmp_path / "pin"
    _write_pin(file, read_pin(softhsm_token.pin_file))
    return file


@pytest.fixture
def environment(shim: Shim, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in shim.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def token(shim: Shim, environment: None, pin_file: Path) -> Iterator[Token]:
    with Token.open(shim.uri, pin_file=pin_file) as opened:
        yield opened


@pytest.fixture
def key(token: Token) -> KeyInfo:
    return token.generate_key(KeyAlgorithm.EC_P256, "chaos")


def _write_pin(file: Path, pin: str) -> None:
    file.write_text(pin)
    file.chmod(0o600)


def _sign(token: Token, key: KeyInfo) -> bytes:
    return token.sign(key.id, Mechanism.ECDSA, "sha256", _DIGEST)


def test_every_signature_is_counted(token: Token, key: KeyInfo, shim: Shim) -> None:
    rsa = token.generate_key(KeyAlgorithm.RSA_3072, "chaos")
    assert shim.count() == 0
    token.sign(rsa.id, Mechanism.RSA_PKCS1, "sha256", _DIGEST)
    token.sign(rsa.id, Mechanism.RSA_PSS, "sha256", _DIGEST)
    _sign(token, key)
    assert shim.signatures() == [
        Signature(ckr.CKM_RSA_PKCS, _DIGEST_INFO + _DIGEST),
        Signature(ckr.CKM_RSA_PKCS_PSS, _DIGEST),
        Signature(ckr.CKM_ECDSA, _DIGEST),
    ]
    assert shim.logins() == 1


@pytest.mark.parametrize("function", ["C_SignInit", "C_Sign"])
@pytest.mark.parametrize("code", [ckr.SESSION_HANDLE_INVALID, ckr.USER_NOT_LOGGED_IN])
def test_a_lost_session_is_opened_anew_and_the_call_repeated(
    token: Token,
    key: KeyInfo,
    shim: Shim,
    function: str,
    code: int,
) -> None:
    shim.inject(function, code)
    assert _sign(token, key)
    assert (shim.count(), shim.logins()) == (1, 2)
    shim.inject(function, code)  # another incident, after a success
    assert _sign(token, key)
    assert (shim.count(), shim.logins()) == (2, 3)


@pytest.mark.parametrize(
    "code",
    [ckr.DEVICE_REMOVED, ckr.DEVICE_ERROR, ckr.SESSION_CLOSED, ckr.GENERAL_ERROR, 0x80000001],
)
@pytest.mark.parametrize("after", [False, True])
def test_a_lost_answer_is_reported_and_not_repeated(
    token: Token,
    key: KeyInfo,
    shim: Shim,
    code: int,
    *,
    after: bool,
) -> None:
    shim.inject("C_Sign", code, after=after)
    with pytest.raises(SignatureUncertainError):
        _sign(token, key)
    assert shim.count() == int(after)
    assert _sign(token, key)
    assert (shim.count(), shim.logins()) == (1 + int(after), 2)


def test_one_login_per_incident(
    token: Token,
    key: KeyInfo,
    shim: Shim,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shim.inject("C_Sign", ckr.DEVICE_REMOVED, times=20)
    with pytest.raises(SignatureUncertainError):
        _sign(token, key)
    with pytest.raises(SignatureUncertainError):
        _sign(token, key)  # after the one log-in
    for _ in range(10):
        with pytest.raises(UnavailableError, match="not repeated yet"):
            _sign(token, key)
    assert (shim.count(), shim.logins()) == (0, 2)
    shim.clear()
    monkeypatch.setattr(token, "_next_login", 0.0)  # the pause is over
    assert _sign(token, key)
    assert (shim.count(), shim.logins()) == (1, 3)


def test_a_removed_token_is_waited_for(
    token: Token,
    key: KeyInfo,
    shim: Shim,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pkcs11, "LOGIN_PAUSE", 0.0)
    shim.inject("C_Sign", ckr.SESSION_HANDLE_INVALID)
    shim.inject("C_OpenSession", ckr.TOKEN_NOT_PRESENT, times=100)
    for _ in range(5):
        with pytest.raises(UnavailableError):
            _sign(token, key)
    assert (shim.count(), shim.logins()) == (0, 1)  # the PIN is not offered to an absent token
    shim.clear()
    assert _sign(token, key)
    assert (shim.count(), shim.logins()) == (1, 2)


def test_a_full_token_keeps_its_session(token: Token, key: KeyInfo, shim: Shim) -> None:
    shim.inject("C_Sign", ckr.DEVICE_MEMORY)
    with pytest.raises(UnavailableError):
        _sign(token, key)
    assert _sign(token, key)
    assert (shim.count(), shim.logins()) == (1, 1)


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.EC_P256, KeyAlgorithm.RSA_3072])
def test_a_wrong_signature_is_never_released(
    token: Token,
    shim: Shim,
    algorithm: KeyAlgorithm,
) -> None:
    key = token.generate_key(algorithm, "spoiled")
    mechanism = Mechanism.RSA_PSS if algorithm is KeyAlgorithm.RSA_3072 else Mechanism.ECDSA
    shim.spoil()
    with pytest.raises(KeyStoreError, match="does not verify"):
        token.sign(key.id, mechanism, "sha256", _DIGEST)
    assert token.sign(key.id, mechanism, "sha256", _DIGEST)
    assert shim.count() == 2


@pytest.mark.usefixtures("environment")
def test_simultaneous_opening_is_repeated_before_the_pin_goes_out(
    shim: Shim,
    pin_file: Path,
) -> None:
    shim.inject("C_OpenSession", ckr.GENERAL_ERROR, times=3)
    with Token.open(shim.uri, pin_file=pin_file):
        assert shim.logins() == 1
    shim.inject("C_OpenSession", ckr.GENERAL_ERROR, times=100)
    with pytest.raises(UnavailableError):
        Token.open(shim.uri, pin_file=pin_file)
    assert shim.logins() == 1


@pytest.mark.usefixtures("environment")
def test_a_wrong_pin_is_offered_once(
    shim: Shim,
    pin_file: Path,
    softhsm_token: SoftHsmToken,
) -> None:
    right = read_pin(pin_file)
    _write_pin(pin_file, "canary-wrong")
    for _ in range(4):
        with pytest.raises(KeyStoreError) as refusal:
            Token.open(shim.uri, pin_file=pin_file)
        assert "canary" not in f"{refusal.value}{refusal.value.__cause__!r}"
    assert shim.logins() == 1
    _write_pin(pin_file, "canary-wrong\n")  # the same PIN
    with pytest.raises(KeyStoreError):
        Token.open(shim.uri, pin_file=pin_file)
    assert shim.logins() == 1
    _write_pin(pin_file, right)
    with Token.open(shim.uri, pin_file=pin_file):
        assert shim.logins() == 2


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("code", [ckr.PIN_INCORRECT, ckr.PIN_LOCKED])
def test_a_pin_refused_during_an_incident_is_not_offered_again(
    shim: Shim,
    pin_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
) -> None:
    monkeypatch.setattr(pkcs11, "LOGIN_PAUSE", 0.0)
    with Token.open(shim.uri, pin_file=pin_file) as token:
        key = token.generate_key(KeyAlgorithm.EC_P256, "chaos")
        shim.inject("C_Sign", ckr.SESSION_HANDLE_INVALID)
        shim.inject("C_Login", code)
        for _ in range(4):
            with pytest.raises(KeyStoreError):
                _sign(token, key)
        assert (shim.count(), shim.logins()) == (0, 2)
    with pytest.raises(KeyStoreError, match="not offered again"):
        Token.open(shim.uri, pin_file=pin_file)
    assert shim.logins() == 2


@pytest.mark.parametrize("code", [ckr.DEVICE_ERROR, ckr.GENERAL_ERROR])
def test_a_failing_login_is_no_refusal(
    shim: Shim,
    environment: None,
    pin_file: Path,
    code: int,
) -> None:
    shim.inject("C_Login", code)
    with pytest.raises(UnavailableError):
        Token.open(shim.uri, pin_file=pin_file)
    with Token.open(shim.uri, pin_file=pin_file):
        assert shim.logins() == 2


def test_no_code_goes_unexplained(token: Token, key: KeyInfo, shim: Shim) -> None:
    """A code, known or not, becomes an error with advice, or the call is repeated."""
    unexplained = []
    for code in (*range(1, 0x202, 3), 0x80000000):
        shim.inject("C_Sign", code)
        token._next_login = 0.0
        try:
            _sign(token, key)
        except SealwrightError as error:
            unexplained += [code] * (not error.advice)
    assert not unexplained
