"""A PKCS#11 token (version 2.40): its keys, and signatures made with them.

python-pkcs11 initializes the module without locking and releases the interpreter lock in every
call, so a `Token` belongs to one process with one thread, and a process holds one `Token` of a
module at a time. `signer.sessions` runs several such processes.

Keys are generated on the token and never leave it. Every signature is verified in software before
it is returned: a faulty RSA-CRT computation must not leave the process, it would give the key away.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pkcs11
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from pkcs11 import Attribute, KeyType, MechanismFlag, ObjectClass
from pkcs11 import Mechanism as CryptokiMechanism
from pkcs11.exceptions import PKCS11Error
from pkcs11.util.ec import decode_ec_private_key, decode_ec_public_key
from pkcs11.util.rsa import decode_rsa_private_key, decode_rsa_public_key

from sealwright.errors import (
    ConfigurationError,
    InternalError,
    InvalidInputError,
    KeyStoreError,
    NotFoundError,
    SealwrightError,
    UnavailableError,
)
from sealwright.keystores import faults
from sealwright.keystores.pins import PinRefusals, locked_pin
from sealwright.keystores.uri import Pkcs11Uri
from sealwright.model.mechanism import KeyAlgorithm, Mechanism

T = TypeVar("T")
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

#: While a token keeps losing its session, log-ins are this many seconds apart.
LOGIN_PAUSE = 15.0
#: Two processes that open a token at the same instant can see CKR_GENERAL_ERROR.
_OPEN_ATTEMPTS = 5
_OPEN_PAUSE = 0.05
_MAX_KEYS = 10_000
_MAX_LABEL = 64
_SIGNATURE_BUFFER = 1024  # RSA-8192


@dataclass(frozen=True)
class _Hash:
    algorithm: hashes.HashAlgorithm
    digest_info: bytes  # DER of DigestInfo up to the digest (RFC 8017, 9.2, note 1)
    mechanism: CryptokiMechanism
    mgf: pkcs11.MGF


_HASHES = {
    "sha256": _Hash(
        hashes.SHA256(),
        bytes.fromhex("3031300d060960864801650304020105000420"),
        CryptokiMechanism.SHA256,
        pkcs11.MGF.SHA256,
    ),
    "sha384": _Hash(
        hashes.SHA384(),
        bytes.fromhex("3041300d060960864801650304020205000430"),
        CryptokiMechanism.SHA384,
        pkcs11.MGF.SHA384,
    ),
    "sha512": _Hash(
        hashes.SHA512(),
        bytes.fromhex("3051300d060960864801650304020305000440"),
        CryptokiMechanism.SHA512,
        pkcs11.MGF.SHA512,
    ),
}

_IMPORTED_RSA_BITS = frozenset({2048, 3072, 4096})
_IMPORTED_CURVES = frozenset({"secp256r1", "secp384r1"})
_RSA_BITS = {KeyAlgorithm.RSA_3072: 3072, KeyAlgorithm.RSA_4096: 4096}
#: DER of the named curve (CKA_EC_PARAMS; RFC 5480, 2.1.1.1) -> curve.
_CURVES: dict[bytes, ec.EllipticCurve] = {
    bytes.fromhex("06082a8648ce3d030107"): ec.SECP256R1(),
    bytes.fromhex("06052b81040022"): ec.SECP384R1(),
    bytes.fromhex("06052b81040023"): ec.SECP521R1(),
}
_CURVE_NAMES = {"secp256r1": "ec-p256", "secp384r1": "ec-p384", "secp521r1": "ec-p521"}
_EC_PARAMETERS = {
    KeyAlgorithm.EC_P256: bytes.fromhex("06082a8648ce3d030107"),
    KeyAlgorithm.EC_P384: bytes.fromhex("06052b81040022"),
}


@dataclass(frozen=True)
class KeyInfo:
    """A key pair on a token, as far as it is public.

    Attributes:
        id: CKA_ID, raw bytes; what `Token.sign` takes.
        label: CKA_LABEL.
        algorithm: ``rsa-3072``, ``ec-p256``, ...: a `KeyAlgorithm` if it was generated here.
        public_key: DER of the SubjectPublicKeyInfo.
        exposed: the token does not vouch that the private key was made on it and has never been
            readable (CKA_ALWAYS_SENSITIVE and CKA_NEVER_EXTRACTABLE).
        readable: the token would let the private key out now (not CKA_SENSITIVE, or
            CKA_EXTRACTABLE).
    """

    id: bytes
    label: str
    algorithm: str
    public_key: bytes
    exposed: bool
    readable: bool


@dataclass(frozen=True)
class _Key:
    info: KeyInfo
    public: PublicKey
    private: Any  # pkcs11.PrivateKey with SignMixin, a class made at run time


class Token:
    """A logged-in session on one token. Not thread-safe; see the module's text.

    A session that was lost is opened anew by the next call, with one log-in. Until a call has
    succeeded again, further log-ins are `LOGIN_PAUSE` seconds apart, and calls in between raise
    UnavailableError at once.
    """

    _modules_in_use: set[str] = set()  # noqa: RUF012 - the process-wide state of loaded modules

    def __init__(self, uri: Pkcs11Uri, module: Path, pin_file: Path, refusals: PinRefusals) -> None:
        """Use `open` instead."""
        self._uri = uri
        self._module = module
        self._pin_file = pin_file
        self._refusals = refusals
        self._library: Any = None  # pkcs11.lib
        self._session: pkcs11.Session | None = None
        self._keys: dict[bytes, _Key] = {}
        self._next_login = 0.0  # time.monotonic(); 0 outside an incident

    @classmethod
    def open(
        cls, uri: Pkcs11Uri, *, pin_file: Path | None = None, state_folder: Path | None = None
    ) -> Token:
        """Load the module, find the token and log in.

        Args:
            uri: names the token (token, serial, manufacturer, model) and the module (module-path).
            pin_file: instead of the URI's ``pin-source``.
            state_folder: where a refused PIN is remembered (writable); by default the PIN file's.

        Raises:
            ConfigurationError: module, PIN file or URI are unusable, or several tokens match.
            KeyStoreError: the token refused the PIN, now or before.
            UnavailableError: the token is absent or out of order.
        """
        pin_path = pin_file or uri.pin_source
        if uri.module_path is None or pin_path is None:
            message = "The token's URI lacks 'module-path', or it has no PIN file."
            raise ConfigurationError(
                message,
                advice="Give both, like '?module-path=/path/module.so&pin-source=file:/path/pin'.",
            )
        module = uri.module_path
        if os.path.realpath(module) in cls._modules_in_use:
            message = f"This process has a token of {module} open already."
            raise InternalError(message)
        record = (state_folder or pin_path.parent) / f"{pin_path.name}.refused"
        token = cls(uri, module, pin_path, PinRefusals(record))
        cls._modules_in_use.add(os.path.realpath(module))
        try:
            token._open_session()
        except BaseException:
            token.close()
            raise
        return token

    def close(self) -> None:
        """End the session, and with it the log-in, and finalize the module."""
        self._drop_session()
        self._modules_in_use.discard(os.path.realpath(self._module))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def list_keys(self) -> list[KeyInfo]:
        """List the key pairs that can sign, by label: RSA and NIST curves with a public key."""
        found = self._perform("list its keys", self._find_keys)
        return sorted((key.info for key in found), key=lambda info: (info.label, info.id))

    def key(self, key_id: bytes) -> KeyInfo:
        """Describe one key pair. Raises NotFoundError."""
        return self._perform("find the key", lambda session: self._key(session, key_id)).info

    def generate_key(self, algorithm: KeyAlgorithm, label: str) -> KeyInfo:
        """Generate a key pair on the token: private, sensitive, not extractable, for signing only.

        Processes that share a token must generate one after another, or they may not see each
        other's new keys until they open the token again.

        Raises:
            KeyStoreError: the token refused, or made a key that it would let out (it is destroyed).
        """
        _check_label(label)
        key_id = secrets.token_bytes(16)
        return self._perform(
            "generate a key", lambda session: self._generate(session, algorithm, label, key_id)
        )

    def import_key(self, pkcs8: bytes, label: str) -> KeyInfo:
        """Put a private key that was made elsewhere on the token, from where it does not come back.

        It is private, sensitive, not extractable and for signing only, like a generated one, and
        `KeyInfo.exposed` stays set for good.

        Args:
            pkcs8: DER of an unencrypted PrivateKeyInfo (RFC 5208), RSA, P-256 or P-384.

        Raises:
            InvalidInputError: another kind of key.
            KeyStoreError: the token takes no keys from outside.
        """
        _check_label(label)
        material = _key_material(pkcs8)
        key_id = secrets.token_bytes(16)
        return self._perform(
            "take a key from outside",
            lambda session: self._import(session, material, label, key_id),
        )

    def sign(
        self, key_id: bytes, mechanism: Mechanism, hash_algorithm: str, digest: bytes
    ) -> bytes:
        """Sign a digest.

        Args:
            key_id: CKA_ID of the key pair.
            hash_algorithm: ``sha256``, ``sha384`` or ``sha512``.
            digest: raw bytes of that length.

        Returns:
            The raw RSA signature (modulus length), or the DER of the ECDSA-Sig-Value.

        Raises:
            InvalidInputError: digest, hash algorithm, mechanism and key do not go together.
            NotFoundError: there is no such key.
            SignatureUncertainError: the answer was lost; a signature may exist on the token's side.
            KeyStoreError: the token refused, or its signature does not verify.
            UnavailableError: the token is away; nothing was signed.
        """
        hash_ = _HASHES.get(hash_algorithm)
        if hash_ is None or len(digest) != hash_.algorithm.digest_size:
            message = f"A digest of {len(digest)} bytes is not one of {hash_algorithm[:20]!r}."
            raise InvalidInputError(message)
        return self._perform(
            "sign",
            lambda session: _sign(self._key(session, key_id), mechanism, hash_, digest),
            faults.translate_signing,
        )

    def _perform(
        self,
        doing: str,
        action: Callable[[pkcs11.Session], T],
        translate: Callable[[PKCS11Error, str], SealwrightError] = faults.translate,
    ) -> T:
        """Run `action`; where a lost session kept it from being carried out, once more."""
        for repeated in (False, True):
            session = self._session or self._reopen_session()
            try:
                result = action(session)
            except PKCS11Error as error:
                if not faults.keeps_session(error):
                    self._drop_session()
                if repeated or not isinstance(error, faults.NOT_EXECUTED):
                    raise translate(error, doing) from error
            else:
                self._next_login = 0.0
                return result
        raise AssertionError

    def _reopen_session(self) -> pkcs11.Session:
        now = time.monotonic()
        if now < self._next_login:
            message = "The token lost its session again; the log-in is not repeated yet."
            raise UnavailableError(
                message,
                advice=f"Check the token; it is tried again in {self._next_login - now:.0f} s.",
            )
        self._next_login = now + LOGIN_PAUSE
        return self._open_session()

    def _drop_session(self) -> None:
        """Finalize the module, which ends its sessions and log-ins however broken they are."""
        self._session = None
        self._keys.clear()
        if self._library is not None:
            with contextlib.suppress(PKCS11Error):
                self._library.finalize()

    def _open_session(self) -> pkcs11.Session:
        with locked_pin(self._pin_file) as pin:
            self._refusals.check(pin)
            try:
                token = self._find_token()
                self._check_pin_state(token)
                self._session = token.open(user_pin=pin)
            except PKCS11Error as error:
                self._drop_session()
                if isinstance(error, faults.PIN_REFUSED):
                    self._refusals.remember(pin)
                raise faults.translate(error, "be opened") from error
            self._refusals.forget()
        return self._session

    def _find_token(self) -> pkcs11.Token:
        """Find the one token that the URI names and prove that it opens sessions, before the PIN
        is offered."""
        for attempt in range(_OPEN_ATTEMPTS):
            try:
                token = self._match(list(self._initialize().get_tokens()))
                token.open().close()
            except pkcs11.GeneralError:
                if attempt == _OPEN_ATTEMPTS - 1:
                    raise
                self._drop_session()
                time.sleep(_OPEN_PAUSE * 2**attempt)
            else:
                return token
        raise AssertionError

    def _initialize(self) -> Any:
        try:
            self._library = pkcs11.lib(str(self._module))
        except PKCS11Error as error:
            if type(error) is not PKCS11Error or self._library is not None:
                raise
            message = f"The PKCS#11 module {self._module} cannot be loaded."
            raise ConfigurationError(  # what python-pkcs11 makes of a failing dlopen
                message,
                advice="Check 'module-path' and that the module's own libraries are installed.",
            ) from error
        return self._library

    def _match(self, tokens: list[pkcs11.Token]) -> pkcs11.Token:
        wanted = self._uri
        matching = [
            token
            for token in tokens
            if wanted.token in (None, token.label)
            and wanted.serial in (None, token.serial.decode("ascii", "replace"))
            and wanted.manufacturer in (None, token.manufacturer_id)
            and wanted.model in (None, token.model)
            and pkcs11.TokenFlag.TOKEN_INITIALIZED in token.flags
        ]
        if not matching:
            message = f"No token of {self._module} is {wanted}."
            raise UnavailableError(message, advice="Check that it is connected, and the URI.")
        if len(matching) > 1:
            message = f"{len(matching)} tokens of {self._module} are {wanted}."
            raise ConfigurationError(message, advice="Add the token's 'serial' to the URI.")
        return matching[0]

    @staticmethod
    def _check_pin_state(token: pkcs11.Token) -> None:
        if pkcs11.TokenFlag.USER_PIN_LOCKED in token.flags:
            message = "The token's user PIN is locked."
            raise KeyStoreError(message, advice="Unlock it with the security officer's PIN.")
        if pkcs11.TokenFlag.USER_PIN_FINAL_TRY in token.flags:
            message = "One more wrong PIN would lock the token, so the log-in is not tried."
            raise KeyStoreError(
                message,
                advice="Log in once by hand with the right PIN ('pkcs11-tool --login').",
            )

    def _find_keys(self, session: pkcs11.Session) -> list[_Key]:
        found: list[_Key] = []
        privates = session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})
        for index, private in enumerate(list(privates)):
            if index == _MAX_KEYS:
                message = f"The token holds more than {_MAX_KEYS} private keys."
                raise KeyStoreError(message, advice="Use a token of its own for Sealwright.")
            key = _describe(session, private)
            if key is not None:
                found.append(key)
        return found

    def _key(self, session: pkcs11.Session, key_id: bytes) -> _Key:
        known = self._keys.get(key_id)
        if known is not None:
            return known
        attributes = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: key_id}
        privates = list(session.get_objects(attributes)) if key_id else []
        if not privates:
            message = f"The token has no private key with the id {key_id[:32].hex()}."
            raise NotFoundError(message, advice="List the token's keys.")
        key = _describe(session, privates[0])
        if len(privates) > 1 or key is None:
            message = (
                f"The key {key_id[:32].hex()} cannot be used: it is not unique, not for signing, "
                "of an unsupported type, or its public key is not on the token."
            )
            raise KeyStoreError(
                message,
                advice="Give each key pair a CKA_ID of its own and keep its public key object.",
            )
        self._keys[key_id] = key
        return key

    def _generate(
        self, session: pkcs11.Session, algorithm: KeyAlgorithm, label: str, key_id: bytes
    ) -> KeyInfo:
        writable = session.token.open(rw=True)  # shares the log-in; the lasting one is read-only
        try:
            # Tokens that keep their objects in files, as SoftHSM does, notice what other processes
            # have added when they search, but not once they have written something themselves.
            list(writable.get_objects({Attribute.ID: key_id}))
            public, private = _generate_pair(writable, algorithm, label, key_id)
            key = _describe(writable, private)
            if key is None or key.info.exposed or key.info.algorithm != algorithm:
                private.destroy()
                public.destroy()
                message = "The token made a key that it would let out, and it has been destroyed."
                raise KeyStoreError(
                    message,
                    advice="Check the token's key policy: keys must be sensitive and not "
                    "extractable.",
                )
            return key.info
        finally:
            with contextlib.suppress(PKCS11Error):
                writable.close()

    def _import(
        self,
        session: pkcs11.Session,
        material: tuple[dict[Attribute, Any], dict[Attribute, Any]],
        label: str,
        key_id: bytes,
    ) -> KeyInfo:
        writable = session.token.open(rw=True)
        common = {Attribute.TOKEN: True, Attribute.ID: key_id, Attribute.LABEL: label}
        protected = {
            Attribute.PRIVATE: True,
            Attribute.SENSITIVE: True,
            Attribute.EXTRACTABLE: False,
            Attribute.SIGN: True,
        }
        try:
            list(writable.get_objects({Attribute.ID: key_id}))  # see `_generate`
            public_part, private_part = material
            public = writable.create_object(public_part | common | {Attribute.VERIFY: True})
            try:
                private = writable.create_object(private_part | common | protected)
            except PKCS11Error:
                public.destroy()
                raise
            key = _describe(writable, private)
            if key is None or _read(private, Attribute.EXTRACTABLE) is not False:
                private.destroy()
                public.destroy()
                message = "The token would let the key out again, and it has been removed."
                raise KeyStoreError(message, advice="Check the token's key policy.")
            return key.info
        finally:
            with contextlib.suppress(PKCS11Error):
                writable.close()


def _check_label(label: str) -> None:
    if not 1 <= len(label) <= _MAX_LABEL or not label.isprintable():
        message = f"A key's label needs 1 to {_MAX_LABEL} printable characters."
        raise InvalidInputError(message)


def _key_material(pkcs8: bytes) -> tuple[dict[Attribute, Any], dict[Attribute, Any]]:
    """Attributes of the public and of the private key object."""
    try:
        key = serialization.load_der_private_key(pkcs8, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size in _IMPORTED_RSA_BITS:
        der = key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.PKCS1
        )
        use = MechanismFlag.SIGN | MechanismFlag.VERIFY
        return decode_rsa_public_key(public, use), decode_rsa_private_key(der, use)
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _IMPORTED_CURVES:
        der = key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return decode_ec_public_key(public), decode_ec_private_key(der)
    message = "The key is neither RSA of 2048, 3072 or 4096 bits nor on P-256 or P-384."
    raise InvalidInputError(message, advice="Import a key of one of these kinds.")


def _sign(key: _Key, mechanism: Mechanism, hash_: _Hash, digest: bytes) -> bytes:
    """Sign on the token and verify in software."""
    prehashed = utils.Prehashed(hash_.algorithm)
    public = key.public
    try:
        match mechanism, public:
            case Mechanism.RSA_PKCS1, rsa.RSAPublicKey():
                encoded = hash_.digest_info + digest
                signature = _call(key, encoded, CryptokiMechanism.RSA_PKCS)
                public.verify(signature, digest, padding.PKCS1v15(), prehashed)
            case Mechanism.RSA_PSS, rsa.RSAPublicKey():
                parameters = (hash_.mechanism, hash_.mgf, len(digest))
                signature = _call(key, digest, CryptokiMechanism.RSA_PKCS_PSS, parameters)
                pss = padding.PSS(padding.MGF1(hash_.algorithm), len(digest))
                public.verify(signature, digest, pss, prehashed)
            case Mechanism.ECDSA, ec.EllipticCurvePublicKey():
                size = (public.curve.key_size + 7) // 8
                # Tokens differ in what they do with more than that; FIPS 186-5, 6.4.1 cuts.
                raw = _call(key, digest[:size], CryptokiMechanism.ECDSA)
                signature = _ecdsa_sig_value(raw, size)
                public.verify(signature, digest, ec.ECDSA(prehashed))
            case _:
                message = f"A key of type {key.info.algorithm} cannot sign with {mechanism}."
                raise InvalidInputError(message)
    except InvalidSignature as error:
        message = "The token returned a signature that does not verify; it has been discarded."
        raise KeyStoreError(
            message,
            advice="Take the token out of service and have it checked.",
        ) from error
    return signature


def _call(
    key: _Key, data: bytes, mechanism: CryptokiMechanism, parameters: tuple[Any, ...] | None = None
) -> bytes:
    signature: bytes = key.private.sign(
        data,
        mechanism=mechanism,
        mechanism_param=parameters,
        buffer_size=_SIGNATURE_BUFFER,
    )
    return signature


def _ecdsa_sig_value(raw: bytes, size: int) -> bytes:
    """DER of ECDSA-Sig-Value (RFC 3279, 2.2.3) from r || s (PKCS#11 2.40, 2.3.1)."""
    if len(raw) != 2 * size:
        raise InvalidSignature
    r, s = int.from_bytes(raw[:size]), int.from_bytes(raw[size:])
    return utils.encode_dss_signature(r, s)


def _generate_pair(
    session: pkcs11.Session, algorithm: KeyAlgorithm, label: str, key_id: bytes
) -> tuple[Any, Any]:
    options: dict[str, Any] = {
        "id": key_id,
        "label": label,
        "store": True,
        "capabilities": MechanismFlag.SIGN | MechanismFlag.VERIFY,
        "private_template": {
            Attribute.PRIVATE: True,
            Attribute.SENSITIVE: True,
            Attribute.EXTRACTABLE: False,
        },
    }
    if algorithm in _RSA_BITS:
        return session.generate_keypair(KeyType.RSA, _RSA_BITS[algorithm], **options)
    curve = {Attribute.EC_PARAMS: _EC_PARAMETERS[algorithm]}
    return session.create_domain_parameters(KeyType.EC, curve, local=True).generate_keypair(
        **options
    )


def _describe(session: pkcs11.Session, private: Any) -> _Key | None:
    """Read a private key object and its public key; None if we cannot sign with it."""
    key_id = _read(private, Attribute.ID) or b""
    usable = _read(private, Attribute.SIGN) and not _read(private, Attribute.ALWAYS_AUTHENTICATE)
    public = _public_key(session, private, key_id) if key_id and usable else None
    if public is None:
        return None
    vouched = _read(private, Attribute.ALWAYS_SENSITIVE) and _read(
        private, Attribute.NEVER_EXTRACTABLE
    )
    info = KeyInfo(
        id=key_id,
        label=_read(private, Attribute.LABEL) or "",
        algorithm=(
            f"rsa-{public.key_size}"
            if isinstance(public, rsa.RSAPublicKey)
            else _CURVE_NAMES[public.curve.name]
        ),
        public_key=public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        exposed=not vouched,
        readable=not _read(private, Attribute.SENSITIVE)
        or bool(_read(private, Attribute.EXTRACTABLE)),
    )
    return _Key(info, public, private)


def _public_key(session: pkcs11.Session, private: Any, key_id: bytes) -> PublicKey | None:
    """Read the public half: the public key object of that id, or an RSA private key's own
    attributes."""
    key_type = _read(private, Attribute.KEY_TYPE)
    attributes = {
        Attribute.CLASS: ObjectClass.PUBLIC_KEY,
        Attribute.ID: key_id,
        Attribute.KEY_TYPE: key_type,
    }
    try:
        if key_type is KeyType.RSA:
            source = next(iter(list(session.get_objects(attributes))), private)
            return rsa.RSAPublicNumbers(
                int.from_bytes(_read(source, Attribute.PUBLIC_EXPONENT) or b""),
                int.from_bytes(_read(source, Attribute.MODULUS) or b""),
            ).public_key()
        if key_type is KeyType.EC:
            for source in list(session.get_objects(attributes)):
                curve = _CURVES[_read(source, Attribute.EC_PARAMS)]
                return _point(curve, _read(source, Attribute.EC_POINT) or b"")
    except (ValueError, KeyError):  # a curve we do not use, or nonsense in the attributes
        return None
    return None


def _point(curve: ec.EllipticCurve, value: bytes) -> ec.EllipticCurvePublicKey:
    """CKA_EC_POINT: the DER of an OCTET STRING with the point, or on some tokens the bare point."""
    length = 1 + 2 * ((curve.key_size + 7) // 8)
    header = bytes((0x04, length)) if length < 0x80 else bytes((0x04, 0x81, length))
    point = value.removeprefix(header) if len(value) > length else value
    return ec.EllipticCurvePublicKey.from_encoded_point(curve, point)


def _read(item: Any, attribute: Attribute) -> Any:
    """Read one attribute; None where the token lacks, hides or garbles it."""
    try:
        return item[attribute]
    except (
        pkcs11.AttributeTypeInvalid,
        pkcs11.AttributeSensitive,
        pkcs11.FunctionFailed,
        ValueError,
    ):
        return None
